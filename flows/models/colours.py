"""Two colours of the shared schemas: what readers have, and what stands beside it under a prefix.

    gold            what readers have
    next__gold      a release that is being built and judged; readers may not look into it
    previous__gold  what they had before, kept for the way back
    discarded__…    what was previous, about to be dropped

Schemas change their names and nothing else: not a row is copied, and what refers to a table goes on referring to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.models.manifest import Manifest
from flows.models.relation_columns import relation_columns
from flows.values.identifiers import qualified, quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

NEXT = "next__"
PREVIOUS = "previous__"
DISCARDED = "discarded__"
#: The schema whose comment tells which release is in force.
READERS_SCHEMA = "gold"
_REVIEWER = "medallion_reviewer"

_GRANTS_OF_SCHEMA = """
select
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee,
    lower(privilege_type) as privilege
from pg_namespace cross join lateral aclexplode(nspacl)
where nspname = $1 and grantee <> nspowner
"""
_DEFAULT_GRANTS = """
select
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee,
    lower(privilege_type) as privilege
from pg_default_acl cross join lateral aclexplode(defaclacl)
where defaclnamespace = to_regnamespace($1) and defaclobjtype = 'r' and defaclrole = current_user::regrole
    and grantee <> defaclrole
"""
# Grants on tables that whoever builds did not give to itself; columns' own grants are rare enough to be left out.
_GRANTS_OF_TABLES = """
select
    c.relname as name,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee,
    lower(privilege_type) as privilege
from pg_class as c cross join lateral aclexplode(c.relacl)
where c.relnamespace = to_regnamespace($1) and c.relkind in ('r', 'p', 'v', 'm') and grantee <> c.relowner
    and exists (
        select from pg_class as twin
        where twin.relnamespace = to_regnamespace($2) and twin.relname = c.relname
            and pg_has_role(twin.relowner, 'usage')
    )
"""


async def schemas_under(connection: Connection[Record], prefix: str) -> list[str]:
    """The schemas that begin with the prefix, without it, sorted: `gold` for `next__gold`."""
    rows = await connection.fetch(
        "select nspname from pg_namespace where starts_with(nspname, $1) order by nspname", prefix
    )
    return [row["nspname"].removeprefix(prefix) for row in rows]


async def drop_under(connection: Connection[Record], prefix: str) -> list[str]:
    """Drop the schemas that begin with one of our prefixes, with all in them. Returns their names without it."""
    if prefix not in {NEXT, PREVIOUS, DISCARDED}:
        raise ValueError(f"{prefix!r} is no colour of ours")
    names = await schemas_under(connection, prefix)
    for name in names:
        # One transaction each: all tables in one would want more locks than the server has.
        await connection.execute(f"drop schema {quote_identifier(prefix + name)} cascade")
    return names


def shared_schemas(manifest: Manifest) -> list[str]:
    """The schemas that a whole build writes into, by its manifest."""
    return sorted({relation.schema for relation in manifest.relations.values() if relation.kind != "source"})


async def prepare(connection: Connection[Record], schemas: Sequence[str]) -> None:
    """Empty schemas beside the shared ones. What will be built in them may be read by the same roles, once they may
    look into the schema: that right comes when the names change."""
    await drop_under(connection, DISCARDED)
    await drop_under(connection, NEXT)
    for schema in schemas:
        beside = quote_identifier(NEXT + schema)
        await connection.execute(f"create schema {beside}")
        for row in await connection.fetch(_DEFAULT_GRANTS, schema):
            await connection.execute(
                f"alter default privileges in schema {beside} grant {row['privilege']} on tables to {row['grantee']}"
            )


def memory(manifest: Manifest) -> list[tuple[str, str]]:
    """The relations, as (schema, name), that hold what raw does not tell any more: snapshots, and incremental models
    that refuse to be built anew."""
    return sorted(
        (node["schema"], node.get("alias") or node["name"])
        for node in manifest.content["nodes"].values()
        if node["resource_type"] == "snapshot"
        or (node["resource_type"] == "model" and node["config"].get("full_refresh") is False)
    )


async def copy_memory(connection: Connection[Record], relations: Iterable[tuple[str, str]], beside: str) -> None:
    """Give the relations beside the shared ones the rows of these, each in one transaction.

    One that is there keeps its columns and gets those of the rows that it knows; one that is not there is made.
    """
    for schema, name in relations:
        held = await relation_columns(connection, schema, name)
        there = await relation_columns(connection, beside + schema, name)
        if not held or not await _exists(connection, beside + schema):
            continue
        copy, original = qualified(beside + schema, name), qualified(schema, name)
        common = ", ".join(quote_identifier(column) for column in held if not there or column in there)
        async with connection.transaction():
            if there:
                await connection.execute(f"truncate {copy}")
            else:
                await connection.execute(f"create table {copy} (like {original} including all)")
            await connection.execute(f"insert into {copy} ({common}) select {common} from {original}")


async def copy_grants(connection: Connection[Record], schemas: Iterable[str], beside: str) -> None:
    """What was granted on a shared table by hand holds for the table of the same name beside it, too."""
    for schema in schemas:
        for row in await connection.fetch(_GRANTS_OF_TABLES, schema, beside + schema):
            await connection.execute(
                f"grant {row['privilege']} on {qualified(beside + schema, row['name'])} to {row['grantee']}"
            )


async def has_readers(connection: Connection[Record], schema: str) -> bool:
    """Whether anybody but its owner may look into the schema. A review of a pull request holds no release up."""
    return any(row["grantee"] != _REVIEWER for row in await connection.fetch(_GRANTS_OF_SCHEMA, schema))


async def grant_usage(connection: Connection[Record], like: str, schema: str) -> None:
    """Who may look into one schema may look into the other, too."""
    for row in await connection.fetch(_GRANTS_OF_SCHEMA, like):
        await connection.execute(f"grant {row['privilege']} on schema {quote_identifier(schema)} to {row['grantee']}")


async def revoke_usage(connection: Connection[Record], schema: str) -> None:
    """Nobody but its owner may look into the schema any more."""
    for row in await connection.fetch(_GRANTS_OF_SCHEMA, schema):
        await connection.execute(
            f"revoke {row['privilege']} on schema {quote_identifier(schema)} from {row['grantee']}"
        )


async def label(connection: Connection[Record], schema: str, facts: Mapping[str, Any]) -> None:
    """Write onto a schema which release it belongs to. The comment goes where the schema goes."""
    text = f"medallion {json.dumps(facts, sort_keys=True)}"
    await connection.execute(f"comment on schema {quote_identifier(schema)} is {quote_literal(text)}")


async def label_of(connection: Connection[Record], schema: str) -> dict[str, Any]:
    """What `label` wrote onto the schema; empty when it never was released, or is not there."""
    text = await connection.fetchval("select obj_description(to_regnamespace($1), 'pg_namespace')", schema)
    if not text or not text.startswith("medallion {"):
        return {}
    facts: dict[str, Any] = json.loads(text.removeprefix("medallion "))
    return facts


def as_shared(text: str, built: Manifest) -> str:
    """What dbt wrote about a build under `next__`, whose manifest is `built`, as of one of the shared schemas."""
    schemas = {node["schema"] for node in built.content["nodes"].values() if node["schema"].startswith(NEXT)}
    names = "|".join(sorted((re.escape(name.removeprefix(NEXT)) for name in schemas), key=len, reverse=True))
    return re.sub(rf"\b{NEXT}({names})\b", r"\1", text)


async def _exists(connection: Connection[Record], schema: str) -> bool:
    return bool(await connection.fetchval("select to_regnamespace($1) is not null", quote_identifier(schema)))
