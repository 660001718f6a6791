-- Sequences that give a column its values, as far as the catalogue knows: $1 is the table's name, $2 the column's.
with tied as (
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
        s.relkind = 'S' and not exists (select from tied)
        and s.relnamespace = (select c.relnamespace from pg_class as c where c.oid = to_regclass($1))
        and not exists (
            select from pg_depend as d
            where d.classid = 'pg_class'::regclass and d.objid = s.oid and d.deptype in ('a', 'i')
        )
)

select
    s.oid::text as id,
    pg_relation_filenode(s.oid)::bigint as file,
    case when has_sequence_privilege(s.oid, 'usage, select') then pg_sequence_last_value(s.oid) end as last,
    s.is_tied
from sequences as s
