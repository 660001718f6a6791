-- Policies of the predecessors ($1) that depend on something else in their schemas: it moves with a swap, and what depends
-- on it is dropped with it later.
select distinct
    format('%s.%s', n.nspname, c.relname) as relation, p.polname as name,
    pg_describe_object(d.refclassid, d.refobjid, 0) as object
from pg_policy as p
inner join pg_class as c on p.polrelid = c.oid
inner join pg_namespace as n on c.relnamespace = n.oid
inner join pg_depend as d on d.classid = 'pg_policy'::regclass and p.oid = d.objid and d.refobjid <> p.polrelid
left join pg_class as r on d.refclassid = 'pg_class'::regclass and d.refobjid = r.oid
left join pg_proc as f on d.refclassid = 'pg_proc'::regclass and d.refobjid = f.oid
left join pg_type as t on d.refclassid = 'pg_type'::regclass and d.refobjid = t.oid
inner join pg_namespace as m on coalesce(r.relnamespace, f.pronamespace, t.typnamespace) = m.oid
where m.nspname = any($1::text[])
order by 1, 2, 3
