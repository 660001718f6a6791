-- Tables, columns and constraints of the operations' schemas, one line each, as a person would name them.
with relations as (
    select
        c.oid,
        n.nspname || '.' || c.relname as name
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where n.nspname in ('ops', 'quarantine', 'landing') and c.relkind = 'r'
)

select 'table ' || name as thing
from relations
union all
select 'column ' || name || '.' || attname || ' ' || format_type(atttypid, atttypmod)
from relations
inner join pg_attribute on attrelid = oid
where attnum > 0 and not attisdropped
union all
select 'constraint ' || name || '.' || conname || ' ' || pg_get_constraintdef(pg_constraint.oid)
from relations
inner join pg_constraint on conrelid = relations.oid
where contype in ('c', 'u')
