-- The role of a Prefect server that keeps its database in this cluster. Run once for a cluster, in the database
-- `postgres`; running it again changes nothing. The role owns the database `prefect`, and may connect to no other.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'medallion_prefect') then
        create role medallion_prefect login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
    end if;
    alter role medallion_prefect reset all;
    -- Runs report to it: a crowd of readers must not keep it from its database. Counted in `reserved_connections`.
    begin
        if exists (select from pg_catalog.pg_roles where rolname = 'pg_use_reserved_connections') then
            grant pg_use_reserved_connections to medallion_prefect;
        end if;
    exception
        when insufficient_privilege then
            raise notice 'pg_use_reserved_connections could not be granted by %', current_user
                using hint = 'Let a role with ADMIN OPTION on it grant it to medallion_prefect.';
    end;
end
$$;
