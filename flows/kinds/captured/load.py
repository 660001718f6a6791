"""One load of a captured PostgreSQL table, in one snapshot with its change table.

The change table is a queue without an order: what the snapshot shows of it is what is read, and exactly those rows are
deleted after the warehouse's commit. A transaction that commits later leaves its rows for the next load, whatever their
ids are. Rows of the table are read as the snapshot has them, so reading a key twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import asyncpg

from flows.access.addresses import connect
from flows.access.sessions import pinned
from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import CONNECTION_LOST
from flows.kinds.captured.gone import close_quarantined, create_gone, gone_of_truncate
from flows.kinds.captured.plan import CapturedPlan, as_copied, count_removed, last_token, refuse_meanwhile
from flows.kinds.captured.state import State
from flows.kinds.postgres.masks import give_key
from flows.kinds.postgres.stage import carry_out
from flows.kinds.postgres.table import CopyStream
from flows.landing import copy
from flows.landing.table import create_landing
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.values.errors import SourceUnavailable
from flows.values.identifiers import quote_identifier
from flows.values.plan import LoadCounts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Note = Callable[["Connection[Record]", int], Awaitable[None]]
# Transactions that saw that recording had stopped may go on without recording.
_WAIT_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.1
_DELETED_AT_ONCE = 1_000
# Ids without a gap, as one run each.
_RUNS = """
select min(capture_id) as first, max(capture_id) as last
from (select capture_id, capture_id - row_number() over (order by capture_id) as run from {changes}) as c
group by run order by 1
"""


async def load_captured(run: LoadRun[Database, Table], planned: CapturedPlan) -> Loaded:
    """Carry out the plan."""
    where = run.target.where
    if planned.lost is not None:
        with run.session.reading():
            removed = await _begin_again(run.origin, planned.state, where)
        planned.identity["captured"]["removed"] = removed
    async with connect(run.source_address, side="source", application=f"medallion read {where}") as beside:
        reading = _Reading(run, planned, beside)
        return await carry_out(reading.captured(), replace(planned.batch, snapshot=reading.snapshot))


async def _begin_again(origin: Connection[Record], state: State, where: str) -> int:
    """Empty the change table, and wait for every transaction that may have found it full. Returns its counter then.

    A load that is killed from here on finds the counter moved, and begins here again.

    Raises:
        SourceUnavailable: a transaction stays open.
    """
    try:
        async with origin.transaction():
            await origin.execute("set transaction read write")
            # Writers of the table queue behind this lock.
            await origin.execute("set local lock_timeout = '2s'")
            await origin.execute(f"truncate {state.names.changes}")
        removed, upcoming = await count_removed(origin, state), await origin.fetchval(_UPCOMING)
        async with asyncio.timeout(_WAIT_SECONDS):
            while await origin.fetchval(_OLDEST) < upcoming:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY_SECONDS)  # only the server knows
    except (asyncpg.LockNotAvailableError, TimeoutError):
        raise SourceUnavailable(
            "the change table cannot be emptied, or changes recorded reliably, while a transaction that has written "
            "stays open",
            where=where,
            fix="the load is retried automatically; end that transaction: pg_stat_activity and pg_prepared_xacts show "
            "it",
            retryable=True,
        ) from None
    return removed


_UPCOMING = "select txid_snapshot_xmax(txid_current_snapshot())"
_OLDEST = "select txid_snapshot_xmin(txid_current_snapshot())"


@dataclass(slots=True)
class _Reading:
    """A second session, whose snapshot the read shares: it reads the change table."""

    run: LoadRun[Database, Table]
    planned: CapturedPlan
    beside: Connection[Record]
    _truncated: bool = False

    async def snapshot(self) -> str:
        """Export it, once the table is locked, and note what it shows of the change table."""
        run, where = self.run, self.run.target.where
        if self.beside.is_in_transaction():
            await self.beside.execute("rollback")
        await self.beside.execute(
            f"begin isolation level repeatable read read only; {pinned(self.beside, f'medallion read {where}')}"
        )
        await give_key(self.beside, run.table)
        exported = str(await self.beside.fetchval("select pg_export_snapshot()"))
        seen = await last_token(self.beside, self.planned.state)
        refuse_meanwhile(self.planned.taken.seen, seen, where)
        changes = self.planned.state.names.changes
        self._truncated = await self.beside.fetchval(f"select exists (select from {changes} where capture_op = 'T')")
        found = await self.beside.fetch(_RUNS.format(changes=changes))
        self.planned.taken.runs[:] = [(row["first"], row["last"]) for row in found]
        return exported

    def captured(self) -> LoadRun[Database, Table]:
        """The run, of which each part is published with the keys that are gone."""
        reading, run = self, self.run

        class Capturing(LoadRun[Database, Table]):
            async def publish(self, part: Staged, note: Note | None = None) -> LoadCounts:
                taken = reading.planned.taken.runs
                upper = str(taken[-1][1]) if taken else None
                following = replace(part.window.next, value=upper or "0", identity=reading.planned.identity)
                part = replace(part, window=replace(part.window, next=following, lower=None, upper=upper))
                if reading.planned.in_full:
                    return await run.publish(part, note)
                return await run.publish(*await reading.with_gone(part, note))

        given = {name: getattr(run, name) for name in LoadRun.__dataclass_fields__ if name != "table"}
        return Capturing(**given, table=as_copied(run.table))

    async def with_gone(self, part: Staged, note: Note | None) -> tuple[Staged, Note | None]:
        """The part with the recorded keys that the table no longer has."""
        run, target, warehouse, table = self.run, self.run.target, self.run.warehouse, self.run.table
        shape, names = part.shape, self.planned.state.names
        keys = [column for key in table.keys if (column := shape.column(key))]
        quoted = ", ".join(quote_identifier(key) for key in table.keys)
        typed = ", ".join(f"{quote_identifier(key.name)}::{key.type}" for key in self.planned.state.statements.keys)
        relation = await create_gone(warehouse, target, shape, table.keys)
        # `except` treats keys as the change table has them; masks are applied to what is left.
        stream = CopyStream(
            self.beside,
            f"select {', '.join(key.select for key in keys)} from ("
            f"select {typed} from {names.changes} where capture_op not in ('T', 'L') "
            f"except select {quoted} from {table.relation} where {table.within(self.planned.batch.window.condition)}"
            f") as gone ({quoted})",
        )
        with run.session.reading():
            async with contextlib.aclosing(stream.__aiter__()) as chunks:
                gone = await copy.copy_into(warehouse, f"{target.landing_name}__g", table.keys, chunks)
        if not part.is_landed and (gone or self._truncated):
            await create_landing(warehouse, target, shape, first=False)
            part = replace(part, is_landed=True)
        if self._truncated:
            await gone_of_truncate(warehouse, target, table.keys, shape)
        if gone or self._truncated:
            await close_quarantined(warehouse, target, table.keys, shape)

        async def noted(connection: Connection[Record], batch_id: int) -> None:
            if note is not None:
                await note(connection, batch_id)
            await connection.execute(f"drop table {relation}")

        return replace(part, gone=relation if part.is_landed else None), noted


async def acknowledge(run: LoadRun[Database, Table], planned: CapturedPlan) -> None:
    """Delete from the change table what the load has read, and nothing else: unless another load did so meanwhile,
    which the next one notices.

    If that fails, what is committed stays: the same keys are read again with the next load.
    """
    runs, names = planned.taken.runs, planned.state.names
    if not runs:
        return
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, *CONNECTION_LOST):
        async with writing(run.origin) as origin:
            done = await origin.execute(
                f"update {names.read} set token = $1 where token = $2", planned.taken.token, planned.taken.seen
            )
            if done != "UPDATE 1":
                return
            for place in range(0, len(runs), _DELETED_AT_ONCE):
                some = runs[place : place + _DELETED_AT_ONCE]
                await origin.execute(
                    f"delete from {names.changes} as c using unnest($1::bigint[], $2::bigint[]) as r (first, last) "
                    "where c.capture_id between r.first and r.last",
                    [first for first, _ in some],
                    [last for _, last in some],
                )


@asynccontextmanager
async def writing(origin: Connection[Record]) -> AsyncIterator[Connection[Record]]:
    """A transaction that deletes from change tables as ours: their guard does not count it."""
    if origin.is_in_transaction():
        await origin.execute("rollback")
    async with origin.transaction():
        await origin.execute("set transaction read write; set local medallion.acknowledges = 'on'")
        yield origin
