-- Sessions of this database but for this one that a lock on tables of the schema $1 has to wait for: those that hold a lock
-- of the modes $2, or wait for one, for whoever comes later queues behind them; and those that keep these waiting. Only the
-- table $3, if it is given. Who waits first, because ending that session lets the others go on.
with locks as (
    select
        locks.pid,
        locks.mode,
        locks.granted,
        namespace.nspname || '.' || class.relname as relation
    from pg_locks as locks
    inner join pg_class as class on locks.relation = class.oid
    inner join pg_namespace as namespace on class.relnamespace = namespace.oid
    where
        locks.pid <> pg_backend_pid()
        and locks.database = (select oid from pg_database where datname = current_database())
        and namespace.nspname = $1
        and class.relkind in ('r', 'p', 'v', 'm')
        and ($3::text is null or class.relname = $3)
),

strong as (
    select distinct pid from locks where mode = any($2::text[])
),

involved as (
    select pid from strong
    union
    select unnest(pg_blocking_pids(waiting.pid))
    from (select distinct pid from locks where not granted and pid in (select pid from strong)) as waiting
)

select
    activity.pid,
    activity.usename::text as role,
    activity.application_name as application,
    activity.state,
    activity.xact_start as since,
    array_agg(distinct locks.relation) as relations,
    max(locks.mode) filter (where not locks.granted) as wanted
from involved
inner join pg_stat_activity as activity on involved.pid = activity.pid
inner join locks on involved.pid = locks.pid
group by activity.pid, activity.usename, activity.application_name, activity.state, activity.xact_start
order by wanted nulls last, since, pid
limit 20
