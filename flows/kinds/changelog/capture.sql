-- What a source says of its log, our slot ($1) and our publication ($2): one row.
select
    current_setting('wal_level') as wal_level,
    pg_is_in_recovery() as standby,
    current_setting('server_version_num')::int as version,
    current_setting('max_slot_wal_keep_size') as kept_at_most,
    (select oid::bigint from pg_database where datname = current_database()) as database_id,
    (select rolreplication or rolsuper from pg_roles where rolname = current_user) as may_read,
    s.slot_name is not null as has_slot,
    s.database::text as slot_database,
    s.plugin::text as plugin,
    s.active_pid,
    s.wal_status,
    to_jsonb(s) ->> 'invalidation_reason' as invalidated,
    s.confirmed_flush_lsn::text as confirmed,
    case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn) end::bigint as retained,
    p.oid::bigint as publication_id,
    p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as publishes_all,
    p.pubviaroot as via_root
from (select) as one
left join pg_replication_slots as s on s.slot_name = $1
left join pg_publication as p on p.pubname = $2
