-- Each table with its last published load. The tables are found by leaps over the index: a year of loads is a million rows.
with recursive tables as (
    (
        select l.source_system, l.table_name from ops.loads as l
        order by l.source_system, l.table_name limit 1
    )
    union all
    select n.source_system, n.table_name
    from tables as t
    cross join lateral (
        select l.source_system, l.table_name from ops.loads as l
        where (l.source_system, l.table_name) > (t.source_system, t.table_name)
        order by l.source_system, l.table_name limit 1
    ) as n
),
chosen as (
    -- Declared tables come first, so that one that was withdrawn never takes the place of one that is loaded.
    select
        t.source_system,
        t.table_name,
        count(*) over () as known
    from tables as t
    order by t.source_system || '.' || t.table_name = any($1::text []) desc, t.source_system, t.table_name
    limit $2
)
select
    t.source_system as source,
    t.table_name as table,
    t.known,
    l.rows_read,
    l.rows_inserted,
    l.rows_updated,
    l.rows_unchanged,
    l.rows_deduplicated,
    l.rows_quarantined,
    l.rows_deleted,
    l.bytes,
    l.source_rows,
    l.raw_rows,
    (l.reconciliation = 'match')::integer as matches,
    u.cpu_seconds,
    u.memory_bytes,
    extract(epoch from l.finished_at)::double precision as finished,
    extract(epoch from l.finished_at - l.started_at)::double precision as seconds,
    (
        select count(*) from quarantine.rows as q
        where q.source_system = t.source_system and q.table_name = t.table_name and q.resolved_at is null
    ) as in_quarantine
from chosen as t
cross join lateral (
    select * from ops.loads as p
    where p.source_system = t.source_system and p.table_name = t.table_name and p.status = 'published'
    order by p.batch_id desc limit 1
) as l
left join ops.usage as u on u.kind = 'load' and u.scope = t.source_system and u.name = t.table_name
