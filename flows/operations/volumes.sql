-- How many rows each table received on each day, and how many it usually does on that weekday.
-- $1: the last day that counts. $2: how many days are compared, up to that one. $3, $4, $5: source, table and day of
-- holidays, which are neither compared nor usual. Logarithms, because volumes grow and vary by factors; medians, because
-- single outliers must not move what is usual. A weekday has its own center, and all days together one spread: that of
-- eight days of one weekday varies too much by itself.
with holidays as (
    select * from unnest($3::text [], $4::text [], $5::date []) as h (source_system, table_name, day)
), days as (
    select
        source_system,
        table_name,
        (started_at at time zone 'UTC')::date as day,
        sum(coalesce(rows_inserted, 0) + coalesce(rows_updated, 0))::bigint as rows
    from ops.loads as l
    where
        status = 'published'
        and strategy not in ('initial', 'reload', 'backfill', 'repair', 'limited', 'replay')
        and started_at >= ($1::date - 70 - $2::integer)::timestamp at time zone 'UTC'
        and started_at < ($1::date + 1)::timestamp at time zone 'UTC'
        -- The day of a table's first load, and one that was read again from the beginning, say nothing of a usual day.
        and not exists (
            select from ops.loads as again
            where
                again.source_system = l.source_system
                and again.table_name = l.table_name
                and again.status = 'published'
                and again.strategy in ('initial', 'reload')
                and (again.started_at at time zone 'UTC')::date = (l.started_at at time zone 'UTC')::date
        )
    group by 1, 2, 3
), counted as (
    select
        d.*,
        ln(1 + d.rows) as size,
        extract(isodow from d.day)::integer as weekday
    from days as d
    where not exists (
        select from holidays as h
        where h.source_system = d.source_system and h.table_name = d.table_name and h.day = d.day
    )
    -- What a person accepted is usual from then on, and what was before is not any more.
    and not exists (
        select from ops.acceptances as a
        where
            a.source_system = d.source_system
            and a.table_name = d.table_name
            and a.column_name is null
            and coalesce(a.measure, 'volume') = 'volume'
            and a.since > d.day
    )
), earlier as (
    select
        c.*,
        array_agg(c.size) over ten_weeks as sizes,
        array_agg(c.weekday) over ten_weeks as weekdays,
        array_agg(c.day) over ten_weeks as past
    from counted as c
    window ten_weeks as (
        partition by c.source_system, c.table_name
        order by c.day range between '70 days' preceding and '1 day' preceding
    )
), compared as (
    select
        e.*,
        coalesce(center.known, 0) as known,
        center.median,
        -- 3 %: where every day has the same number of rows, one more is not unusual. Below 100 rows a count varies by
        -- its square root (Poisson) even if nothing changes: 3 rows may well be 5, or 8.
        greatest(
            1.4826 * spread.median, 0.03, case when center.median < ln(101) then 1 / sqrt(exp(center.median)) end
        ) as deviation,
        spread.is_never_empty
    from earlier as e
    cross join lateral (
        select
            count(*)::integer as known,
            percentile_cont(0.5) within group (order by b.size) as median
        from unnest(e.sizes, e.weekdays) as b (size, weekday)
        where b.weekday = e.weekday
    ) as center
    cross join lateral (
        select
            percentile_cont(0.5) within group (order by abs(b.size - m.median)) as median,
            -- No row at all, if there were some on each day of ten weeks, is not what is usual of few rows. Without the
            -- last two weeks: the second day without rows is as unusual as the first.
            bool_and(b.size > 0 or m.median = 0 or b.day >= e.day - 14) as is_never_empty
        from unnest(e.sizes, e.weekdays, e.past) as b (size, weekday, day)
        inner join (
            select o.weekday, percentile_cont(0.5) within group (order by o.size) as median
            from unnest(e.sizes, e.weekdays) as o (size, weekday)
            group by o.weekday
        ) as m on m.weekday = b.weekday
    ) as spread
    where e.day > $1::date - $2::integer
)
select
    source_system,
    table_name,
    day,
    rows,
    known,
    round(exp(median) - 1)::bigint as usual,
    greatest(round(exp(median - 4 * deviation) - 1), case when is_never_empty and median > 0 then 1 else 0 end)::bigint
        as lowest,
    round(exp(median + 4 * deviation) - 1)::bigint as highest,
    case
        when known < 8 then 'learning'
        when size < median - 4 * deviation or (rows = 0 and is_never_empty and median > 0) then 'low'
        when size > median + 4 * deviation then 'high'
        else 'usual'
    end as state
from compared
order by source_system, table_name, day
