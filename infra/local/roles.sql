-- The roles of the platform, least privilege. Run once for a cluster, by a role with CREATEROLE; running it again
-- changes nothing. Then run roles_warehouse.sql in the warehouse. Passwords are set apart, so that none stands in a
-- file:
--     alter role medallion_loader password '…';
--
--   medallion_extractor    reads the sources, and sees since when their transactions run
--   medallion_loader       writes raw, operations and quarantine
--   medallion_transformer  reads those, writes staging, silver, gold and snapshots
--   medallion_reader       reads gold
--   medallion_reviewer     reads those, builds the models of a pull request in schemas of its own: roles_reviewer.sql
do $$
declare
    wanted text;
begin
    foreach wanted in array array[
        'medallion_extractor', 'medallion_loader', 'medallion_transformer', 'medallion_reader', 'medallion_reviewer'
    ] loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
            execute format('create role %I login nosuperuser nocreatedb nocreaterole noreplication nobypassrls', wanted);
        end if;
    end loop;
end
$$;

-- The upper bound of a load stays below the oldest open transaction of the source; without this the extractor
-- would see the start of its own transactions only, and rows committed late would be lost.
do $$
begin
    if not pg_catalog.pg_has_role('medallion_extractor', 'pg_read_all_stats', 'member') then
        grant pg_read_all_stats to medallion_extractor;
    end if;
exception
    -- Who may give it, differs between providers. A warehouse alone does not need it.
    when insufficient_privilege then
        raise notice 'pg_read_all_stats could not be granted to medallion_extractor by %', current_user
            using hint = 'Where sources are read in this cluster, let a role with ADMIN OPTION on it grant it.';
end
$$;

-- What nobody has read yet must not keep the warehouse busy, or a connection open, for ever.
alter role medallion_reviewer connection limit 8;
alter role medallion_reviewer set statement_timeout = '10min';
alter role medallion_reviewer set lock_timeout = '30s';
alter role medallion_reviewer set idle_in_transaction_session_timeout = '5min';
