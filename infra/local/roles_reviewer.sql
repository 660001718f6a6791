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

-- … and what is there: a warehouse may be older than this role. Rows that have not passed the checks are left out, and so
-- is `ops`: every load writes there, and whoever may name a table can queue for its strongest lock.
do $$
declare
    found text;
begin
    for found in
        select nspname from pg_catalog.pg_namespace
        where nspname in ('quarantine', 'staging', 'silver', 'silver_quarantine', 'snapshots', 'gold', 'ml')
            or (nspname like 'raw\_%' and nspowner = 'medallion_loader'::regrole)
    loop
        -- Once: what somebody has revoked since is not given back.
        continue when has_schema_privilege('medallion_reviewer', found, 'usage');
        execute format('grant usage on schema %I to medallion_reviewer', found);
        execute format('grant select on all tables in schema %I to medallion_reviewer', found);
    end loop;
end
$$;
revoke all on schema landing, ops from medallion_reviewer;
revoke all on all tables in schema landing, ops from medallion_reviewer;

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

-- What a review reads of `ops`: flows/state/dbt_manifests.py asks the same questions of the tables, as roles that may.
-- Bodies are read when they are called: the tables may come later.
create or replace function reviews.newest_build() returns table (run_id bigint, started_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if to_regclass('ops.dbt_manifests') is not null then
        return query
            select m.run_id, r.started_at
            from ops.dbt_manifests as m inner join ops.runs as r on m.run_id = r.run_id
            order by m.run_id desc limit 1;
    end if;
end
$$;

create or replace function reviews.read_manifest(wanted bigint) returns bytea
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (select m.manifest from ops.dbt_manifests as m where m.run_id = wanted);
end
$$;

create or replace function reviews.tables_changed_since(moment timestamptz) returns setof text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select distinct l.source_system || '.' || l.table_name as name
        from ops.loads as l
        where
            l.status = 'published' and l.finished_at > moment
            and coalesce(l.rows_inserted, 0) + coalesce(l.rows_updated, 0) + coalesce(l.rows_deleted, 0) > 0
        order by name;
end
$$;

revoke all on all functions in schema reviews from public;
grant execute on all functions in schema reviews to medallion_reviewer;

reset role;
