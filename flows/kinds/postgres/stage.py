"""One load of one database table: lock, plan, stage, check, publish."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare import Merge, Overwrite
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.large.chunks import RunChunk, Threads
from flows.kinds.postgres.large.gathering import open_gathering
from flows.kinds.postgres.large.slices import share_snapshot
from flows.kinds.postgres.large.windows import Windows
from flows.kinds.postgres.moved import bring_moved
from flows.kinds.postgres.plan import Planned, plan_table
from flows.kinds.postgres.rows import land
from flows.kinds.postgres.table import CopyStream, key_set, select_keys, select_rows
from flows.landing import copy
from flows.landing.drift import fit_to_raw
from flows.landing.table import LANDING_SCHEMA, SchemaChange, Target, ensure_types, stamp_landing
from flows.observe.metrics import peak_memory_bytes
from flows.publish.evolution import described_changes, record_held
from flows.publish.path import mode_of
from flows.publish.publish import Staged, check_and_publish
from flows.publish.session import LoadResult, LoadSession, Progress, load_session
from flows.state import ledger
from flows.values.connection import DatabaseConnection
from flows.values.identifiers import qualified
from flows.values.plan import KeySet, LoadCounts, Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record


__all__ = ["load_table", "mode_of", "plan_table"]


async def load_table(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
    run_chunk: RunChunk | None = None,
) -> LoadResult:
    """Bring raw up to date with the source's table.

    Memory does not grow with the table: rows pass as COPY's bytes, about 1 MB at a time. `run_chunk` has a chunk of a
    large table staged (None: in threads of this process).

    Raises:
        MedallionError: see `flows.values.errors`; what was committed before stays, and nothing partial is left.
    """
    target = Target(source.name, table.name, source.raw_schema)
    threads = None
    async with load_session(warehouse_address, target, mode_of(table), "planned", run_id, resumes=True) as session:
        session.side = "source"
        async with connect(origin_address, side="source", application=f"medallion read {target.where}") as origin:
            planned = await plan_table(session.warehouse, origin, source, table)
            plan = planned.plan
            load = _Load(warehouse_address, session, origin, table, planned, on_progress)
            if plan.reading.how == "windows":
                counts, changes, chunks = await load.window_by_window()
            else:
                if plan.reading.how == "chunks" and (run_chunk is None or plan.reading.readers == 1):
                    threads = Threads(warehouse_address, origin_address, source, table, plan.reading.readers)
                    run_chunk = threads
                try:
                    counts, changes, chunks = await load.at_once(run_chunk)
                finally:
                    if threads is not None:
                        threads.close()
        return session.result(plan, counts, described_changes(changes, planned.held), chunks)


class _Load:
    """One load under way, from its plan to its counts."""

    def __init__(
        self,
        address: DatabaseConnection,
        session: LoadSession,
        origin: Connection[Record],
        table: Table,
        planned: Planned,
        on_progress: Progress | None,
    ) -> None:
        assert planned.plan.shape is not None  # plan_table always describes
        self.address, self.session, self.origin, self.table = address, session, origin, table
        self.plan, self.window, self.changes, self.volume = (
            planned.plan,
            planned.window,
            planned.changes,
            planned.volume,
        )
        self.shape: Shape = planned.plan.shape
        self.held = planned.held
        self.on_progress = on_progress
        self._received = 0

    async def at_once(self, run_chunk: RunChunk | None) -> tuple[LoadCounts, tuple[SchemaChange, ...], int]:
        """Stage everything, publish once."""
        # The window was chosen before this snapshot: whatever was still open then cannot hide below its bound.
        # No rollback when something fails: after a read that was cut short asyncpg takes no more statements, and
        # the connection ends here anyway.
        await self.origin.transaction(isolation="repeatable_read", readonly=True).start()
        await self._prepare()
        source_keys: KeySet | None = None
        # What is read is all that raw must hold: its keys need not be asked for beside it.
        whole = self.plan.reading.how == "whole" and (self.plan.path == "reread" or self.window.lower is None)
        if self.plan.reading.how == "chunks":
            assert run_chunk is not None
            # Taken first: whatever is asked of the source from here on is asked of this snapshot.
            self.session.side = "source"
            snapshot = await share_snapshot(self.origin, self.table)
            extracted_at = datetime.now(UTC).isoformat()
            gathering = await open_gathering(
                self.session, self.origin, self.table, self.plan, self.window, self.volume, extracted_at
            )
            self.session.pass_failpoint("after_landing_created")
            self.window = gathering.window
            await gathering.run(snapshot, run_chunk, self.on_progress)
            rows, received, chunks = gathering.rows, gathering.bytes, len(gathering.chunks)
            await stamp_landing(self.session.warehouse, self.session.target, extracted_at, self.session.batch_id)
            # Counted by itself: that the chunks are the table is what there is to prove.
            source_keys = await self._source_keys(self.window)
        else:
            if not whole:
                source_keys = await self._source_keys(self.window)
            rows, received = await self._stage(self.window)
            chunks = 1
        if self.plan.path == "overwrite":
            moved = await bring_moved(self.session, self.origin, self.table, self.shape, self.window)
            rows, received = rows + moved[0], received + moved[1]
        self.session.pass_failpoint("after_copy")
        staged = replace(await self._staged(self.window, rows, received, source_keys), whole=whole)
        counts = await check_and_publish(self.address, self.session, staged)
        return counts, staged.changes, chunks

    async def window_by_window(self) -> tuple[LoadCounts, tuple[SchemaChange, ...], int]:
        """Stage and publish chunk by chunk in the cursor's order, each with its own cursor and its own batch.

        Each is read in a snapshot of its own, so the source may clean up in between. Chunks end below the horizon
        that was seen before the first, so nothing can appear behind them.
        """
        windows = Windows(self.table, self.plan, self.window)
        await windows.cut(self.origin)
        total = LoadCounts()
        changes: tuple[SchemaChange, ...] = ()
        for part in windows:
            began, memory = time.monotonic(), peak_memory_bytes()
            transaction = self.origin.transaction(isolation="repeatable_read", readonly=True)
            await transaction.start()
            await self._prepare()
            self.session.side = "source"
            source_keys = await self._source_keys(part.window) if part.is_last else None
            rows, received = await self._stage(part.window)
            self.session.pass_failpoint("after_copy")
            staged = await self._staged(part.window, rows, received, source_keys)
            staged = replace(staged, more_follow=not part.is_last)
            if not part.is_last:
                staged = replace(staged, stage_keys=None)
            counts = await check_and_publish(self.address, self.session, staged, part.recorded(rows, received, began))
            total, changes, self.changes = counts.after(total), changes + staged.changes, []
            self.session.side = "source"
            await transaction.rollback()
            self.session.side = "warehouse"
            windows.learn(part, received, time.monotonic() - began, peak_memory_bytes() - memory)
            if not part.is_last:
                self.session.pass_failpoint("after_chunk_commit")
                self.session.batch_id = await ledger.open_load(
                    self.session.warehouse,
                    self.session.run_id,
                    self.plan.source,
                    self.plan.table,
                    self.plan.mode,
                    self.plan.path,
                )
        return total, changes, windows.count

    async def _prepare(self) -> None:
        session = self.session
        session.side = "warehouse"
        await ledger.note_path(session.warehouse, session.batch_id, self.plan.path, self.plan.reading.volume)
        self.changes = self.changes + await ensure_types(session.warehouse, session.target, self.shape)
        await record_held(session, self.held)

    async def _source_keys(self, window: Window) -> KeySet:
        self.session.side = "source"
        return await key_set(self.origin, self.table, self.shape, window.below)

    async def _stage(self, window: Window) -> tuple[int, int]:
        """Copy the window's rows into a new landing table; returns their number and bytes."""
        extracted_at = datetime.now(UTC).isoformat()
        stream = CopyStream(self.origin, select_rows(self.table, self.shape, window.condition))
        first = self.plan.path == "first"
        await land(self.session, self.shape, stream, extracted_at, self.on_progress, first=first, before=self._received)
        self._received += stream.bytes
        return stream.rows, stream.bytes

    async def _stage_keys(self) -> str:
        session, target = self.session, self.session.target
        session.side = "source"
        async with contextlib.aclosing(aiter(CopyStream(self.origin, select_keys(self.table, self.shape)))) as keys:
            await copy.copy_keys(session.warehouse, target, self.shape, self.table.keys, keys)
        session.side = "warehouse"
        return qualified(LANDING_SCHEMA, copy.keys_table(target))

    async def _staged(self, window: Window, rows: int, received: int, source_keys: KeySet | None) -> Staged:
        table, plan = self.table, self.plan
        self.session.side = "warehouse"
        shape, drift = await fit_to_raw(self.session.warehouse, self.session.target, self.shape, self.held)
        return Staged(
            # An append leaves rows alone that are there, which is what a reread is to mend.
            load=Merge() if plan.path == "reread" and not isinstance(table.load, Overwrite) else table.load,
            shape=shape,
            keys=table.keys,
            window=window,
            first=plan.path == "first",
            rows_read=rows,
            received_bytes=received,
            extracted_at=datetime.now(UTC).isoformat(),
            cursor=table.cursor_column,
            rules=(*drift, *table.rules),
            rereads=plan.path == "reread",
            tolerance=table.tolerance,
            max_deleted=table.max_deleted,
            changes=tuple(self.changes),
            source_keys=source_keys,
            stage_keys=self._stage_keys if table.deletes else None,
        )
