-- What capture of a table ($1, quoted) has at its source: one row, none if there is no such table.
-- $2: its change table, quoted; $3, $4: the functions of its triggers and of the guard, quoted; $5: the counter, quoted;
-- $6: names of its triggers; $7: the name of the guard; $8: the role that
-- reads the source.
select
    c.oid::bigint as id,
    c.relkind::text as kind,
    (
        select json_agg(json_build_array(k.attname, format_type(k.atttypid, k.atttypmod) || case
            when k.attcollation <> 0 and k.attcollation <> y.typcollation
                then ' collate ' || k.attcollation::regcollation::text else ''
        end) order by k.attnum)
        from pg_attribute as k inner join pg_type as y on k.atttypid = y.oid
        where k.attrelid = c.oid and k.attnum > 0 and not k.attisdropped
    )::text as columns,
    t.oid::bigint as changes_id,
    (
        select json_agg(json_build_array(k.attname, format_type(k.atttypid, k.atttypmod) || case
            when k.attcollation <> 0 and k.attcollation <> y.typcollation
                then ' collate ' || k.attcollation::regcollation::text else ''
        end) order by k.attnum)
        from pg_attribute as k inner join pg_type as y on k.atttypid = y.oid
        where k.attrelid = t.oid and k.attnum > 4 and not k.attisdropped
    )::text as change_columns,
    coalesce(pg_table_size(t.oid), 0) as size,
    f.prosrc as body,
    g.prosrc as guard_body,
    to_regclass($5)::oid::bigint as counter_id,
    has_schema_privilege($8, case when n.oid is not null then 'medallion_captured' else 'pg_catalog' end, 'usage')
    and coalesce(has_table_privilege($8, t.oid, 'select') and has_table_privilege($8, t.oid, 'delete')
        and has_table_privilege($8, t.oid, 'truncate'), true)
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
    ) as guard
from pg_class as c
left join pg_namespace as n on n.nspname = 'medallion_captured'
left join pg_class as t on t.oid = to_regclass($2)
left join pg_proc as f on f.oid = to_regproc($3)
left join pg_proc as g on g.oid = to_regproc($4)
where c.oid = to_regclass($1)
