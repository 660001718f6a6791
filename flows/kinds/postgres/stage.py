"""One load of one table: staged in one read, in chunks, or window by window, and published."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import CONNECTION_LOST
from flows.kinds.postgres.large.chunks import RunChunk, Threads
from flows.kinds.postgres.large.gathering import open_gathering
from flows.kinds.postgres.large.slices import refuse_rewritten, share_snapshot
from flows.kinds.postgres.large.windows import Windows
from flows.kinds.postgres.large.within_budget import admit
from flows.kinds.postgres.moved import bring_moved
from flows.kinds.postgres.plan import TablePlan
from flows.kinds.postgres.queries import refuse_unlocked
from flows.kinds.postgres.reading import join_reading, settled, start_reading, stop_reading
from flows.kinds.postgres.rows import land, stage_keys, way_of
from flows.kinds.postgres.table import CopyStream, key_set, select_rows
from flows.kinds.postgres.unchanged import count_equal
from flows.kinds.postgres.undecodable import read_undecodable
from flows.landing.drift import fit_to_raw
from flows.landing.table import SchemaChange, Stamp, ensure_types, stamp_landing
from flows.observe.metrics import peak_memory_bytes
from flows.publish.evolution import described_changes, record_held
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.quality import open_rows
from flows.quality.quarantine import Unreadable
from flows.state import ledger
from flows.values.plan import KeySet, LoadCounts, Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def carry_out(run: LoadRun[Database, Table], planned: TablePlan) -> Loaded:
    """Stage what is planned and publish it.

    Memory does not grow with the table: rows pass as COPY's bytes, about 1 MB at a time. `run.run_chunk` stages a chunk
    of a large table (None: in threads of this process).
    """
    load, reading = _Load(run, planned), planned.plan.reading
    if reading.how == "windows":
        counts, changes, chunks = await load.window_by_window()
    elif reading.how == "chunks" and (run.run_chunk is None or reading.readers == 1):
        threads = Threads(run.address, run.source_address, run.source, run.table, reading.readers)
        try:
            counts, changes, chunks = await load.at_once(threads)
        finally:
            threads.close()
    else:
        counts, changes, chunks = await load.at_once(run.run_chunk)
    return Loaded(planned.plan, counts, described_changes(changes, planned.held), chunks)


class _Load:
    """One running load, from its plan to its counts."""

    def __init__(self, run: LoadRun[Database, Table], planned: TablePlan) -> None:
        assert planned.plan.shape is not None  # plan_table always describes
        self.run, self.session, self.table = run, run.session, planned.table
        self.origin: Connection[Record] = run.origin
        self.plan, self.window = planned.plan, planned.window
        self.changes, self.volume = planned.changes, planned.volume
        self.shape: Shape = planned.plan.shape
        self.held, self.unique = planned.held, planned.unique
        self.first, self.limit = planned.first, planned.limit
        self.keeps_cursor, self.renews, self.unwritten = planned.keeps_cursor, planned.renews, planned.unwritten
        self.snapshot = planned.snapshot
        self._received = 0
        self._is_landed = True

    async def at_once(self, run_chunk: RunChunk | None) -> tuple[LoadCounts, tuple[SchemaChange, ...], int]:
        """Stage everything, publish once."""
        # The window was chosen before this snapshot: transactions open then cannot commit rows below its bound.
        # No rollback on failure: after an aborted read asyncpg accepts no more statements, and the connection is closed
        # here anyway.
        await self._start_reading()
        await self._prepare()
        if self.unwritten and (equal := await self._equal_rows()) is not None:
            staged = replace(await self._staged(self.window, equal, 0, KeySet(equal), ()), equals_raw=True)
            return await self._published(staged), staged.changes, 1
        resumed = False
        # The read is complete, so the source's keys need not be read separately.
        whole = self.plan.reading.how == "whole" and (self.plan.strategy == "reload" or self.window.lower is None)
        whole = whole and self.limit is None
        if self.plan.reading.how == "chunks":
            assert run_chunk is not None
            # Taken first: everything read from the source from here on is in this snapshot.
            with self.session.reading():
                await refuse_rewritten(self.origin, self.table, self.plan, self.volume)
                snapshot = await share_snapshot(self.origin)
            extracted_at = datetime.now(UTC).isoformat()
            if not self.plan.reading.restarts:
                self.run.spending.admit(self.plan.reading.rows, self.plan.reading.bytes)
            gathering = await open_gathering(self.run, self.plan, self.window, self.volume, extracted_at)
            self.session.pass_failpoint("after_landing_created")
            self.window, resumed = gathering.window, bool(gathering.chunks)
            await gathering.run(snapshot, run_chunk, self.run)
            rows, received, chunks = gathering.rows, gathering.bytes, len(gathering.chunks)
            stamp = Stamp(extracted_at, self.session.batch_id)
            await stamp_landing(self.session.warehouse, self.session.target, stamp)
        else:
            if self.limit is None:
                await admit(self.run, self.plan.reading, self.window)
            rows, received = await self._stage(self.window, unless_empty=not whole and await self._needs_rows())
            chunks = 1
        if self.plan.strategy == "overwrite":
            moved = await bring_moved(self.session, self.origin, self.table, self.shape, self.window)
            rows, received = rows + moved[0], received + moved[1]
        unreadable = await self._undecodable(self.window)
        whole = whole and not unreadable
        staged = replace(
            await self._staged(self.window, rows, received, None, unreadable),
            whole=whole,
            is_landed=self._is_landed,
            # A row that changed between the snapshots of two attempts may have landed twice.
            may_repeat=resumed,
            drops_copies=resumed,
        )
        # Also of chunks: it proves that they are the full table.
        return await self._published(staged, counts=not whole and self.limit is None), staged.changes, chunks

    async def _published(self, staged: Staged, *, counts: bool = False) -> LoadCounts:
        """Publish, and end the read. `counts`: the source's keys are counted for the comparison."""
        if counts and self.table.query:
            staged, counts = replace(staged, source_keys=await self._source_keys(self.window)), False
        with self.session.reading():
            await refuse_unlocked(self.origin, self.table, self.session.target.where)
        async with self._counting(staged) if counts else contextlib.nullcontext(staged) as counted:
            published = await self.run.publish(counted)
        # The session is kept for the next table; that the source went away meanwhile is no failure of this load.
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, *CONNECTION_LOST):
            await stop_reading(self.origin)
        return published

    @contextlib.asynccontextmanager
    async def _counting(self, staged: Staged) -> AsyncIterator[Staged]:
        """The source counts its keys while the warehouse checks and writes rows: each waited for the other before, a
        fifth of the time that a merge of 200,000 rows into 2 million takes."""
        counting = asyncio.ensure_future(key_set(self.origin, self.table, self.shape, self.window.below))

        async def counted() -> KeySet:
            with self.session.reading():
                return await asyncio.shield(counting)  # a publish that is tried again asks again

        try:
            yield replace(staged, count_source=counted)
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)

    async def _equal_rows(self) -> int | None:
        """The number of rows, if both ends have the same; else nothing is known of when that was."""
        if self.session.is_resumed:
            return None  # an interrupted read is resumed
        equal = await count_equal(self.session, self.origin, self.table, self.shape)
        if not self.origin.is_in_transaction():
            await self._start_reading()
        if equal is None:
            # The next load does not compare digests in vain for the same reason.
            identity = {name: fact for name, fact in self.window.next.identity.items() if name != "written"}
            self.window = replace(self.window, next=replace(self.window.next, identity=identity))
        return equal

    async def window_by_window(self) -> tuple[LoadCounts, tuple[SchemaChange, ...], int]:
        """Stage and publish chunk by chunk in the cursor's order, each with its own cursor and its own batch.

        Each is read in its own snapshot, so the source can vacuum in between. Chunks end below the horizon seen before
        the first, so no new rows can appear below them.
        """
        windows = Windows(self.table, self.plan, self.window, self.run.spending)
        with self.session.reading():
            async with settled(self.origin, self.run.source, self.table):
                await windows.cut(self.origin)
        total = LoadCounts()
        changes: tuple[SchemaChange, ...] = ()
        for part in windows:
            began, memory = time.monotonic(), peak_memory_bytes()
            await self._start_reading()
            await self._prepare()
            source_keys = await self._source_keys(part.window) if part.is_last else None
            rows, received = await self._stage(part.window)
            unreadable = await self._undecodable(part.window)
            staged = await self._staged(part.window, rows, received, source_keys, unreadable)
            staged = replace(staged, more_follow=not part.is_last)
            if not part.is_last:
                staged = replace(staged, stage_keys=None)
            counts = await self.run.publish(staged, part.recorded(rows, received, began))
            total, changes, self.changes = counts.after(total), changes + staged.changes, []
            with self.session.reading():
                await stop_reading(self.origin)
            windows.learn(part, received, time.monotonic() - began, peak_memory_bytes() - memory)
            if not part.is_last:
                self.session.pass_failpoint("after_chunk_commit")
                await self.run.next_batch(self.plan)
                await ledger.note_strategy(
                    self.session.warehouse, self.session.batch_id, self.plan.strategy, self.plan.reading.volume
                )
                windows.stop_if_exhausted(part.window.upper)
        return total, changes, windows.count

    async def _start_reading(self) -> None:
        with self.session.reading():
            if self.snapshot is not None:
                await join_reading(self.origin, self.run.source, self.table, self.snapshot, self.shape)
                return
            await start_reading(self.origin, self.run.source_address, self.run.source, self.table, self.shape)

    async def _prepare(self) -> None:
        session = self.session
        # Raw's schema is there once a table is.
        if self.first or any(column.enum is not None for column in self.shape.columns):
            self.changes = self.changes + await ensure_types(session.warehouse, session.target, self.shape)
        await record_held(session, self.held)

    async def _source_keys(self, window: Window) -> KeySet:
        with self.session.reading():
            return await key_set(self.origin, self.table, self.shape, window.below)

    async def _needs_rows(self) -> bool:
        """Whether without rows there is nothing to do: raw has all below the cursor, in the columns of now."""
        if self.plan.strategy not in ("merge", "append") or self.first or self.limit is not None or self.renews:
            return False
        if self.changes or self.held or self.shape.undecodable or self.window.lower is None:
            return False
        target = self.session.target
        return not await open_rows.needs_landing(self.session.warehouse, target.landing, table=target.name)

    async def _stage(self, window: Window, *, unless_empty: bool = False) -> tuple[int, int]:
        """Copy the window's rows into a new landing table; returns their number and bytes."""
        extracted_at = datetime.now(UTC).isoformat()
        stream = CopyStream(
            self.origin, select_rows(self.table, self.shape, window.condition, self.limit), self._received
        )
        self._is_landed = await land(
            self.session,
            self.shape,
            stream,
            extracted_at,
            self.run.on_progress,
            first=self.first,
            unless_empty=unless_empty,
        )
        self._received += stream.bytes
        return stream.rows, stream.bytes

    async def _undecodable(self, window: Window) -> tuple[Unreadable, ...]:
        if self.limit is not None:
            return ()  # a full load reads them
        with self.session.reading():
            where = self.session.target.where
            found = await read_undecodable(self.origin, self.table, self.shape, window.condition, where)
        self.session.rows_read += len(found)
        return found

    async def _staged(
        self, window: Window, rows: int, received: int, source_keys: KeySet | None, unreadable: tuple[Unreadable, ...]
    ) -> Staged:
        table, plan = self.table, self.plan
        keys = functools.partial(stage_keys, self.session, self.origin, table, self.shape, window)
        shape, drift = await fit_to_raw(self.session.warehouse, self.session.target, self.shape, self.held)
        return Staged(
            load=way_of(table, plan.strategy, limited=self.limit is not None),
            shape=shape,
            keys=table.keys,
            window=window,
            first=self.first,
            rows_read=rows + len(unreadable),
            received_bytes=received,
            extracted_at=datetime.now(UTC).isoformat(),
            cursor=table.cursor_column,
            rules=(*drift, *table.rules),
            rereads=plan.strategy == "reload",
            tolerance=table.tolerance,
            max_deleted=table.max_deleted,
            changes=tuple(self.changes),
            unreadable=unreadable,
            source_keys=source_keys,
            compared_by=table.compared_by,
            on_duplicate=table.on_duplicate,
            unique_at_source=self.unique,
            marks_deleted=table.deletes,
            stage_keys=keys if table.compared_by else None,
            moves_cursor=not self.keeps_cursor,
            limited=self.limit is not None,
            renews=self.renews,
        )
