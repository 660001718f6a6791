-- What the own types of a table's columns mean: $1 is the table's name. Reads the catalogue only.
with recursive made_of (attnum, type) as (
    -- Every type that a column's values are made of: elements, base types, attributes, bounds of ranges.
    select a.attnum, a.atttypid
    from pg_attribute as a
    where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
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
    select m.attnum, t.oid, t.typtype, t.typrelid, t.typnotnull
    from made_of as m
    inner join pg_type as t on t.oid = m.type
    where t.typnamespace <> 'pg_catalog'::regnamespace
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
)

select
    a.attname::text as name,
    jsonb_strip_nulls(
        jsonb_build_object('labels', labels.labels, 'checks', checks.checks, 'parts', parts.parts)
    )::text as meaning
from (select distinct own.attnum from own) as o
inner join pg_attribute as a on a.attrelid = to_regclass($1) and a.attnum = o.attnum
left join labels on labels.attnum = o.attnum
left join checks on checks.attnum = o.attnum
left join parts on parts.attnum = o.attnum
