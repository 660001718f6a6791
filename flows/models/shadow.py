"""Shadow schemas for blue-green swaps: the shared schemas, and their counterparts with a prefix.

    gold            the current schema of readers
    next__gold      a release being built and checked; readers have no access
    previous__gold  the previous release, kept for a rollback
    discarded__…    the release before, about to be dropped

A swap only renames schemas: no row is copied, and references to tables remain valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.models.manifest import Manifest
from flows.models.permissions import keep_defaults
from flows.models.relation_columns import relation_columns
from flows.values.identifiers import qualified, quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

NEXT = "next__"
PREVIOUS = "previous__"
DISCARDED = "discarded__"
#: The schema whose comment has the current release.
READERS_SCHEMA = "gold"
_REVIEWER = "medallion_reviewer"

_GRANTS_OF_SCHEMA = """
select
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee,
    lower(privilege_type) as privilege,
    case when is_grantable then ' with grant option' else '' end as option
from pg_namespace cross join lateral aclexplode(nspacl)
where nspname = $1 and grantee <> nspowner
"""


async def schemas_under(connection: Connection[Record], prefix: str) -> list[str]:
    """The schemas with the prefix, without it, sorted: `gold` for `next__gold`."""
    rows = await connection.fetch(
        "select nspname from pg_namespace where starts_with(nspname, $1) order by nspname", prefix
    )
    return [row["nspname"].removeprefix(prefix) for row in rows]


async def drop_under(connection: Connection[Record], prefix: str) -> list[str]:
    """Drop the schemas with one of our prefixes and their contents. Returns their names without the prefix."""
    if prefix not in {NEXT, PREVIOUS, DISCARDED}:
        raise ValueError(f"{prefix!r} is not a prefix of shadow schemas")
    names = await schemas_under(connection, prefix)
    for name in names:
        # One transaction each: all tables in one would need more locks than the server has.
        await connection.execute(f"drop schema {quote_identifier(prefix + name)} cascade")
    return names


def shared_schemas(manifest: Manifest) -> list[str]:
    """The schemas that a full build writes into, from its manifest."""
    return sorted({relation.schema for relation in manifest.relations.values() if relation.kind != "source"})


async def prepare(connection: Connection[Record], schemas: Sequence[str]) -> None:
    """Create empty shadow schemas. The same roles may read their tables once they have usage on the schema, which the
    swap grants."""
    await drop_under(connection, DISCARDED)
    await drop_under(connection, NEXT)
    for schema in schemas:
        await connection.execute(f"create schema {quote_identifier(NEXT + schema)}")
        await keep_defaults(connection, schema, NEXT + schema)


def memory(manifest: Manifest) -> list[tuple[str, str]]:
    """The relations, as (schema, name), that cannot be rebuilt from raw: snapshots, and incremental models without full
    refresh."""
    return sorted(
        (node["schema"], node.get("alias") or node["name"])
        for node in manifest.content["nodes"].values()
        if node["resource_type"] == "snapshot"
        or (node["resource_type"] == "model" and node["config"].get("full_refresh") is False)
    )


async def copy_memory(connection: Connection[Record], relations: Iterable[tuple[str, str]], shadow: str) -> None:
    """Copy the rows of these relations to their shadow relations, each in one transaction.

    An existing shadow relation keeps its columns and gets the common ones; a missing one is created.
    """
    for schema, name in relations:
        held = await relation_columns(connection, schema, name)
        there = await relation_columns(connection, shadow + schema, name)
        if not held or not await _exists(connection, shadow + schema):
            continue
        copy, original = qualified(shadow + schema, name), qualified(schema, name)
        common = ", ".join(quote_identifier(column) for column in held if not there or column in there)
        async with connection.transaction():
            if there:
                await connection.execute(f"truncate {copy}")
            else:
                await connection.execute(f"create table {copy} (like {original} including all)")
            await connection.execute(f"insert into {copy} ({common}) select {common} from {original}")


async def has_readers(connection: Connection[Record], schema: str) -> bool:
    """Whether roles other than the owner have usage on the schema. The reviewer of pull requests does not count."""
    return any(row["grantee"] != _REVIEWER for row in await connection.fetch(_GRANTS_OF_SCHEMA, schema))


async def grant_usage(connection: Connection[Record], like: str, schema: str) -> None:
    """Copy usage on one schema to the other, and nothing that others may have on that."""
    await revoke_usage(connection, schema)
    for row in await connection.fetch(_GRANTS_OF_SCHEMA, like):
        await connection.execute(
            f"grant {row['privilege']} on schema {quote_identifier(schema)} to {row['grantee']}{row['option']}"
        )


async def revoke_usage(connection: Connection[Record], schema: str) -> None:
    """Revoke usage on the schema from everyone but its owner."""
    for row in await connection.fetch(_GRANTS_OF_SCHEMA, schema):
        await connection.execute(
            f"revoke {row['privilege']} on schema {quote_identifier(schema)} from {row['grantee']} cascade"
        )


async def label(connection: Connection[Record], schema: str, facts: Mapping[str, Any]) -> None:
    """Write the release into the schema's comment, which is renamed with the schema."""
    text = f"medallion {json.dumps(facts, sort_keys=True)}"
    await connection.execute(f"comment on schema {quote_identifier(schema)} is {quote_literal(text)}")


async def label_of(connection: Connection[Record], schema: str) -> dict[str, Any]:
    """The text that `label` wrote; empty if the schema was never released, or does not exist."""
    text = await connection.fetchval("select obj_description(to_regnamespace($1), 'pg_namespace')", schema)
    if not text or not text.startswith("medallion {"):
        return {}
    facts: dict[str, Any] = json.loads(text.removeprefix("medallion "))
    return facts


def as_shared(text: str, built: Manifest) -> str:
    """Rewrite dbt's artifacts of a build under `next__`, whose manifest is `built`, to the shared schemas."""
    schemas = {node["schema"] for node in built.content["nodes"].values() if node["schema"].startswith(NEXT)}
    names = "|".join(sorted((re.escape(name.removeprefix(NEXT)) for name in schemas), key=len, reverse=True))
    return re.sub(rf"\b{NEXT}({names})\b", r"\1", text)


async def _exists(connection: Connection[Record], schema: str) -> bool:
    return bool(await connection.fetchval("select to_regnamespace($1) is not null", quote_identifier(schema)))
