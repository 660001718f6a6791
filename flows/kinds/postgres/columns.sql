-- The columns of a table or of a query, as `queries.py` finds them; their raw table is named $1. One row for a table
-- without columns, which has no name.
select
    a.name,
    format_type(a.type_id, a.modifier) as type,
    t.typname as type_name,
    t.typtype::text as kind,
    tn.nspname as type_schema,
    tn.nspname = 'pg_catalog' as built_in,
    case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) end as base_type,
    coalesce(bn.nspname = 'pg_catalog' and b.typtype = 'b', false) as base_built_in,
    a.nullable,
    a.readable,
    a.relation_kind,
    case when t.typtype = 'e' then array(
        select e.enumlabel::text from pg_enum as e where e.enumtypid = t.oid order by e.enumsortorder
    ) end as labels,
    -- Raw has one schema for all of the source's: a name that is taken there gets its schema in front.
    t.typtype = 'e' and (
        t.typname = $1
        or exists (
            select from pg_class as r
            inner join pg_namespace as rn on r.relnamespace = rn.oid
            where
                r.relname = t.typname and r.relkind in ('r', 'p', 'v', 'm', 'f')
                and rn.nspname not in ('pg_catalog', 'information_schema')
        )
        or exists (
            select from pg_type as o
            inner join pg_namespace as n on o.typnamespace = n.oid
            where
                o.typname = t.typname and o.typtype = 'e' and o.oid <> t.oid
                -- That of `public`, else the oldest, keeps the plain name.
                and (n.nspname <> 'public', o.oid) < (tn.nspname <> 'public', t.oid)
        )
    ) as name_is_taken,
    getdatabaseencoding() as encoding,
    a.estimated_rows
from ({found}) as a
left join pg_type as t on a.type_id = t.oid
left join pg_namespace as tn on t.typnamespace = tn.oid
left join pg_type as b on t.typbasetype = b.oid
left join pg_namespace as bn on b.typnamespace = bn.oid
order by a.place
