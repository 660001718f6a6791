"""What a cursor of another database belongs to, as far as the engine says: server, sequence, and columns.

MySQL, MariaDB    the server's id, or a transaction history that contains the one seen; types with labels; the next
                  auto-increment number
SQL Server        the recovery fork, which each restore changes; the last identity number
SQLite            nothing: a file that was replaced is noticed only while it is behind
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from flows.declare import Sequence
from flows.declare.database import Engine
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.table import ForeignTable
from flows.publish.identity import Doubt, cursor_doubt, declared_cursor, declared_masks, digest
from flows.values.errors import SourceError

# Each by itself: versions and privileges differ.
_SERVER: dict[Engine, dict[str, str]] = {
    "mysql": {
        "server": "select cast(@@server_uuid as char(64)) as v",
        "server_uid": "select cast(@@server_uid as char(64)) as v",
        "history": "select cast(@@gtid_current_pos as char(4000)) as v",
        "database": "select cast(database() as char(64)) as v",
    },
    "mssql": {
        "server": "select convert(varchar(36), recovery_fork_guid) as v from sys.database_recovery_status "
        "where database_id = db_id()",
        "database": "select convert(varchar(130), db_name()) as v",
    },
    "sqlite": {},
}
_NUMBERED: dict[Engine, str] = {
    "mysql": "select cast(auto_increment as char(24)) as v from information_schema.tables "
    "where table_schema = {schema} and table_name = {table}",
    "mssql": "select convert(varchar(24), ident_current({qualified})) as v",
    "sqlite": "select cast(seq as text) as v from sqlite_sequence where name = {table}",
}
_SPELLED = (
    "select cast(column_name as char(64)) as name, cast(column_type as char(4000)) as spelled "
    "from information_schema.columns where table_schema = {schema} and table_name = {table}"
)
_LABEL = re.compile(r"'(?:[^']|'')*'")


async def identify(reader: Reader, described: ForeignTable) -> dict[str, Any]:
    """The identity of the table and its source now, as JSON."""
    dialect, table = reader.dialect, described.table
    plain = table.schema == "public"
    names = {
        "schema": ("database()" if dialect.engine == "mysql" else "schema_name()") if plain
        else dialect.literal(table.schema),
        "table": dialect.literal(table.at_source),
        "qualified": dialect.literal(table.at_source if plain else f"{table.schema}.{table.at_source}"),
    }  # fmt: skip
    source = {name: await _value(reader, query) for name, query in _SERVER[dialect.engine].items()}
    spelled: dict[str, str] = {}
    if dialect.engine == "mysql":
        rows = await reader.rows(_SPELLED.format(**names))
        spelled = {str(row["name"]): str(row["spelled"]) for row in rows}
    return {
        "where": digest(table.where),
        "masked": declared_masks(table),
        "cursor": declared_cursor(table, described.shape),
        "source": {name: value for name, value in source.items() if value},
        "numbered": await _value(reader, _NUMBERED[dialect.engine].format(**names)),
        # How a masked enum is spelled are its values in plain.
        "columns": [
            [column.name, "" if column.name in table.masked else spelled.get(column.name, "")]
            for column in described.columns
        ],
    }


async def _value(reader: Reader, query: str) -> str | None:
    try:
        rows = await reader.rows(query)
    except SourceError as problem:
        if problem.retryable:
            raise
        return None  # this version or role cannot tell
    return None if not rows or rows[0]["v"] is None else str(rows[0]["v"])


def doubt(described: ForeignTable, stored: Mapping[str, Any], now: Mapping[str, Any]) -> Doubt | None:
    """Why rows below the stored cursor may differ from those in raw; None if nothing says so."""
    if not stored.get("columns"):
        return None  # saved before version 11
    found = _other_source(stored.get("source", {}), now["source"]) or cursor_doubt(stored, now)
    if found:
        return found
    then, today = stored.get("numbered"), now["numbered"]
    if isinstance(described.table.cursor, Sequence) and then and today and int(today) < int(then):
        return Doubt("the sequence of the table was restarted since the last load")
    changed = _other_columns([tuple(one) for one in stored["columns"]], [tuple(one) for one in now["columns"]])
    return Doubt(changed, cursor_holds=True) if changed else None


def _other_source(then: Mapping[str, str], now: Mapping[str, str]) -> Doubt | None:
    if "history" in then and "history" in now:
        if _contains(now["history"], then["history"]):
            return None  # also after a failover, to a copy that has everything that was seen
        return Doubt("the source was restored or failed over to a copy that lacks what the last load has seen")
    for name in ("server", "server_uid", "database"):
        if name in then and name in now and then[name] != now[name]:
            return Doubt("the source is another server or database than at the last load, or was restored")
    return None


def _contains(now: str, then: str) -> bool:
    """Whether MariaDB's positions, a number per domain (`0-1-100,1-2-7`), are all as far as they were."""

    def numbers(text: str) -> dict[str, int]:
        parts = [part.split("-") for part in text.split(",") if part.count("-") == 2]
        return {domain: int(number) for domain, _, number in parts}

    today = numbers(now)
    return all(today.get(domain, -1) >= number for domain, number in numbers(then).items())


def _other_columns(then: list[tuple[str, str]], now: list[tuple[str, str]]) -> str | None:
    before, today = dict(then), dict(now)
    kept = [name for name, _ in then if name in today]
    place = {name: index for index, (name, _) in enumerate(now)}
    for one, other in pairwise(kept):
        if place[one] > place[other]:
            return f"column {one} was dropped and made again, or moved, since the last load"
    for name in kept:
        labels, later = _LABEL.findall(before[name]), _LABEL.findall(today[name])
        if labels and later[: len(labels)] != labels:
            return f"labels of the enum in column {name} were renamed or replaced since the last load"
    return None
