-- The role that only the demo has: the application that writes the shop. Run after roles.sql, once for a cluster;
-- running it again changes nothing.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'shop_app') then
        create role shop_app login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
    end if;
end
$$;
