-- Statements that give schema $2 the default privileges of schema $1, and whether this role may run them.
with entries as (
    select
        d.defaclnamespace = to_regnamespace(quote_ident($1)) as is_old, d.defaclrole, d.defaclobjtype, e.grantee,
        e.privilege_type, e.is_grantable
    from pg_default_acl as d cross join lateral aclexplode(d.defaclacl) as e
    where d.defaclnamespace in (to_regnamespace(quote_ident($1)), to_regnamespace(quote_ident($2)))
),

both_ends as (
    select
        defaclrole, defaclobjtype, privilege_type,
        case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee,
        max(case when is_old then 1 + is_grantable::int else 0 end) as wanted,
        max(case when is_old then 0 else 1 + is_grantable::int end) as there
    from entries group by defaclrole, defaclobjtype, privilege_type, grantee
)

select
    pg_get_userbyid(defaclrole) as role,
    pg_has_role(defaclrole, 'usage') as is_ours,
    format(
        'alter default privileges for role %I in schema %I ' || case
            when wanted < there then 'revoke %s%s on %s from %s' else 'grant %4$s on %5$s to %6$s%7$s'
        end,
        pg_get_userbyid(defaclrole), $2, case when wanted = 1 and there = 2 then 'grant option for ' end, privilege_type,
        case defaclobjtype when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else 'tables' end,
        grantee, case when wanted = 2 then ' with grant option' end
    ) as statement
from both_ends
where wanted <> there
order by wanted < there desc, 3
