-- What each role may do in the warehouse. Run in the warehouse database after roles.sql, by a superuser, or by the
-- database's owner who ran roles.sql; running it again changes nothing.

-- Since PostgreSQL 16 whoever creates a role may give it away, but not act as it: schemas could not be created in its
-- name. A superuser may act as any role, and gets no membership.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['medallion_loader', 'medallion_transformer'] loop
        if not pg_catalog.pg_has_role(wanted, 'set') or not pg_catalog.pg_has_role(wanted, 'usage') then
            execute format('grant %I to current_user with set true, inherit true', wanted);
        end if;
    end loop;
end
$$;

do $$
begin
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect, create, temporary on database %I to medallion_loader, medallion_transformer',
        current_database());
    execute format('grant connect on database %I to medallion_reader', current_database());
    -- What approvers may read and call is granted where it is made: flows/state/schema.sql.
    execute format('grant connect on database %I to medallion_approver', current_database());
end
$$;

revoke all on schema public from public;

-- Functions may be called by everybody unless it is said otherwise.
alter default privileges for role medallion_loader revoke execute on functions from public;
alter default privileges for role medallion_transformer revoke execute on functions from public;

-- Every role may take advisory locks and make large objects, as many as the server's lock table holds, which then is full
-- for all; large objects also fill the disk. Only a superuser may change that; elsewhere a role can do so.
do $$
declare
    called regprocedure;
begin
    for called in
        select oid from pg_catalog.pg_proc
        where
            pronamespace = 'pg_catalog'::regnamespace
            and proname ~ '^(pg_(try_)?advisory_|lo_|loread$|lowrite$)'
            and pg_catalog.pg_has_role(proowner, 'usage')
    loop
        execute format('revoke execute on function %s from public', called);
        execute format('grant execute on function %s to medallion_loader, medallion_transformer', called);
    end loop;
end
$$;

-- The loader's schemas. It creates raw_<source> itself, hence `create` on the database.
create schema if not exists ops authorization medallion_loader;
create schema if not exists quarantine authorization medallion_loader;
create schema if not exists landing authorization medallion_loader;

-- Whatever the loader creates later, the transformer may read, as no one could grant it in time by hand …
alter default privileges for role medallion_loader grant usage on schemas to medallion_transformer;
alter default privileges for role medallion_loader grant select on tables to medallion_transformer;
grant usage on schema ops, quarantine to medallion_transformer;
grant select on all tables in schema ops, quarantine to medallion_transformer;
-- … except rows that have not passed the checks.
revoke all on schema landing from medallion_transformer;

-- Approvers answer questions, also of a warehouse that is older than their role.
do $$
begin
    if to_regclass('ops.decisions') is not null then
        grant usage on schema ops to medallion_approver;
        grant select on ops.decisions to medallion_approver;
        grant execute on function ops.answer_decision(bigint, text, text, text, text) to medallion_approver;
    end if;
end
$$;

-- The transformer's schemas. dbt creates the schemas of stored test failures itself.
create schema if not exists staging authorization medallion_transformer;
create schema if not exists silver authorization medallion_transformer;
create schema if not exists silver_quarantine authorization medallion_transformer;
create schema if not exists snapshots authorization medallion_transformer;
create schema if not exists gold authorization medallion_transformer;
create schema if not exists ml authorization medallion_transformer;

-- Readers see gold, all of it, and nothing else.
-- Once: what somebody has revoked since is not given back.
do $$
begin
    if not has_schema_privilege('medallion_reader', 'gold', 'usage') then
        grant usage on schema gold to medallion_reader;
        grant select on all tables in schema gold to medallion_reader;
        alter default privileges for role medallion_transformer in schema gold
        grant select on tables to medallion_reader;
    end if;
end
$$;
