"""Tables that are not read as they are: parts of them are hidden from our role, or they do not fit into raw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from flows.declare.load import Overwrite
from flows.declare.table import Table
from flows.kinds.columns import refuse_unknown_columns
from flows.kinds.postgres.queries import asks_who_reads, views_read
from flows.values.errors import FailureClass, SourceError
from flows.values.shape import METADATA_NAMES, Shape
from flows.values.sqlstates import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection, Record

# PostgreSQL's limit of columns, of which raw needs some for metadata.
_MOST_COLUMNS = 1600

# Definitions are written by PostgreSQL: keywords in capitals, names of columns quoted when they are keywords.
_BY_WHO_ASKS = """
with recursive views as (
    select c.oid from pg_class as c where c.oid = any($1::oid[]) and c.relkind = 'v'
    union
    select c.oid
    from views
    inner join pg_rewrite as r on views.oid = r.ev_class
    inner join pg_depend as d on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
    inner join pg_class as c on d.refobjid = c.oid and d.refclassid = 'pg_class'::regclass and c.relkind = 'v'
)
select c.relname as name, found.word
from views
inner join pg_class as c using (oid)
cross join lateral substring(
    pg_get_viewdef(c.oid)
    from '\\m(CURRENT_USER|SESSION_USER|CURRENT_ROLE|SYSTEM_USER|USER|current_setting|pg_has_role'
        || '|has_[a-z_]+_privilege|row_security_active)\\M'
) as found (word)
where found.word is not null
order by c.relname
limit 1
"""


async def refuse_unreadable(
    connection: Connection[Record], records: Sequence[Record], table: Table, where: str
) -> None:
    """Raises:
    SourceError: the table does not exist; our role may not read some of its columns; it is a view that shows each role
        other rows; it has no columns, or too many.
    """
    name = f"{table.schema}.{table.at_source}"
    if table.query:
        await _refuse_query(connection, records, table, where)
        return
    if not records:
        raise SourceError(
            f"table {name} does not exist or is not readable",
            where=where,
            fix=f"check the name in flows/sources, and grant select on it to {await _role(connection)}",
        )
    if records[0]["name"] is None:
        raise _unfit(f"table {name} has no columns", where, "remove it from flows/sources")
    read = [record for record in records if table.reads(record["name"])]
    if len(read) + len(METADATA_NAMES) > _MOST_COLUMNS:
        raise _unfit(
            f"table {name} has {len(read)} columns, and raw can have {_MOST_COLUMNS - len(METADATA_NAMES)} "
            f"and {len(METADATA_NAMES)} of its own",
            where,
            "declare columns=(…) with those that are needed; or create views at the source with a part of the columns "
            "each, and the key, and declare the views",
        )
    hidden = [record["name"] for record in read if not record["readable"]]
    # With none, PostgreSQL's own error follows, with the grant for the table.
    if hidden and len(hidden) < len(records):
        columns, role = ", ".join(hidden), await _role(connection)
        raise SourceError(
            f"{role} may not read column {columns} of table {name}",
            where=where,
            fix=f"as its owner: grant select ({columns}) on {name} to {role}; or leave the column out: "
            f"exclude=({', '.join(repr(column) for column in hidden)},)",
        )
    if records[0]["relation_kind"] == "v" and not table.sees_a_part:
        view = await connection.fetchval("select to_regclass($1)::oid", table.catalogued)
        await _refuse_by_who_asks(connection, [view], where)


async def _role(connection: Connection[Record]) -> str:
    return str(await connection.fetchval("select current_user"))


async def _refuse_query(connection: Connection[Record], records: Sequence[Record], table: Table, where: str) -> None:
    if not records:
        raise _unfit("the declared query has no columns", where, "name some: select id, total from …")
    read = [record for record in records if table.reads(record["name"])]
    if len(read) + len(METADATA_NAMES) > _MOST_COLUMNS:
        raise _unfit(
            f"the declared query has {len(read)} columns, and raw can have {_MOST_COLUMNS - len(METADATA_NAMES)}",
            where,
            "name those that are needed",
        )
    if table.sees_a_part:
        return
    if word := asks_who_reads(table):
        raise SourceError(
            f"the declared query uses {word}, so it may show our role a part of the rows, and rows that it hides later "
            "would look deleted",
            where=where,
            fix="write it without that, quote it if it is a column's name, or declare sees_a_part=True to load what "
            "our role sees",
        )
    await _refuse_by_who_asks(connection, await views_read(connection), where)


async def _refuse_by_who_asks(connection: Connection[Record], views: Sequence[int], where: str) -> None:
    found = await connection.fetchrow(_BY_WHO_ASKS, views)
    if found is not None:
        raise SourceError(
            f"view {found['name']} uses {found['word']}, so it may show our role a part of the rows, and rows that it "
            "hides later would look deleted",
            where=where,
            fix="declare the table below it, or a view without that; or declare sees_a_part=True to load what our role "
            "sees",
        )


def refuse_shape(shape: Shape, table: Table, where: str, at_source: Sequence[str]) -> None:
    """Raises:
    SourceError: a declared column is not among those `at_source`, or a column has the name of one of raw's metadata
        columns.
    """
    refuse_unknown_columns(table, at_source, where)
    missing = [name for name in table.named_columns if shape.column(name) is None]
    if missing:
        what = "key, cursor or partition" if isinstance(table.load, Overwrite) else "key or cursor"
        raise SourceError(
            f"the declared {what} column {', '.join(missing)} is not in the table",
            where=where,
            fix="correct the declaration in flows/sources, or ask the source's owner about the column",
        )
    if taken := sorted(set(shape.names) & set(METADATA_NAMES)):
        raise SourceError(
            f"the table has a column {', '.join(taken)}, which is reserved for raw's metadata",
            where=where,
            fix="leave it out: exclude=(…); or create a view at the source that renames it, and declare the view",
        )


async def refuse_condition(connection: Connection[Record], table: Table, where: str) -> None:
    """Raises:
    SourceError: the declared condition is no SQL for this table.
    """
    try:
        await connection.execute(f"select from {table.relation} where {table.within('true')} limit 0")
    except (asyncpg.SyntaxOrAccessError, asyncpg.DataError) as problem:
        if isinstance(problem, asyncpg.InsufficientPrivilegeError):
            raise
        raise SourceError(
            f"the declared condition is refused by the source: {Answer.of(problem)}",
            where=where,
            fix="try it there: select count(*) from … where …, then correct where=… in flows/sources",
        ) from None


def _unfit(what: str, where: str, fix: str) -> SourceError:
    error = SourceError(what, where=where, fix=fix)
    error.failure_class = FailureClass.SCHEMA
    return error
