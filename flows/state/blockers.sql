-- Transactions of this database but for this one that keep tables of ours: idle for 10 s or more, or waited for by
-- somebody now. Without pg_read_all_stats nobody is told the state and the age of others' transactions: then only the
-- latter are seen. $1 are schemas to look into; all of ours when it is null.
with kept as (
    select
        locks.pid,
        array_agg(distinct namespace.nspname || '.' || class.relname) as relations
    from pg_locks as locks
    inner join pg_class as class on locks.relation = class.oid
    inner join pg_namespace as namespace on class.relnamespace = namespace.oid
    where
        locks.granted
        and locks.pid <> pg_backend_pid()
        and locks.database = (select oid from pg_database where datname = current_database())
        and namespace.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
        and class.relkind in ('r', 'p', 'v', 'm')
        and ($1::text[] is null or namespace.nspname = any($1))
    group by locks.pid
),

blocking as (
    select
        blocker as pid,
        array_agg(distinct waiting.pid) as waiting
    from (select distinct pid from pg_locks where not granted) as waiting
    cross join unnest(pg_blocking_pids(waiting.pid)) as blocker
    group by blocker
)

select
    kept.pid,
    activity.usename::text as role,
    activity.application_name as application,
    activity.state,
    activity.xact_start as since,
    kept.relations,
    coalesce(blocking.waiting, '{}') as waiting
from kept
inner join pg_stat_activity as activity on kept.pid = activity.pid
left join blocking on kept.pid = blocking.pid
where
    $1::text[] is not null
    or blocking.pid is not null
    or (
        activity.state like 'idle in transaction%'
        and activity.state_change < clock_timestamp() - interval '10 seconds'
    )
order by activity.xact_start, kept.pid
limit 20
