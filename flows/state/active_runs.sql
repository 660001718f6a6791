-- Runs of this version's code: holders of locks of tables and of the transform in ops.locks, and workers, who share the
-- row of their read.
select
    locks.pid,
    locks.name as what,
    running.batch_id,
    locks.taken_at as started_at
from ops.locks
left join lateral (
    select max(loads.batch_id) as batch_id
    from ops.loads
    where loads.status = 'running' and loads.source_system || '.' || loads.table_name = locks.name
) as running on true
where locks.pid <> pg_backend_pid() and not starts_with(locks.name, 'run ') and ops.is_held(locks.key, locks.pid, locks.account)
union all
select
    worker.pid,
    coalesce(activity.application_name, 'a load') as what,
    null as batch_id,
    null as started_at
from pg_locks as worker
left join pg_stat_activity as activity on worker.pid = activity.pid
where
    worker.relation = 'ops.reads'::regclass
    and worker.database = (select oid from pg_database where datname = current_database())
    and worker.mode = 'RowShareLock'
    and worker.granted
    and worker.pid <> pg_backend_pid()
    -- Whoever may read the table can take this lock by preparing a statement.
    and has_table_privilege(activity.usesysid, 'ops.reads', 'update')
order by what, pid
