"""Everything that says who may do what with the relations of a schema, told by the catalog as text."""

import psycopg

from tests.conftest import TestDatabase

# What a careful owner may have done to the tables of `shadowing`: each of it must outlive the table.
BY_HAND = """
revoke select on gold.a from medallion_reader;
grant select on gold.a to medallion_dashboard with grant option;
revoke insert, update, delete on gold.b from medallion_transformer;
revoke select on gold.b from medallion_reader;
grant select (release) on gold.b to medallion_reader;
grant select (release), update (release) on gold.b to medallion_dashboard with grant option;
grant select on gold.m to public;
create schema rights;
create table rights.seen (release integer);
grant usage on schema rights to medallion_reader;
grant select on rights.seen to medallion_reader;
alter table gold.f enable row level security;
create policy few on gold.f for select to medallion_reader
    using (sold_on > '2026-01-04' and exists (select from rights.seen where seen.release = f.release));
create policy "50% %s" on gold.f as restrictive to medallion_reader, medallion_dashboard using (release > 0);
alter table gold.f force row level security;
create policy owner on gold.f to medallion_transformer using (true) with check (release is not null);
revoke select on gold.f_p1 from medallion_reader;
alter view gold.v set (security_invoker = true, security_barrier = true);
comment on table gold.a is 'by hand';
comment on column gold.a.release is 'a column''s';
grant usage on schema silver to medallion_dashboard with grant option;
alter default privileges in schema silver grant select on tables to medallion_dashboard with grant option;
alter default privileges in schema gold grant usage on sequences to medallion_reader;
"""
_RELATIONS = """
select c.relname, c.relowner::regrole::text, c.relrowsecurity, c.relforcerowsecurity, c.reloptions::text,
    obj_description(c.oid, 'pg_class'),
    array(select e::text from unnest(coalesce(c.relacl, acldefault('r', c.relowner))) as e order by 1),
    array(
        select concat(a.attname, ' ', a.attacl::text, ' ', col_description(c.oid, a.attnum))
        from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 order by 1
    ),
    array(select p::text from pg_policies as p where (p.schemaname, p.tablename) = (n.nspname, c.relname) order by 1)
from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid
where n.nspname = %s and c.relkind in ('r', 'p', 'v', 'm')
order by c.relname
"""
_SCHEMA = """
select n.nspowner::regrole::text, array(select e::text from unnest(n.nspacl) as e order by 1),
    array(
        select concat(d.defaclobjtype, d.defaclrole::regrole, e) from pg_default_acl as d, unnest(d.defaclacl) as e
        where d.defaclnamespace = n.oid order by 1
    )
from pg_namespace as n where n.nspname = %s
"""


def permissions(database: TestDatabase, *schemas: str) -> dict[str, object]:
    """By `schema` and `schema.relation`."""
    found: dict[str, object] = {}
    with psycopg.connect(database.url("admin")) as connection:
        for schema in schemas:
            found[schema] = connection.execute(_SCHEMA.encode(), [schema]).fetchone()
            for name, *facts in connection.execute(_RELATIONS.encode(), [schema]).fetchall():
                found[f"{schema}.{name}"] = facts
    return found
