-- A source table's identity: $1 is its name, $2 its cursor's column. Reads the catalogue only.
with recursive cols as (
    select
        a.attnum, a.attname::text as name, a.atttypid as type, format_type(a.atttypid, a.atttypmod) as spelled,
        case when a.attgenerated <> '' then md5(pg_get_expr(d.adbin, d.adrelid)) end as generated
    from pg_attribute as a
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
),

-- Every type that a column's values are made of: elements, base types, attributes, bounds of ranges.
made_of (attnum, type) as (
    select c.attnum, c.type from cols as c
    union
    select m.attnum, p.part
    from made_of as m
    inner join pg_type as t on t.oid = m.type
    cross join lateral (
        select t.typelem where t.typelem <> 0
        union all
        select t.typbasetype where t.typtype = 'd'
        union all
        select a.atttypid
        from pg_attribute as a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        union all
        select r.rngsubtype from pg_range as r where r.rngtypid = t.oid
    ) as p (part)
),

own as (
    select m.attnum, t.oid, t.typtype, t.typrelid, t.typname::text as name, t.typnotnull
    from made_of as m
    inner join pg_type as t on t.oid = m.type
    inner join pg_namespace as n on n.oid = t.typnamespace
    where n.nspname <> 'pg_catalog'
),

labels as (
    select o.attnum, jsonb_object_agg(e.oid::text, e.enumlabel::text) as labels
    from own as o
    inner join pg_enum as e on e.enumtypid = o.oid
    group by o.attnum
),

checks as (
    select o.attnum, jsonb_object_agg(o.oid::text, md5(concat_ws(' ', o.typnotnull, (
        select string_agg(pg_get_constraintdef(k.oid), ' ' order by pg_get_constraintdef(k.oid))
        from pg_constraint as k where k.contypid = o.oid
    )))) as checks
    from own as o
    where o.typtype = 'd'
    group by o.attnum
),

parts as (
    select o.attnum, jsonb_object_agg(o.oid::text, md5((
        select string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), ',' order by a.attnum)
        from pg_attribute as a where a.attrelid = o.typrelid and a.attnum > 0 and not a.attisdropped
    ))) as parts
    from own as o
    where o.typtype = 'c'
    group by o.attnum
),

-- Those that give the cursor's column its values, as far as the catalogue knows.
tied as (
    select s.oid
    from pg_class as s
    inner join pg_depend as d on d.classid = 'pg_class'::regclass and d.objid = s.oid
    inner join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where s.relkind = 'S' and d.refclassid = 'pg_class'::regclass and d.refobjid = to_regclass($1) and a.attname = $2
    union
    select s.oid
    from pg_attribute as a
    inner join pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
    inner join pg_depend as d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
    inner join pg_class as s on d.refclassid = 'pg_class'::regclass and s.oid = d.refobjid and s.relkind = 'S'
    where a.attrelid = to_regclass($1) and a.attname = $2
),

-- Or, for numbers from a trigger, those beside the table that belong to no column.
sequences as (
    select t.oid, true as is_tied from tied as t
    union all
    select s.oid, false
    from pg_class as s
    where
        $2::text is not null and s.relkind = 'S' and not exists (select from tied)
        and s.relnamespace = (select c.relnamespace from pg_class as c where c.oid = to_regclass($1))
        and not exists (
            select from pg_depend as d
            where d.classid = 'pg_class'::regclass and d.objid = s.oid and d.deptype in ('a', 'i')
        )
)

select
    current_database()::text as database,
    (select d.oid::bigint from pg_database as d where d.datname = current_database()) as database_id,
    pg_is_in_recovery() as standby,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint as transaction,
    c.oid::bigint as id,
    c.relkind::text as kind,
    case when c.relkind = 'r' then pg_relation_filenode(c.oid)::bigint end as file,
    case when c.relkind in ('v', 'm') then md5(pg_get_viewdef(c.oid)) end as definition,
    (
        select
            jsonb_object_agg(
                cols.name,
                jsonb_strip_nulls(jsonb_build_object(
                    'at', cols.attnum, 'type', cols.spelled, 'generated', cols.generated, 'labels', labels.labels,
                    'checks', checks.checks, 'parts', parts.parts
                ))
            )
        from cols
        left join labels using (attnum)
        left join checks using (attnum)
        left join parts using (attnum)
    )::text as columns,
    (
        select
            jsonb_object_agg(
                s.oid::text,
                jsonb_build_array(
                    pg_relation_filenode(s.oid)::bigint,
                    case when has_sequence_privilege(s.oid, 'usage, select') then pg_sequence_last_value(s.oid) end,
                    s.is_tied
                )
            )
        from sequences as s
    )::text as sequences
from pg_class as c
where c.oid = to_regclass($1)
