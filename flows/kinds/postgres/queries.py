"""A query as a table: its columns, what it reads, and the proof that all of that was locked before the snapshot.

When PostgreSQL parses a query, it locks every table that the query names, and those below its views, until the end of
the transaction. So the locks of the session are a list of them. Only tables that a function reads come later: those are
found when the query has run, and the load is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.declare.query import words
from flows.declare.table import Table
from flows.values.errors import FailureClass, SourceError
from flows.values.sqlstates import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncpg import Connection, Record

#: The source's answers to a query that is none, is more than one that reads, or is not allowed.
REFUSED = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DataError,
)

_COLUMNS = (Path(__file__).parent / "columns.sql").read_text(encoding="utf-8")
# Of the table $2; and of a query with the names $2 and types $3.
_OF_TABLE = """
select
    a.attnum as place, a.attname as name, a.atttypid as type_id, a.atttypmod as modifier, not a.attnotnull as nullable,
    has_column_privilege(c.oid, a.attnum, 'select') as readable, c.relkind::text as relation_kind,
    c.reltuples::bigint as estimated_rows
from pg_class as c
left join pg_attribute as a on c.oid = a.attrelid and a.attnum > 0 and not a.attisdropped
where c.oid = to_regclass($2)
"""
_OF_QUERY = """
select
    place, name, type_id, -1 as modifier, true as nullable, true as readable, 'q' as relation_kind,
    -1::bigint as estimated_rows
from unnest($2::text[], $3::oid[]) with ordinality as q (name, type_id, place)
"""
_LOCKED = """
from pg_locks as l
inner join pg_class as c on c.oid = l.relation
where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.granted
    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid >= 16384
    and c.relnamespace <> all(array['pg_catalog', 'information_schema', 'pg_toast']::regnamespace[])
"""
_SETTING = "medallion.locked"
_NOTE = f"select set_config('{_SETTING}', coalesce(json_agg(c.oid::bigint), '[]')::text, true) {_LOCKED}"
# A partition that was attached meanwhile is read, and was not there before.
_SINCE = (
    f"select distinct c.oid::regclass::text as name {_LOCKED} and not c.relispartition and c.oid::bigint not in "
    f"(select o::bigint from json_array_elements_text(current_setting('{_SETTING}')::json) as o) order by 1"
)
_READ = (
    "select distinct c.oid::regclass::text as name, c.oid::bigint as id, "
    "case when c.relkind in ('v', 'm') then md5(pg_get_viewdef(c.oid)) end as definition, "
    "case when c.relkind in ('r', 'm') then c.relfilenode::bigint end as file, "
    "(select md5(string_agg(a.attnum || ' ' || format_type(a.atttypid, a.atttypmod), ',' order by a.attnum)) "
    "from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns "
    f"{_LOCKED} "
    "and not c.relispartition order by 1"
)
# Only a read reaches the server of a foreign table, and locks the table there.
_FOREIGN = f"""
select distinct c.relnamespace::regnamespace::text || '.' || quote_ident(c.relname) as name {_LOCKED}
    and c.relkind = 'f' and has_table_privilege(c.oid, 'select') order by 1
"""
_VIEWS = f"select distinct c.oid {_LOCKED} and c.relkind = 'v'"
_WHO_ASKS = frozenset(
    ("current_user", "session_user", "current_role", "system_user", "user", "current_setting", "pg_has_role",
     "row_security_active")
)  # fmt: skip


async def table_columns(connection: Connection[Record], table: Table) -> list[Record]:
    """The table's columns, see `columns.sql`; none if it does not exist."""
    return list(await connection.fetch(_COLUMNS.format(found=_OF_TABLE), table.name, table.catalogued))


async def query_columns(connection: Connection[Record], table: Table, where: str) -> list[Record]:
    """The query's columns, as those of a table; its types have no modifiers.

    Raises:
        SourceError: the source refuses the query; two of its columns have one name, or one has none.
    """
    try:
        prepared = await connection.prepare(f"select * from {table.relation} limit 0")
    except REFUSED as problem:
        raise refused_query(problem, where) from None
    found = prepared.get_attributes()
    names = [column.name for column in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(
            f"the declared query has several columns of the name {', '.join(repeated)}",
            where=where,
            fix="name each in the query: select a.id as a_id, b.id as b_id",
        )
    types = [column.type.oid for column in found]
    return list(await connection.fetch(_COLUMNS.format(found=_OF_QUERY), table.name, names, types))


def refused_query(problem: asyncpg.PostgresError, where: str) -> Exception:
    """What to raise for a query that the source refuses; a missing grant stays what it is."""
    if isinstance(problem, asyncpg.InsufficientPrivilegeError):
        return problem
    error = SourceError(
        f"the declared query is refused by the source: {Answer.of(problem)}",
        where=where,
        fix="try it there, with the role that loads; then correct query=… in flows/sources",
    )
    error.failure_class = FailureClass.SCHEMA
    return error


def asks_who_reads(table: Table) -> str | None:
    """The word by which the query may show each role other rows."""
    asked = words(table.query)
    return next((word for word in sorted(asked) if word in _WHO_ASKS or word.endswith("_privilege")), None)


async def views_read(connection: Connection[Record]) -> list[int]:
    """The views that the query of this transaction reads."""
    return [row["oid"] for row in await connection.fetch(_VIEWS)]


async def lock_foreign(connection: Connection[Record], table: Table) -> None:
    """Read a row of each foreign table that the query of this transaction names."""
    if table.query:
        for row in await connection.fetch(_FOREIGN):
            await connection.execute(f"select 1 from {row['name']} limit 1")


async def note_locked(connection: Connection[Record], table: Table) -> None:
    """Note in the transaction what the query has locked so far, before anything is read."""
    if table.query:
        await connection.execute(_NOTE)


async def refuse_unlocked(connection: Connection[Record], table: Table, where: str) -> None:
    """After the query was read.

    Raises:
        SourceError: it has read tables that were not locked before its snapshot.
    """
    if not table.query:
        return
    if late := [row["name"] for row in await connection.fetch(_SINCE)]:
        raise SourceError(
            f"a function in the declared query reads {', '.join(late)}, which is not locked before the query's "
            "snapshot: a load beside a rewrite of it would take its rows for deleted ones",
            where=where,
            fix="write in the query itself what the function reads, or leave the function out",
        )


async def tables_read(connection: Connection[Record], table: Table) -> dict[str, dict[str, Any]]:
    """What the query of this transaction reads, as it is stored with its cursor; nothing for a table."""
    if not table.query:
        return {}
    found = await connection.fetch(_READ)
    facts = ("id", "definition", "file", "columns")
    return {row["name"]: {fact: row[fact] for fact in facts} for row in found}


def read_otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, bool] | None:
    """Why rows below a cursor may differ, and whether later ones are still found by it."""
    for name, facts in now.items():
        if name not in then:
            continue
        if then[name]["id"] != facts["id"]:
            return f"{name}, which the query reads, was recreated since the last load", False
        if then[name]["definition"] != facts["definition"]:
            return f"view {name}, which the query reads, was redefined since the last load", True
        # A table may have been filled again with rows below the cursor, and its sequences may have been restarted.
        if "file" in then[name] and then[name]["file"] != facts["file"]:
            return f"{name}, which the query reads, was emptied or rewritten since the last load", False
        if "columns" in then[name] and then[name]["columns"] != facts["columns"]:
            return f"columns of {name}, which the query reads, were changed since the last load", True
    return None
