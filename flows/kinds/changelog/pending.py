"""Keys that have changed at the source since raw's position: a comparison counts them as pending."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.sides import Sides
from flows.kinds.answers import Ends
from flows.kinds.changelog import position
from flows.kinds.changelog.capture import captured, look
from flows.kinds.changelog.changes import Wanted
from flows.kinds.changelog.inbox import log_locked
from flows.kinds.changelog.reading import pour
from flows.kinds.postgres.compare.both_ends import Ends as Snapshots
from flows.kinds.postgres.compare.compare import Pending
from flows.landing.table import LANDING_SCHEMA, Target
from flows.state import ledger
from flows.values.checksum import Key
from flows.values.errors import MedallionError
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@asynccontextmanager
async def pending_keys(ends: Ends[Database, Table]) -> AsyncIterator[Pending]:
    """Answers which keys are pending. The log is read with the first question, after both snapshots were taken."""
    target = Target(ends.source.name, ends.table.name, ends.source.raw_schema)
    relation: str | None = None
    async with contextlib.AsyncExitStack() as opened:
        connections: list[Connection[Record]] = []

        async def pending(snapshots: Snapshots, keys: Sequence[Key]) -> set[Key]:
            nonlocal relation
            if relation is None:
                connections.append(await opened.enter_async_context(connect(ends.warehouse, side="warehouse")))
                relation = await _changed(ends, target, snapshots, connections[0])
            if not relation and await _is_loaded_meanwhile(connections[0], target, snapshots):
                return set(keys)  # the log no longer has what raw's snapshot does not have yet
            return await _among(connections[0], relation, ends.table, keys) if relation else set()

        yield pending
        if relation:
            await connections[0].execute(f"drop table if exists {relation}")


async def _is_loaded_meanwhile(warehouse: Connection[Record], target: Target, snapshots: Snapshots) -> bool:
    """Whether a load has moved the table's position since raw's snapshot."""
    state = await ledger.read_cursor(warehouse, target.source, target.table)
    return position.of(state) != position.of(snapshots.state)


async def _changed(
    ends: Ends[Database, Table], target: Target, snapshots: Snapshots, warehouse: Connection[Record]
) -> str:
    """A table of the changes since the position of raw's snapshot; empty if the log does not have them."""
    at = position.of(snapshots.state)
    async with connect(ends.address, side="source", application=f"medallion reconcile {ends.where}") as origin:
        capture = await look(origin, ends.source)
        if at is None or capture.problem or not capture.is_readable or (capture.confirmed or 0) > at:
            return ""
        try:
            of_log = await captured(origin, capture, ends.table, None, ends.where)
        except MedallionError:
            return ""  # the next load refuses it, and a comparison says what differs
        wanted = Wanted(target, of_log.id, at, "__p")
        async with log_locked(warehouse, ends.source, ends.where):
            await pour(warehouse, origin, Sides(), capture, [wanted])
    relation = qualified(LANDING_SCHEMA, wanted.inbox)
    return relation


async def _among(warehouse: Connection[Record], relation: str, table: Table, keys: Sequence[Key]) -> set[Key]:
    if not await warehouse.fetchval(f"select exists (select from {relation})"):
        return set()
    if await warehouse.fetchval(f"select exists (select from {relation} where _log_op = 'T')"):
        return set(keys)  # any row may have gone with it
    names = ", ".join(f"c.{quote_identifier(key)}" for key in table.keys)
    arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(table.keys, 1))
    rows = await warehouse.fetch(
        f"select distinct {names} from {relation} as c where ({names}) in (select * from unnest({arrays}))",
        *([key[number] for key in keys] for number, _ in enumerate(table.keys)),
    )
    return {tuple(row.values()) for row in rows}
