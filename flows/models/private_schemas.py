"""Private schemas: an analyst's (`dev_ada__gold`) and a pull request's (`pr_123__gold`).

    prefix_for("dev", "Ada.Lovelace")  → dev_ada_lovelace__
    prefix_for("pr", "123")            → pr_123__

A name never contains two consecutive underscores and never ends with one, so a prefix identifies a name: `dev_ada__`
is not a prefix of `dev_ada_lovelace__gold`. That makes dropping by prefix safe.
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

# PostgreSQL truncates names to 63 bytes; the longest schema is silver_quarantine.
_LONGEST_NAME = 36
_PREFIX = re.compile(r"(?:dev|pr)_[a-z0-9]+(?:_[a-z0-9]+)*__")


@dataclass(frozen=True, slots=True)
class PrivateSchema:
    """One private schema, with the number of its tables and views, and their size in bytes."""

    name: str
    relations: int
    bytes: int


def prefix_for(kind: Literal["dev", "pr"], name: str) -> str:
    """The prefix of an analyst's or a pull request's schemas.

    Raises:
        ConfigurationError: the name contains nothing that is valid in a schema's name, or it is too long.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not plain or len(plain) > _LONGEST_NAME:
        error = ConfigurationError(
            f"{name!r} contains no letter or digit for a schema name"
            if not plain
            else f"{plain!r} is longer than {_LONGEST_NAME}",
            where="private schemas",
            fix=f"give --name, or set MEDALLION_DEV_NAME, with letters and digits, at most {_LONGEST_NAME} of them",
        )
        error.exit_code = 2
        raise error
    return f"{kind}_{plain}__"


async def list_private(connection: Connection[Record], prefix: str) -> list[PrivateSchema]:
    """The schemas with the prefix, sorted; those of all analysts and pull requests if it is empty."""
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
    """Create missing schemas. The reviewer role may not, and has them created under the names it may use.

    Raises:
        DeclarationError: the reviewer role may not use this schema name.
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
                f"the reviewer role is not allowed to create the schema {visible(name)}",
                where="medallion diff",
                fix="make the macro generate_schema_name put its prefix before every schema; if the transformer "
                "left a schema of this name, drop it as the transformer",
            ) from None


async def drop_private(connection: Connection[Record], prefix: str) -> list[str]:
    """Drop every schema with the prefix and its contents. Returns their names; none is not an error.

    The reviewer role drops those created for it.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} is not a prefix of private schemas")
    if not await _may_create(connection):
        return [str(row[0]) for row in await connection.fetch("select reviews.close_schemas($1)", prefix)]
    names = [schema.name for schema in await list_private(connection, prefix)]
    for name in names:
        # One transaction each: a build with hundreds of tables would otherwise need more locks than the server has.
        await connection.execute(f"drop schema if exists {quote_identifier(name)} cascade")
    return names


async def _may_create(connection: Connection[Record]) -> bool:
    return bool(await connection.fetchval("select has_database_privilege(current_database(), 'create')"))
