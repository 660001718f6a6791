-- One row per table: its loads since $1. Loads that compare are published ones of the newest load's strategy, which read
-- all that was pending. Medians, since one slow night is no trend.
with loads as (
    select
        l.source_system,
        l.table_name,
        l.strategy,
        l.started_at,
        l.status,
        l.volume,
        extract(epoch from l.finished_at - l.started_at)::double precision as seconds,
        greatest(extract(epoch from l.started_at - r.started_at), 0)::double precision as waited,
        l.rows_read,
        l.rows_inserted + l.rows_updated + coalesce(l.rows_deleted, 0) as rows_changed,
        l.rows_updated,
        coalesce(l.rows_deleted, 0) as rows_deleted,
        l.bytes,
        l.status = 'published'
        and l.strategy not in ('initial', 'reload')
        and l.reconciliation is distinct from 'incomplete' as is_whole
    from ops.loads as l
    left join ops.runs as r on l.run_id = r.run_id
    where
        l.started_at >= $1
        and l.finished_at is not null
        and l.strategy not in ('backfill', 'repair', 'replay', 'limited')
        and ($2::text is null or l.source_system = $2)
        and ($3::text is null or l.table_name = $3)
), newest as (
    select distinct on (source_system, table_name) source_system, table_name, strategy
    from loads
    where is_whole
    order by source_system, table_name, started_at desc
), compared as (
    select l.*, ntile(3) over (partition by l.source_system, l.table_name order by l.started_at) as third
    from loads as l
    inner join newest as n using (source_system, table_name, strategy)
    where l.is_whole
), figures as (
    select
        source_system,
        table_name,
        min(strategy) as strategy,
        count(*) as loads,
        extract(epoch from max(started_at) - min(started_at))::double precision / 86400 as days,
        percentile_cont(0.5) within group (order by seconds) as median_seconds,
        percentile_cont(0.95) within group (order by seconds) as p95_seconds,
        percentile_cont(0.5) within group (order by seconds) filter (where third = 1) as first_third,
        percentile_cont(0.5) within group (order by seconds) filter (where third = 3) as last_third,
        percentile_cont(0.5) within group (order by bytes / nullif(seconds, 0)) filter (
            where third = 1 and bytes > 0
        ) as first_speed,
        percentile_cont(0.5) within group (order by bytes / nullif(seconds, 0)) filter (
            where third = 3 and bytes > 0
        ) as last_speed,
        percentile_cont(0.5) within group (order by waited) as median_waited,
        percentile_cont(0.5) within group (order by rows_read) as rows_read,
        percentile_cont(0.95) within group (order by rows_changed) as rows_changed,
        percentile_cont(0.5) within group (order by bytes) as bytes,
        count(*) filter (where bytes > 0) as loads_with_bytes,
        sum(rows_updated)::bigint as updated,
        sum(rows_deleted)::bigint as deleted
    from compared
    group by 1, 2
), weekdays as (
    select source_system, table_name, jsonb_object_agg(weekday, median) as by_weekday
    from (
        select
            source_system,
            table_name,
            extract(isodow from started_at at time zone 'UTC')::integer as weekday,
            percentile_cont(0.5) within group (order by seconds) as median
        from compared
        group by 1, 2, 3
        having count(*) >= 3
    ) as w
    group by 1, 2
), failures as (
    select
        source_system,
        table_name,
        count(*) as attempts,
        count(*) filter (where status = 'failed') as failed,
        coalesce(sum(seconds) filter (where status = 'failed'), 0) as failed_seconds,
        count(*) filter (where status = 'failed' and coalesce(volume, 'small') = 'small') as failed_at_once,
        coalesce(
            sum(seconds) filter (where status = 'failed' and coalesce(volume, 'small') = 'small'), 0
        ) as failed_at_once_seconds,
        extract(epoch from max(started_at) - min(started_at))::double precision / 86400 as days_of_attempts
    from loads
    group by 1, 2
)
select
    x.source_system,
    x.table_name,
    coalesce(f.strategy, '') as strategy,
    coalesce(f.loads, 0) as loads,
    coalesce(f.days, x.days_of_attempts) as days,
    f.median_seconds,
    f.p95_seconds,
    f.first_third,
    f.last_third,
    f.first_speed,
    f.last_speed,
    coalesce(f.median_waited, 0) as median_waited,
    coalesce(f.rows_read, 0) as rows_read,
    coalesce(f.rows_changed, 0) as rows_changed,
    coalesce(f.bytes, 0) as bytes,
    coalesce(f.loads_with_bytes, 0) as loads_with_bytes,
    coalesce(f.updated, 0) as updated,
    coalesce(f.deleted, 0) as deleted,
    coalesce(w.by_weekday, '{}')::text as by_weekday,
    x.attempts,
    x.failed,
    x.failed_seconds,
    x.failed_at_once,
    x.failed_at_once_seconds,
    u.seconds as last_seconds,
    u.cpu_seconds,
    u.memory_bytes
from failures as x
left join figures as f using (source_system, table_name)
left join weekdays as w using (source_system, table_name)
left join ops.usage as u on u.kind = 'load' and u.scope = x.source_system and u.name = x.table_name
order by f.loads * f.median_seconds desc nulls last, 1, 2
