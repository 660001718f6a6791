"""Stored cursors, shown and moved by a person: with a preview, and under the lock of the table's loads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.access import addresses
from flows.declare.source import Loadable, Source
from flows.kinds.registry import kind_of
from flows.landing.table import Target, raw_columns
from flows.state import ledger, table_locks
from flows.values.errors import DeclarationError, LoadLocked
from flows.values.plan import CursorState, LoadPlan
from flows.verbs.find import choose, find_source, find_table
from flows.verbs.reload import request_in

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# What is stored with a cursor and is true of the rows in raw, whatever the cursor.
_OF_RAW = ("masked", "limited")


@dataclass(frozen=True, slots=True)
class StoredCursor:
    """A table's stored cursor, and what it belongs to (`identity`, see `flows.publish.identity`).

    `words`: what the value is, if it is none of the cursor's.
    """

    table: str
    value: str | None
    batch_id: int | None = None
    updated_at: datetime | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    words: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A cursor before and after; the next load's plan from there, and its rows (None: the source cannot tell).

    `goes_back`: rows are read again; otherwise rows in between are skipped. None if it was not stored, or is removed.
    """

    table: str
    before: str | None
    after: str | None
    plan: LoadPlan
    rows: int | None
    goes_back: bool | None = None
    applied: bool = False


async def stored_cursors(names: list[str] | None) -> list[StoredCursor]:
    """The stored cursors of the chosen tables, in declared order. Changes nothing.

    Raises:
        DeclarationError: a source or table is not declared.
    """
    found = []
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        for name, tables in choose(names).items():
            source = find_source(name)
            for table in source.tables:
                if tables is None or table.name in tables:
                    words = kind_of(source).words(table).stored
                    found.append(replace(await _stored(warehouse, name, table.name), words=words))
    return found


async def _stored(warehouse: Connection[Record], source: str, table: str) -> StoredCursor:
    state = await ledger.read_cursor(warehouse, source, table)
    row = await warehouse.fetchrow(
        "select batch_id, updated_at from ops.cursors where source_system = $1 and table_name = $2", source, table
    )
    batch_id, updated_at = (row["batch_id"], row["updated_at"]) if row else (None, None)
    return StoredCursor(f"{source}.{table}", state.value, batch_id, updated_at, state.identity)


async def move_cursor(name: str, value: str | None, by: str, *, only_plan: bool = False) -> Move:
    """Store another value (None: have the next load begin from the beginning), and plan the next load from there.

    With `only_plan` nothing is stored. Either way no load of the table runs meanwhile.

    Raises:
        DeclarationError: the table is not declared or was never loaded, its cursor cannot be moved, the value is not
            one of its column's type, or rows would be in raw twice.
        LoadLocked: a load of the table is running.
    """
    source, table = find_table(name)
    target = Target(source.name, table.name, source.raw_schema)
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        kind = _refuse_unmovable(source, table, value, name)
        raw = await raw_columns(warehouse, target)
        if raw is None:
            raise DeclarationError(
                "the table was never loaded, so its next load reads all rows anyway",
                where=name,
                fix=f"`medallion run {name}`",
            )
        async with _locked(warehouse, target):
            before = await _stored(warehouse, source.name, table.name)
            after = None if value is None else await _of_type(warehouse, value, raw[kind], name)
            goes_back = None
            if after is not None and before.value is not None:
                goes_back = await warehouse.fetchval(
                    f"select $1::text::{raw[kind]} < $2::text::{raw[kind]}", after, before.value
                )
            if not table.keys and (after is None or goes_back):
                raise DeclarationError(
                    "without a key, rows that are read again would be in raw twice",
                    where=name,
                    fix=f"declare the key, or make the raw table again: `medallion reload {name} --recreate`",
                )
            # It is a value of the cursor that is declared now, for all partitions; of which source, is known.
            kept = {part: facts for part, facts in before.identity.items() if part not in ("cursor", "path", "parts")}
            set_by = {"set": {"by": by, "at": datetime.now(UTC).isoformat()}}
            identity = {**kept, **set_by} if after else {part: kept[part] for part in _OF_RAW if part in kept}
            transaction = warehouse.transaction()
            await transaction.start()
            await ledger.save_cursor(
                warehouse, source.name, table.name, CursorState(after, identity=identity), before.batch_id or 0
            )
            planned = await _plan(warehouse, source, table)
            await (transaction.rollback() if only_plan else transaction.commit())
    return Move(name, before.value, after, *planned, goes_back, applied=not only_plan)


def _refuse_unmovable(source: Source, table: Loadable, value: str | None, name: str) -> str:
    """The column in whose type the cursor's value is; empty for a reset."""
    column: str | None = getattr(table, "cursor_column", None)
    if not kind_of(source).cursor_decides or table.cursor is None or (value is not None and column is None):
        raise DeclarationError(
            "no stored value that a person could write decides where a load of this table begins",
            where=name,
            fix=f"`medallion reload {name}` has the next load read all rows",
        )
    return column or ""


async def _of_type(warehouse: Connection[Record], value: str, kind: str, name: str) -> str:
    try:
        return str(await warehouse.fetchval(f"select $1::text::{kind}::text", value))
    except asyncpg.DataError:
        raise DeclarationError(
            f"the value is not of type {kind}", where=name, fix="write it as `medallion cursor show` does"
        ) from None


@asynccontextmanager
async def _locked(warehouse: Connection[Record], target: Target) -> AsyncIterator[None]:
    if not await table_locks.lock_table(warehouse, target.source, target.table):
        raise LoadLocked(
            "a load of the table is running",
            where=target.where,
            fix="wait for it to end, then run this again",
            retryable=True,
        )
    try:
        yield
    finally:
        if not warehouse.is_closed() and not warehouse.is_in_transaction():
            await table_locks.unlock_table(warehouse, target.source, target.table)


async def _plan(warehouse: Connection[Record], source: Source, table: Loadable) -> tuple[LoadPlan, int | None]:
    kind, where = kind_of(source), f"{source.name}.{table.name}"
    async with kind.open(source, kind.address(source), where) as origin:
        planned = await kind.plan(warehouse, origin, source, table)
        waiting = await kind.waiting(warehouse, origin, planned)
    return planned.plan, waiting.rows


async def plan_reload(names: Sequence[str], by: str) -> list[Move]:
    """What `medallion reload` would have the next load of each table read. Nothing is requested.

    Raises:
        DeclarationError: as `request_reload`.
        LoadLocked: a load of a table is running.
    """
    moves = []
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        for name in names:
            source, table = find_table(name)
            target = Target(source.name, table.name, source.raw_schema)
            async with _locked(warehouse, target):
                transaction = warehouse.transaction()
                await transaction.start()
                await request_in(warehouse, name, by)
                before = await ledger.read_cursor(warehouse, source.name, table.name)
                planned = await _plan(warehouse, source, table)
                await transaction.rollback()
            moves.append(Move(name, before.value, planned[0].upper, *planned))
    return moves
