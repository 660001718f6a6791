-- What the role that reviews pull requests may do: models nobody has read yet run as it. Run in the warehouse after
-- roles_warehouse.sql, by who ran that; running it again changes nothing.
--
-- It reads what it compares with. It may not create schemas, because whoever may could take a name such as raw_new
-- before the loader does; two functions of the transformer's make and drop schemas for it, pr_<name>__… and no others.
do $$
begin
    execute format('grant connect, temporary on database %I to medallion_reviewer', current_database());
end
$$;

-- What the loader and the transformer create later …
alter default privileges for role medallion_loader grant usage on schemas to medallion_reviewer;
alter default privileges for role medallion_loader grant select on tables to medallion_reviewer;
alter default privileges for role medallion_transformer grant select on tables to medallion_reviewer;

-- … and what is there: a warehouse may be older than this role. Rows that have not passed the checks are left out.
do $$
declare
    found text;
begin
    for found in
        select nspname from pg_catalog.pg_namespace
        where nspname in ('ops', 'quarantine', 'staging', 'silver', 'silver_quarantine', 'snapshots', 'gold', 'ml')
            or (nspname like 'raw\_%' and nspowner = 'medallion_loader'::regrole)
    loop
        execute format('grant usage on schema %I to medallion_reviewer', found);
        execute format('grant select on all tables in schema %I to medallion_reviewer', found);
    end loop;
end
$$;
revoke all on schema landing from medallion_reviewer;

set role medallion_transformer;

create schema if not exists reviews;
grant usage on schema reviews to medallion_reviewer;

-- The schema stays the transformer's: the reviewer can neither rename it nor let others look into it.
create or replace function reviews.open_schema(wanted text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if octet_length(wanted) > 63 or wanted !~ '^pr_[a-z0-9]+(_[a-z0-9]+)*__[a-z0-9]+(_[a-z0-9]+)*$' then
        raise exception 'a review may create schemas pr_<name>__<schema>, not %', quote_ident(wanted)
            using errcode = 'insufficient_privilege';
    end if;
    if exists (select from pg_namespace where nspname = wanted) then
        -- One of a review that the transformer runs itself is not handed over.
        if not has_schema_privilege('medallion_reviewer', wanted, 'create') then
            raise exception 'schema % is somebody else''s', quote_ident(wanted)
                using errcode = 'insufficient_privilege';
        end if;
        return;
    end if;
    execute format('create schema %I', wanted);
    execute format('grant usage, create on schema %I to medallion_reviewer', wanted);
end
$$;

create or replace function reviews.close_schemas(prefix text) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    opened text;
begin
    if prefix !~ '^pr_[a-z0-9]+(_[a-z0-9]+)*__$' then
        raise exception 'a review may drop schemas pr_<name>__<schema>, not %', quote_ident(prefix)
            using errcode = 'insufficient_privilege';
    end if;
    for opened in
        select nspname from pg_namespace
        where starts_with(nspname, prefix) and has_schema_privilege('medallion_reviewer', oid, 'create')
        order by nspname
    loop
        execute format('drop schema %I cascade', opened);
        return next opened;
    end loop;
end
$$;

revoke all on function reviews.open_schema(text), reviews.close_schemas(text) from public;
grant execute on function reviews.open_schema(text), reviews.close_schemas(text) to medallion_reviewer;

reset role;
