-- Runs of code before version 9 of schema ops: holders of advisory locks but for this session. $1 is the class of loads,
-- $2 that of their workers and of the transform, whose key is 0. Every role may take such locks, readers too: only
-- accounts that may read ops count. Reads nothing that earlier versions of schema ops lack.
with held as (
    select
        pid,
        classid::bigint as class,
        objid::bigint as key
    from pg_locks
    where
        locktype = 'advisory'
        and objsubid = 2
        and granted
        and database = (select oid from pg_database where datname = current_database())
        and pid <> pg_backend_pid()
        and (classid = $1::int::oid and objid <> 0::oid or classid = $2::int::oid)
),

running as (
    select
        source_system || '.' || table_name as name,
        (hashtext(source_system || '.' || table_name)::bigint + 4294967296) % 4294967296 as key,
        max(batch_id) as batch_id,
        max(started_at) as started_at
    from ops.loads
    where status = 'running'
    group by source_system, table_name
)

select
    held.pid,
    case when held.key = 0 then 'transform' else coalesce(running.name, activity.application_name, 'a load') end as what,
    running.batch_id,
    running.started_at
from held
left join running on held.key = running.key
inner join pg_stat_activity as activity on held.pid = activity.pid
where
    has_schema_privilege(activity.usesysid, 'ops', 'usage')
    and has_table_privilege(activity.usesysid, 'ops.loads', 'select')
order by what, held.pid
