-- What capture of a table ($1, quoted) has at its source: one row, none if there is no such table.
-- $2: its change table, quoted; $3, $4: the functions of its triggers and of the guard, quoted; $5: the counter, quoted;
-- $6: names of its triggers; $7: the name of the guard; $8: the role that
-- reads the source; $9: the table of what was read last, quoted; $10: the trigger that partitions have as well.
with recursive columns as (
    select c.oid is not distinct from to_regclass($2) as is_change, a.attname, a.attnum, a.attcollation, a.atttypid, a.atttypmod,
        a.atttypid as base, a.atttypmod as base_mod
    from pg_class as c inner join pg_attribute as a on c.oid = a.attrelid
    where c.oid in (to_regclass($1), to_regclass($2)) and a.attnum > 0 and not a.attisdropped
    union all
    -- A domain may refuse null, which the row of a truncate has for a key.
    select c.is_change, c.attname, c.attnum, c.attcollation, c.atttypid, c.atttypmod, y.typbasetype, y.typtypmod
    from columns as c inner join pg_type as y on c.base = y.oid
    where y.typtype = 'd'
),

spelled as (
    select c.is_change, c.attname, c.attnum,
        case when c.attcollation <> 0 and c.attcollation <> y.typcollation
            then ' collate ' || c.attcollation::regcollation::text else ''
        end as collation,
        format_type(c.atttypid, c.atttypmod) as exact,
        -- A key that gets room for more, as integer that becomes bigint, still fits.
        format_type(
            case when c.base in ('int2'::regtype, 'int4'::regtype) then 'int8'::regtype::oid else c.base end,
            case when c.base in ('varchar'::regtype, 'numeric'::regtype) then -1 else c.base_mod end
        ) as wide
    from columns as c inner join pg_type as y on c.base = y.oid
    where y.typtype <> 'd'
)

select
    c.oid::bigint as id,
    c.relkind::text as kind,
    (
        select json_agg(json_build_array(k.attname, k.wide || k.collation, k.exact || k.collation) order by k.attnum)
        from spelled as k where not k.is_change
    )::text as columns,
    t.oid::bigint as changes_id,
    (
        select json_agg(json_build_array(k.attname, k.exact || k.collation) order by k.attnum)
        from spelled as k where k.is_change and k.attnum > 4
    )::text as change_columns,
    coalesce(pg_table_size(t.oid), 0) as size,
    f.prosrc as body,
    g.prosrc as guard_body,
    to_regclass($5)::oid::bigint as counter_id,
    to_regclass($9)::oid::bigint as read_id,
    has_schema_privilege($8, case when n.oid is not null then 'medallion_captured' else 'pg_catalog' end, 'usage')
    and coalesce(has_table_privilege($8, t.oid, 'select') and has_table_privilege($8, t.oid, 'delete')
        and has_table_privilege($8, t.oid, 'truncate'), true)
    and coalesce(has_table_privilege($8, to_regclass($9), 'select')
        and has_table_privilege($8, to_regclass($9), 'update'), true)
    and coalesce(has_sequence_privilege($8, to_regclass($5), 'select'), true) as may_read,
    n.oid is not null as has_schema,
    -- Disabled and enabled again, a trigger has another xmin: changes in between were not recorded.
    (
        select json_object_agg(r.tgname, json_build_array(
            r.tgenabled, r.tgfoid = f.oid, concat_ws('.', r.oid, r.xmin)
        )) from pg_trigger as r where r.tgrelid = c.oid and r.tgname = any($6)
    )::text as triggers,
    (
        select concat_ws('.', r.oid, r.xmin) from pg_trigger as r
        where r.tgrelid = t.oid and r.tgname = $7 and r.tgenabled in ('O', 'A') and r.tgfoid = g.oid
    ) as guard,
    -- A partition has a trigger of its own, which is dropped when it is detached, and may be disabled alone.
    (
        select json_object_agg(p.relid::oid::text, json_build_array(
            p.relid::text, l.relkind, coalesce(r.tgenabled = 'A' and r.tgfoid = f.oid, false), concat_ws('.', r.oid, r.xmin)
        ))
        from pg_partition_tree(case when c.relkind = 'p' then c.oid end) as p
        inner join pg_class as l on p.relid = l.oid
        left join pg_trigger as r on p.relid = r.tgrelid and r.tgname = $10
        where p.isleaf
    )::text as partitions,
    (
        select min(h.inhrelid::regclass::text) from pg_inherits as h where h.inhparent = c.oid and c.relkind = 'r'
    ) as child,
    -- What a subscription applies fires row triggers only.
    exists (select from pg_subscription_rel as s where s.srrelid = c.oid) as is_subscribed,
    pg_is_in_recovery() as is_standby
from pg_class as c
left join pg_namespace as n on n.nspname = 'medallion_captured'
left join pg_class as t on t.oid = to_regclass($2)
left join pg_proc as f on f.oid = to_regproc($3)
left join pg_proc as g on g.oid = to_regproc($4)
where c.oid = to_regclass($1)
