-- What relations of the same name in two schemas each ($1: predecessors, $2: successors) do not have in common.
-- Expressions of policies are compared as they are printed: both tables have the name that they say.
with pairs as (
    select p.old_schema, p.new_schema, o.oid as old_id, n.oid as new_id, o.relname
    from unnest($1::text[], $2::text[]) as p (old_schema, new_schema)
    inner join pg_class as o on to_regnamespace(quote_ident(p.old_schema)) = o.relnamespace
    inner join pg_class as n on to_regnamespace(quote_ident(p.new_schema)) = n.relnamespace and n.relname = o.relname
    where o.relkind in ('r', 'p', 'v', 'm') and n.relkind in ('r', 'p', 'v', 'm')
),

sides as (
    select old_schema, relname, old_id as id, true as is_old, new_id from pairs
    union all
    select old_schema, relname, new_id, false, new_id from pairs
),

facts as (
    select s.old_schema, s.relname, s.is_old, 'owner ' || pg_get_userbyid(c.relowner) as what
    from sides as s inner join pg_class as c on s.id = c.oid
    union all
    select
        s.old_schema, s.relname, s.is_old,
        format('grant of %s to %s%s', e.privilege_type, coalesce(nullif(e.grantee, 0)::regrole::text, 'public'),
            case when bool_or(e.is_grantable) then ' with grant option' end)
    from sides as s
    inner join pg_class as c on s.id = c.oid
    cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as e
    group by s.old_schema, s.relname, s.is_old, e.privilege_type, e.grantee
    union all
    select
        s.old_schema, s.relname, s.is_old,
        format('grant of %s (%s) to %s%s', e.privilege_type, a.attname,
            coalesce(nullif(e.grantee, 0)::regrole::text, 'public'),
            case when bool_or(e.is_grantable) then ' with grant option' end)
    from sides as s
    inner join pg_attribute as a on s.id = a.attrelid and not a.attisdropped
    cross join lateral aclexplode(a.attacl) as e
    where exists (
        select from pg_attribute as twin
        where twin.attrelid = s.new_id and twin.attname = a.attname and not twin.attisdropped
    )
    group by s.old_schema, s.relname, s.is_old, a.attname, e.privilege_type, e.grantee
    union all
    select s.old_schema, s.relname, s.is_old, 'row-level security' || case when c.relforcerowsecurity then ', forced' else '' end
    from sides as s inner join pg_class as c on s.id = c.oid
    where c.relrowsecurity or c.relforcerowsecurity
    union all
    select
        s.old_schema, s.relname, s.is_old,
        format('policy %s %s', p.polname, md5(concat_ws(
            '|', p.polcmd, p.polpermissive, (select array_agg(r order by r) from unnest(p.polroles) as r),
            coalesce(pg_get_expr(p.polqual, p.polrelid), '-'), coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '-')
        )))
    from sides as s inner join pg_policy as p on s.id = p.polrelid
    union all
    select s.old_schema, s.relname, s.is_old, format('%s %s', o.option_name, o.option_value)
    from sides as s
    inner join pg_class as c on s.id = c.oid and c.relkind = 'v'
    cross join lateral pg_options_to_table(c.reloptions) as o
    where o.option_name in ('security_barrier', 'security_invoker')
    union all
    select s.old_schema, s.relname, s.is_old, format('security label of %s: %s', l.provider, l.label)
    from sides as s inner join pg_seclabel as l on s.id = l.objoid and l.classoid = 'pg_class'::regclass
)

select old_schema as schema, relname as name, what
from facts
group by old_schema, relname, what
having count(distinct is_old) = 1
order by old_schema, relname, what
