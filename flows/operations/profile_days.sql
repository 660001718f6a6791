-- One row per column and day from the profiles of that day's loads, weighted by rows, for days that have none yet.
-- $1, $2: the first and the last day. Quantiles of several loads are averaged, each with its own: they describe the day
-- well enough to be compared with other days that were loaded alike.
with ordinary as (
    select
        p.*,
        (p.profiled_at at time zone 'UTC')::date as day
    from ops.profiles as p
    where
        p.profiled_at >= $1::date::timestamp at time zone 'UTC'
        and p.profiled_at < ($2::date + 1)::timestamp at time zone 'UTC'
        and p.strategy not in ('initial', 'reload', 'backfill', 'repair', 'limited', 'replay')
), missing as (
    select o.* from ordinary as o
    where
        not exists (
            select from ops.profile_days as d
            where d.source_system = o.source_system and d.table_name = o.table_name and d.day = o.day
        )
        -- As with volumes: a day on which the table was read from the beginning is no usual day.
        and not exists (
            select from ops.profiles as again
            where
                again.source_system = o.source_system
                and again.table_name = o.table_name
                and again.strategy in ('initial', 'reload')
                and (again.profiled_at at time zone 'UTC')::date = o.day
        )
), quantiles as (
    select source_system, table_name, day, column_name, array_agg(q::real order by place) as quantiles
    from (
        select m.source_system, m.table_name, m.day, m.column_name, u.place,
            sum(u.q::double precision * m.rows) / sum(m.rows) as q
        from missing as m
        cross join lateral unnest(m.quantiles) with ordinality as u (q, place)
        group by 1, 2, 3, 4, 5
    ) as each
    group by 1, 2, 3, 4
), shares as (
    select source_system, table_name, day, column_name, array_agg(share::real order by place) as shares
    from (
        select m.source_system, m.table_name, m.day, m.column_name, u.place, sum(u.share * m.rows) / sum(m.rows) as share
        from missing as m
        cross join lateral unnest(m.shares) with ordinality as u (share, place)
        group by 1, 2, 3, 4, 5
    ) as each
    group by 1, 2, 3, 4
), summed as (
    select
        source_system,
        table_name,
        day,
        column_name,
        max(kind) as kind,
        count(*) as loads,
        sum(rows) as rows,
        sum(null_share * rows) / sum(rows) as null_share,
        sum(distinct_values * rows) / sum(rows) as distinct_values
    from missing
    group by 1, 2, 3, 4
)
insert into ops.profile_days (
    source_system, table_name, day, column_name, kind, loads, rows, null_share, distinct_values, quantiles, shares
)
select
    s.source_system, s.table_name, s.day, s.column_name, s.kind, s.loads, s.rows, s.null_share, s.distinct_values,
    q.quantiles, h.shares
from summed as s
left join quantiles as q using (source_system, table_name, day, column_name)
left join shares as h using (source_system, table_name, day, column_name)
on conflict do nothing
