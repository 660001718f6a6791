"""One load of one database table: lock, plan, stage, check, publish."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.connections import connect
from flows.extract.postgres import CopyStream, describe, has_value_outside, key_set, select_keys, select_rows
from flows.extract.slices import share_snapshot
from flows.extract.volume import Volume
from flows.extract.window import window as read_window
from flows.load import landing
from flows.load.drift import fit_to_raw
from flows.load.table import LANDING_SCHEMA, SchemaChange, Target, ensure_types, raw_columns, stamp_landing
from flows.loads.chunks import RunChunk, Threads
from flows.loads.evolution import described_changes, drift_since, no_longer_held, record_held, returned
from flows.loads.gathering import open_gathering
from flows.loads.moved import bring_moved
from flows.loads.publishing import Staged, check_and_publish
from flows.loads.reading import plan_reading
from flows.loads.session import LoadResult, LoadSession, Progress, load_session
from flows.loads.staging import land
from flows.loads.windows import Windows
from flows.observe.metrics import peak_memory_bytes
from flows.spec import Database, DatabaseConnection, Merge, Overwrite, Table
from flows.spec.identifiers import qualified
from flows.spec.plan import CursorState, KeySet, LoadCounts, LoadPlan, Window
from flows.spec.shape import Shape
from flows.state import ledger

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def mode_of(table: Table) -> str:
    """`merge`, `append`, `replace` or `overwrite`."""
    return type(table.load).__name__.lower()


@dataclass(frozen=True, slots=True)
class Planned:
    """A table's next load: the plan for people, and what carrying it out needs.

    `changes` of the source's columns reach raw, those `held` do not.
    """

    plan: LoadPlan
    window: Window
    changes: list[SchemaChange]
    volume: Volume
    held: list[SchemaChange]


async def plan_table(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
) -> Planned:
    """What a load of the table would do now. Reads both ends and touches neither."""
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    state = CursorState()
    verdict: tuple[str | None, str | None] = (None, None)
    if raw is not None:
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        verdict = await ledger.last_verdict(warehouse, source.name, table.name)
    shape = await describe(origin, source.name, source.raw_schema, table)
    window = await read_window(origin, table, shape, state)
    changes, held = await drift_since(warehouse, target, shape, raw, table)
    path, reason = mode_of(table), _reason(table, window)
    if raw is None:
        path, reason = "first", "first load: the landing table becomes the raw table"
        if isinstance(table.load, Overwrite):
            window = replace(window, condition="true", below="true", lower=None, earlier=0)
    elif window.lower is not None:
        told_apart = bool(table.keys) or isinstance(table.load, Overwrite)
        added = [change.column for change in changes if change.change == "added"]
        back = returned(changes)
        if back or (added and await has_value_outside(origin, table, added, window.condition)):
            columns, kept = ", ".join(added + back), "old values" if back else "null"
            if told_apart:
                path, reason = "reread", f"rows that would be passed over may differ in new column {columns}"
            else:
                # Without a key a row read again would stand there twice.
                window = replace(window, warning=f"rows in raw keep {kept} in new column {columns}: they have no key")
        elif verdict[0] == "missing in raw" and verdict[1] != "reread" and told_apart:
            path, reason = "reread", "the last load found rows missing in raw"
        elif told_apart and (fitting := await no_longer_held(warehouse, target, held)):
            path, reason = "reread", f"rows that waited in quarantine for column {', '.join(fitting)} may fit now"
    if path == "reread":
        whole = "true" if window.below == "true" or isinstance(table.load, Overwrite) else window.below
        window = replace(window, condition=whole, below=whole)
    coming = [f"{change.column} {change.change}" for change in changes if change.change != "dropped"]
    if coming:
        reason += f"; columns: {', '.join(coming)}"
    if held:
        reason += f"; held back from raw: {', '.join(f'{change.column} {change.change}' for change in held)}"
    reading, volume = await plan_reading(origin, table, shape, window, path)
    plan = LoadPlan(
        source=source.name,
        table=table.name,
        mode=mode_of(table),
        path=path,
        reason=reason if reading.volume == "small" else f"{reason}; {reading}",
        lower=window.lower,
        upper=window.upper,
        shape=shape,
        warning=window.warning,
        reading=reading,
    )
    return Planned(plan, window, changes, volume, held)


def _reason(table: Table, window: Window) -> str:
    if isinstance(table.load, Overwrite) and window.lower is not None:
        earlier = f", and {window.earlier} earlier in which rows changed" if window.earlier else ""
        return f"overwrite {table.load}{earlier}"
    if table.cursor is not None and not isinstance(table.load, Overwrite):
        return f"{mode_of(table)} what changed"
    return "the whole table, written where it differs"


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
        MedallionError: see `flows.spec.errors`; what was committed before stays, and nothing partial is left.
    """
    target = Target(source.name, table.name, source.raw_schema)
    started = time.monotonic()
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
        return LoadResult(
            source=source.name,
            table=table.name,
            batch_id=session.batch_id,
            mode=plan.mode,
            path=plan.path,
            seconds=time.monotonic() - started,
            counts=counts,
            lower=plan.lower,
            upper=plan.upper,
            schema_changes=described_changes(changes, planned.held),
            warning=plan.warning,
            volume=plan.reading.volume,
            chunks=chunks,
        )


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
            await landing.copy_keys(session.warehouse, target, self.shape, self.table.keys, keys)
        session.side = "warehouse"
        return qualified(LANDING_SCHEMA, landing.keys_table(target))

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
            max_quarantined=table.max_quarantined,
            max_deleted=table.max_deleted,
            changes=tuple(self.changes),
            source_keys=source_keys,
            stage_keys=self._stage_keys if table.deletes else None,
        )
