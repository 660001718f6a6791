"""Positions in the log, and what a table's position belongs to.

A table's position is the value of its row in `ops.cursors`, and commits with its rows: every transaction whose commit
record begins below it is in raw, quarantine or tombstones. `identity` has beside what other cursors have:

    {"log": {"slot": …, "publication": …,           what its changes come from
             "keys": [rows, fingerprint]}}          the keys that the source had at this position
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flows.values.plan import CursorState, KeySet

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def number(position: str) -> int:
    """`16/B374D848` as a number."""
    high, _, low = position.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def text(position: int) -> str:
    """The other way round, as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def of(state: CursorState) -> int | None:
    """The stored position; None if the table's rows are not from the log."""
    return number(state.value) if state.value is not None and "log" in state.identity else None


def at(
    position: int, identity: Mapping[str, Any], origin: Mapping[str, str], keys: KeySet | None = None
) -> CursorState:
    """The state to store with rows up to this position. `identity`: the source's and the table's; `origin`: slot and
    publication."""
    log: dict[str, Any] = dict(origin)
    if keys is not None and keys.fingerprint is not None:
        log["keys"] = [keys.rows, str(keys.fingerprint)]
    return CursorState(text(position), identity={**identity, "log": log})


def keys_of(state: CursorState) -> KeySet | None:
    """The keys that the source had at the stored position, if they are known."""
    found = state.identity.get("log", {}).get("keys")
    return KeySet(int(found[0]), Decimal(found[1])) if found else None


_POSITIONS = """
select c.table_name, c.cursor_value, c.identity -> 'log' ->> 'slot' as slot
from ops.cursors as c
where c.source_system = $1 and c.identity ? 'log'
"""


async def positions(warehouse: Connection[Record], source: str, tables: Iterable[str]) -> dict[str, int | None]:
    """The positions of these tables, of those that have one. None: its first snapshot is being read."""
    wanted = set(tables)
    return {
        row["table_name"]: number(row["cursor_value"]) if row["cursor_value"] is not None else None
        for row in await warehouse.fetch(_POSITIONS, source)
        if row["table_name"] in wanted
    }


_CLAIM = """
insert into ops.cursors (source_system, table_name, batch_id, identity)
values ($1, $2, $3, '{"log": {}}')
on conflict (source_system, table_name) do update set
    identity = coalesce(ops.cursors.identity, '{}') || '{"log": {}}', cursor_value = null
"""


async def hold(warehouse: Connection[Record], source: str, table: str, batch_id: int) -> None:
    """Note that a snapshot of the table is being read: until its position is stored, the slot must not advance."""
    await warehouse.execute(_CLAIM, source, table, batch_id)


async def forget(warehouse: Connection[Record], source: str, table: str) -> None:
    """The table no longer needs the log: its next load compares it. For a table that keeps the slot from advancing."""
    await warehouse.execute(
        "update ops.cursors set cursor_value = null, identity = identity - 'log' "
        "where source_system = $1 and table_name = $2",
        source,
        table,
    )
