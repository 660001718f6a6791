-- The role of a Prefect server that keeps its database in this cluster. Run once for a cluster, in the database
-- `postgres`; running it again changes nothing. The role owns the database `prefect`, and may connect to no other.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'medallion_prefect') then
        create role medallion_prefect login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
    end if;
end
$$;
