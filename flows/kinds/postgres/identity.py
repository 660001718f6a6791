"""What a cursor of a PostgreSQL source belongs to: server, timeline, database, table, columns, and the newest position.

Read from the catalogue, in a few milliseconds for any table size. What a role may not see is left out, not compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.declare import Sequence
from flows.declare.query import normalized
from flows.declare.table import Table
from flows.kinds.postgres.queries import read_otherwise, tables_read
from flows.publish.identity import Doubt, cursor_doubt, declared_cursor, declared_masks, digest
from flows.values.errors import SourceUnavailable
from flows.values.identifiers import quote_identifier
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_FACTS = """
select
    current_database()::text as database,
    (select d.oid::bigint from pg_database as d where d.datname = current_database()) as database_id,
    pg_is_in_recovery() as standby,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint as transaction,
    c.oid::bigint as id,
    c.relkind::text as kind,
    case when c.relkind = 'r' then pg_relation_filenode(c.oid)::bigint end as file,
    case when c.relkind in ('v', 'm') then md5(pg_get_viewdef(c.oid)) end as definition,
    (
        select coalesce(json_agg(json_build_object(
            'name', a.attname,
            'place', a.attnum,
            'type', format_type(a.atttypid, a.atttypmod),
            'generated', case when a.attgenerated <> '' then md5(pg_get_expr(d.adbin, d.adrelid)) end,
            'is_own', t.typnamespace <> 'pg_catalog'::regnamespace
        ) order by a.attnum), '[]')::text
        from pg_attribute as a
        inner join pg_type as t on t.oid = a.atttypid
        left join pg_attrdef as d on a.attgenerated <> '' and d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns
from (select) as one
left join pg_class as c on c.oid = to_regclass($1)
"""
_OWN_TYPES, _SEQUENCES = (
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("own_types.sql", "sequences.sql")
)
_SYSTEM = "select (pg_control_system()).system_identifier::text as system"
_REPLAYED = (
    "select (pg_control_checkpoint()).timeline_id::bigint as timeline, pg_last_wal_replay_lsn()::text as position"
)
_WRITTEN = (
    "select ('x' || left(pg_walfile_name(w.position), 8))::bit(32)::bigint as timeline, w.position::text as position "
    "from pg_current_wal_flush_lsn() as w (position)"
)
# A managed server may refuse them, each by itself.
_REFUSED = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # a standby that was promoted in between
)
# Of a rewritten table, so many rows are looked at for one that is older than the last load.
_ROWS_LOOKED_AT = 100


async def identify(connection: Connection[Record], table: Table, shape: Shape) -> dict[str, Any]:
    """The identity of the table and its source now, as JSON. Not in a snapshot: what is asked for moves on."""
    relation = table.catalogued
    facts = await connection.fetchrow(_FACTS, relation)
    assert facts is not None  # the left join always answers one row
    server, log = await _server(connection, _REPLAYED if facts["standby"] else _WRITTEN)
    return {
        "where": digest(table.where),
        "query": digest(normalized(table.query)),
        "reads": await tables_read(connection, table),
        "masked": declared_masks(table),
        "cursor": declared_cursor(table, shape),
        "source": {
            "system": server and server["system"],
            "timeline": log and log["timeline"],
            "position": log and log["position"],
            "standby": facts["standby"],
            "database": facts["database"],
            "database_id": facts["database_id"],
            "transaction": facts["transaction"],
        },
        "table": {name: facts[name] for name in ("id", "kind", "file", "definition")},
        "sequences": await _sequences(connection, relation, table),
        "columns": _of_query(shape) if table.query else await _columns(connection, table, json.loads(facts["columns"])),
    }


async def _server(connection: Connection[Record], log: str) -> tuple[Record | None, Record | None]:
    """The server's identity and the state of its WAL: both at once, or what of them it does not refuse."""
    both = await _unless_refused(connection, f"select * from ({_SYSTEM}) as server cross join ({log}) as log")
    if both is not None:
        return both, both
    return await _unless_refused(connection, _SYSTEM), await _unless_refused(connection, log)


async def _unless_refused(connection: Connection[Record], query: str) -> Record | None:
    """The query's row; None if the server refuses it, in which case a transaction goes on."""
    within = connection.is_in_transaction()
    if within:
        await connection.execute("savepoint unless_refused")
    try:
        return await connection.fetchrow(query)
    except _REFUSED:
        if within:
            await connection.execute("rollback to savepoint unless_refused")
        return None


async def _sequences(connection: Connection[Record], relation: str | None, table: Table) -> dict[str, list[Any]]:
    if not isinstance(table.cursor, Sequence):
        return {}
    found = await connection.fetch(_SEQUENCES, relation, table.cursor.column)
    return {row["id"]: [row["file"], row["last"], row["is_tied"]] for row in found}


def _of_query(shape: Shape) -> dict[str, dict[str, Any]]:
    """Columns of a query have no place of their own; an enum's labels stand by theirs."""
    columns: dict[str, dict[str, Any]] = {column.name: {"at": 0, "type": column.raw_type} for column in shape.columns}
    for column in shape.columns:
        if column.enum is not None:
            columns[column.name]["labels"] = {str(place): label for place, label in enumerate(column.labels)}
    return columns


async def _columns(
    connection: Connection[Record], table: Table, at_source: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    found = [row for row in at_source if table.reads(row["name"])]
    columns: dict[str, dict[str, Any]] = {row["name"]: {"at": row["place"], "type": row["type"]} for row in found}
    for row in found:
        if row["generated"]:
            columns[row["name"]]["generated"] = row["generated"]
    if any(row["is_own"] for row in found):
        for own in await connection.fetch(_OWN_TYPES, table.catalogued):
            # Labels of a masked column are its values in plain, and what raw has of them is text.
            if table.reads(own["name"]) and own["name"] not in table.masked:
                columns[own["name"]] |= json.loads(own["meaning"])
    return columns


async def doubt(
    connection: Connection[Record], table: Table, stored: Mapping[str, Any], now: Mapping[str, Any], where: str
) -> Doubt | None:
    """Why rows below the stored cursor may differ from those in raw; None if nothing says so.

    Raises:
        SourceUnavailable: the source is a standby that is behind what an earlier load has seen.
    """
    if not stored.get("source"):
        return None  # saved before version 11
    found = _other_source(stored["source"], now["source"], where) or cursor_doubt(stored, now)
    if found:
        return found
    then, today = stored["table"], now["table"]
    if then["id"] != today["id"]:
        return Doubt("the table was recreated since the last load")
    if then["definition"] != today["definition"]:
        return Doubt("the view was redefined since the last load", cursor_holds=True)
    if other := read_otherwise(stored.get("reads") or {}, now["reads"]):
        return Doubt(other[0], cursor_holds=other[1])
    restarted = _restarted(stored.get("sequences", {}), now["sequences"])
    if restarted and isinstance(table.cursor, Sequence):
        return Doubt(restarted)
    if changed := _other_columns(stored["columns"], now["columns"], has_file=today["file"] is not None):
        return Doubt(changed, cursor_holds=True)
    if then["file"] != today["file"] and await _is_rewritten(connection, table, stored, now):
        return Doubt("the table was emptied or rewritten since the last load", cursor_holds=True)
    return None


def same_source(stored: Mapping[str, Any], now: Mapping[str, Any], where: str) -> bool:
    """Whether rows staged by an earlier attempt are of the source, the table and the declaration of now."""
    if any((stored.get(part) or None) != (now.get(part) or None) for part in ("where", "query", "masked")):
        return False
    if not stored.get("source") or not now.get("source"):
        return stored.get("source") == now.get("source")
    then, today = stored["table"], now["table"]
    return _other_source(stored["source"], now["source"], where) is None and then["id"] == today["id"]


def _other_source(then: Mapping[str, Any], now: Mapping[str, Any], where: str) -> Doubt | None:
    def known(name: str) -> bool:
        return then.get(name) is not None and now.get(name) is not None

    if known("system") and then["system"] != now["system"]:
        return Doubt("the source is on another server than at the last load (another system identifier)")
    if known("database_id") and then["database_id"] != now["database_id"]:
        return Doubt(f"the source's database was {then['database']} and is {now['database']} now, or was recreated")
    behind = known("position") and _position(now["position"]) < _position(then["position"])
    behind = behind or (known("transaction") and now["transaction"] < then["transaction"])
    if behind and now["standby"] and not (known("timeline") and now["timeline"] > then["timeline"]):
        raise SourceUnavailable(
            "the source is a standby that has not yet replayed what an earlier load has seen",
            where=where,
            fix="the load is retried automatically; if it stays behind, name another server in the source's URL, or "
            f"accept its state with `medallion reload {where} --recreate`",
            retryable=True,
        )
    # A standby's control file names its timeline only from its next restart point on.
    if known("timeline") and (
        now["timeline"] > then["timeline"] or (now["timeline"] < then["timeline"] and not now["standby"])
    ):
        return Doubt(
            f"the source was restored or failed over since the last load (timeline {then['timeline']} → "
            f"{now['timeline']})"
        )
    return Doubt("the source was restored to an earlier state than the last load has seen") if behind else None


def _position(text: str) -> int:
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _restarted(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """`setval` keeps the sequence's file, so it is noticed only while the sequence is behind what was seen."""
    for sequence, (file, last, _) in now.items():
        if sequence in then and (then[sequence][0] != file or _is_less(last, then[sequence][1])):
            return "the sequence of the cursor's column was restarted since the last load"
    return None


def _is_less(now: int | None, then: int | None) -> bool:
    return now is not None and then is not None and now < then


def _other_columns(then: Mapping[str, Any], now: Mapping[str, Any], *, has_file: bool) -> str | None:
    """The first column whose values may have changed without any of its rows being written."""
    for name, column in now.items():
        before = then.get(name)
        if before is None:
            continue  # a new column: see `returned` and `has_value_outside`
        if before["at"] != column["at"]:
            return f"column {name} was dropped and made again, or renamed, since the last load"
        for label in (before.get("labels") or {}).items():
            if (column.get("labels") or {}).get(label[0]) != label[1]:
                return f"labels of the enum in column {name} were renamed or replaced since the last load"
        for kind, said in (("checks", "domain"), ("parts", "composite type")):
            if before.get(kind) != column.get(kind) and before["type"] == column["type"]:
                return f"the {said} of column {name} was changed since the last load"
        if before.get("generated") != column.get("generated"):
            return f"the expression that generates column {name} was changed since the last load"
        if not has_file and before["type"] != column["type"]:
            return f"the type of column {name} was changed since the last load"
    return None


async def newest_is_old(
    connection: Connection[Record], table: Table, stored: Mapping[str, Any], now: Mapping[str, Any]
) -> bool:
    """Whether the row with the cursor's highest value was there at the last load: then newer ones were deleted."""
    if not stored.get("source") or now["table"]["kind"] not in ("r", "p"):
        return False
    name = quote_identifier(str(table.cursor_column))
    return bool(
        await connection.fetchval(
            f"select age(xmin) > $1 from {table.relation} where {name} is not null order by {name} desc limit 1",
            now["source"]["transaction"] - stored["source"]["transaction"],
        )
    )


async def _is_rewritten(
    connection: Connection[Record], table: Table, stored: Mapping[str, Any], now: Mapping[str, Any]
) -> bool:
    """Whether all rows looked at were written after the last load: `vacuum full` and `cluster` keep what wrote a row,
    `truncate` with a reload and a rewriting `alter table` do not."""
    passed = now["source"]["transaction"] - stored["source"]["transaction"]
    return not await connection.fetchval(
        f"select coalesce(bool_or(age(r.xmin) > $1), false) from (select xmin from "
        f"{table.relation} limit {_ROWS_LOOKED_AT}) as r",
        passed,
    )
