"""Schemas beside the shared ones: an analyst's (`dev_ada__gold`) and a pull request's (`pr_123__gold`).

    prefix_for("dev", "Ada.Lovelace")  → dev_ada_lovelace__
    prefix_for("pr", "123")            → pr_123__

A name never holds two underscores in a row and never ends with one, so what begins with a prefix belongs to that name
alone: `dev_ada__` is not the beginning of `dev_ada_lovelace__gold`. That makes dropping by prefix safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from asyncpg.exceptions import InsufficientPrivilegeError

from flows.values.errors import ConfigurationError, DeclarationError
from flows.values.identifiers import quote_identifier
from flows.values.visible import visible

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# PostgreSQL cuts names off after 63 bytes; the longest schema is silver_quarantine.
_LONGEST_NAME = 36
_PREFIX = re.compile(r"(?:dev|pr)_[a-z0-9]+(?:_[a-z0-9]+)*__")


@dataclass(frozen=True, slots=True)
class PrivateSchema:
    """One schema beside the shared ones, with the number of its tables and views, and their size in bytes."""

    name: str
    relations: int
    bytes: int


def prefix_for(kind: Literal["dev", "pr"], name: str) -> str:
    """What the schemas of an analyst or a pull request begin with.

    Raises:
        ConfigurationError: nothing of the name can stand in a schema's name, or it is too long.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not plain or len(plain) > _LONGEST_NAME:
        error = ConfigurationError(
            f"{name!r} gives no name for schemas" if not plain else f"{plain!r} is longer than {_LONGEST_NAME}",
            where="private schemas",
            fix=f"give --name, or set MEDALLION_DEV_NAME, with letters and digits, at most {_LONGEST_NAME} of them",
        )
        error.exit_code = 2
        raise error
    return f"{kind}_{plain}__"


async def list_private(connection: Connection[Record], prefix: str) -> list[PrivateSchema]:
    """The schemas that begin with the prefix, sorted; of all analysts and pull requests when it is empty."""
    rows = await connection.fetch(
        "select n.nspname, count(c.oid) as relations, coalesce(sum(pg_total_relation_size(c.oid)), 0) as bytes "
        "from pg_namespace as n "
        "left join pg_class as c on c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm') "
        "where case when $1 = '' then n.nspname ~ '^(dev|pr)_[a-z0-9_]+__' else starts_with(n.nspname, $1) end "
        "group by n.nspname order by n.nspname",
        prefix,
    )
    return [PrivateSchema(row["nspname"], int(row["relations"]), int(row["bytes"])) for row in rows]


async def open_private(connection: Connection[Record], names: Iterable[str]) -> None:
    """Create the schemas that are missing. The role of reviews may not, and has them made under the names it may have.

    Raises:
        DeclarationError: a review may not have a schema of that name.
    """
    by_itself = await _may_create(connection)
    for name in names:
        if by_itself:
            await connection.execute(f"create schema if not exists {quote_identifier(name)}")
            continue
        try:
            await connection.execute("select reviews.open_schema($1)", name)
        except InsufficientPrivilegeError:
            raise DeclarationError(
                f"a review may not create the schema {visible(name)}",
                where="medallion review",
                fix="let the macro generate_schema_name put its prefix before every schema; if the transformer "
                "left a schema of this name, drop it as the transformer",
            ) from None


async def drop_private(connection: Connection[Record], prefix: str) -> list[str]:
    """Drop every schema that begins with the prefix, with all in it. Returns their names; none there is no error.

    The role of reviews drops those that were made for it.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} is not the prefix of private schemas")
    if not await _may_create(connection):
        return [str(row[0]) for row in await connection.fetch("select reviews.close_schemas($1)", prefix)]
    names = [schema.name for schema in await list_private(connection, prefix)]
    for name in names:
        # One transaction each: a build with hundreds of tables would else want more locks than the server has.
        await connection.execute(f"drop schema if exists {quote_identifier(name)} cascade")
    return names


async def _may_create(connection: Connection[Record]) -> bool:
    return bool(await connection.fetchval("select has_database_privilege(current_database(), 'create')"))
