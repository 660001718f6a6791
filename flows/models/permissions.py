"""Permissions of relations that are replaced: the successor's equal the predecessor's, or the swap is refused by name.

    await keep(warehouse, [("gold", "next__gold")])          before anybody waits
    await differences(warehouse, [("gold", "next__gold")])   under the locks: [] or what differs, by name

Compared are owners, grants with their options, grants on columns, row-level policies, security options of views, and
labels. Who granted is not: the owner did, in the successor. dbt's builds keep them by the same statement, the macro
`keep_permissions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import jinja2

from flows.values.errors import ConfigurationError
from flows.values.identifiers import qualified, quote_identifier
from flows.values.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Schemas whose relations replace those of the same names: (predecessor, successor).
Pairs = Sequence[tuple[str, str]]

_MACRO = PROJECT_ROOT / "dbt_project" / "macros" / "keep_permissions.sql"
_TWINS = """
select p.old, p.new, o.relname as name, pg_has_role(o.relowner, 'usage') as is_ours
from unnest($1::text[], $2::text[]) as p (old, new)
inner join pg_class as o on o.relnamespace = to_regnamespace(quote_ident(p.old))
inner join pg_class as n on n.relnamespace = to_regnamespace(quote_ident(p.new)) and n.relname = o.relname
where o.relkind in ('r', 'p', 'v', 'm') and n.relkind in ('r', 'p', 'v', 'm') and not n.relispartition
order by p.old, o.relname
"""


async def keep(connection: Connection[Record], pairs: Pairs) -> None:
    """Give relations of the successors what their predecessors have.

    Raises:
        ConfigurationError: something cannot be kept, such as a policy that reads another table of these schemas.
    """
    reading = await connection.fetch(_sql("policies_that_read.sql"), [old for old, _ in pairs])
    if reading:
        raise _refused([f"{row['relation']}: the policy {row['name']} reads {row['object']}" for row in reading])
    for row in await connection.fetch(_TWINS, *_ends(pairs)):
        old, new = qualified(row["old"], row["name"]), qualified(row["new"], row["name"])
        if not row["is_ours"]:
            raise _refused([f"{row['old']}.{row['name']}: it is owned by a role that {await _role(connection)} is not"])
        try:
            await connection.execute(statement(old, new, row["name"]))
        except asyncpg.PostgresError as problem:
            # The macro writes the message, of names of objects alone.
            message = problem.args[0] if problem.args else ""
            if " cannot be kept: " in str(message):
                raise _refused([str(message)]) from None
            raise


def statement(old: str, new: str, named: str) -> str:
    """SQL that gives the relation `new` the permissions of `old`. Both are quoted; `named` is their name later."""
    module: Any = jinja2.Environment(autoescape=False).from_string(_text(_MACRO)).module  # noqa: S701  # nosec B701 - SQL
    escaped = [part.replace("'", "''") for part in (old, new, named)]
    return str(module.keep_permissions(*escaped))


async def differences(connection: Connection[Record], pairs: Pairs) -> list[str]:
    """What predecessors and successors of the same names do not have in common: `gold.mart: grant of ada (SELECT)`."""
    rows = await connection.fetch(_sql("permissions.sql"), *_ends(pairs))
    return [f"{row['schema']}.{row['name']}: {row['what']}" for row in rows]


def refuse(found: Sequence[str]) -> ConfigurationError:
    """The error of a swap whose relations still differ."""
    return _refused(found)


async def defaults_differ(connection: Connection[Record], old: str, new: str) -> bool:
    """Whether `keep_defaults` would change anything about default privileges."""
    return bool(await connection.fetch(_sql("default_privileges.sql"), old, new))


async def keep_defaults(connection: Connection[Record], old: str, new: str) -> None:
    """Give one schema the other's default privileges and owner.

    Raises:
        ConfigurationError: they are those of a role as which this one cannot act.
    """
    for row in await connection.fetch(_sql("default_privileges.sql"), old, new):
        if not row["is_ours"]:
            raise _refused([f"{old}: default privileges for objects of {row['role']}"])
        await connection.execute(row["statement"])
    owners = await connection.fetch(
        "select nspname, pg_get_userbyid(nspowner) as owner from pg_namespace where nspname = any($1)", [old, new]
    )
    owner = {row["nspname"]: row["owner"] for row in owners}
    if owner[old] != owner[new]:
        await connection.execute(f"alter schema {quote_identifier(new)} owner to {quote_identifier(owner[old])}")


def _refused(found: Sequence[str]) -> ConfigurationError:
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ConfigurationError(
        f"permissions would change: {'; '.join(found[:5])}{more}",
        where="swap of the models' schemas",
        fix="nothing was changed for readers; have policies read tables outside of dbt's schemas, give the relations "
        "to the role that builds, or drop what is named, then run again",
    )


def _ends(pairs: Pairs) -> tuple[list[str], list[str]]:
    return [old for old, _ in pairs], [new for _, new in pairs]


async def _role(connection: Connection[Record]) -> str:
    return str(await connection.fetchval("select current_user"))


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _sql(name: str) -> str:
    return _text(Path(__file__).with_name(name))
