-- The role that backs the cluster up: it may copy the cluster's files and follow its log, so it sees everything, as its
-- backups do. Run once for a cluster, in the database `postgres`, by a superuser; running it again changes nothing. Then give it a password, and let pg_hba.conf accept its `replication` connections.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'medallion_backup') then
        create role medallion_backup login nosuperuser nocreatedb nocreaterole replication nobypassrls;
    end if;
    alter role medallion_backup reset all;
    -- Where it asks how far the log is written. It may read no table.
    grant connect on database postgres to medallion_backup;
    -- How far its copy of the log has come, which the server tells nobody else.
    grant pg_read_all_stats to medallion_backup;
    -- Marks of `medallion backup point`.
    grant execute on function pg_catalog.pg_create_restore_point(text) to medallion_backup;
end
$$;
