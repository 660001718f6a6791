"""One load of one table: its rows staged as Arrow batches written as CSV, and published."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from flows.declare import Append, Merge, Overwrite, Replace
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.databases import rows
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.plan import ForeignPlan
from flows.kinds.databases.rows import Measure
from flows.kinds.databases.table import ForeignTable
from flows.kinds.databases.types import TypedColumn
from flows.kinds.databases.window import Bounds
from flows.landing import copy
from flows.landing.csv import to_csv
from flows.landing.drift import fit_to_raw
from flows.landing.table import LANDING_SCHEMA, Target, create_landing, ensure_types
from flows.publish.evolution import described_changes, record_held
from flows.publish.run import Loaded, LoadRun
from flows.publish.session import LoadSession, Progress
from flows.publish.staged import Staged
from flows.quality.quarantine import Unreadable
from flows.state import compared
from flows.values.errors import DataRefused, SourceError
from flows.values.identifiers import qualified
from flows.values.plan import KeySet
from flows.values.shape import METADATA_NAMES

# Rows that do not fit are read one by one. More of them than this indicate a wrong type rather than bad rows.
_MOST_UNFIT = 1_000
_UNFIT_RULE = "value_fits_type"


async def carry_out(run: LoadRun[Database, Table], planned: ForeignPlan) -> Loaded:
    """Stage what is planned and publish it. Memory: one chunk of rows."""
    session, reader = run.session, run.origin
    with session.reading():
        # The window was chosen before this snapshot: transactions open then cannot commit rows below its bound.
        await reader.begin()
        measured = await rows.measure(reader, planned.described, planned.bounded)
        if planned.limit is not None:
            measured = replace(measured, unfit={})  # what does not fit is left to a full load
        _refuse_misfits(measured, run.target.where)
    if planned.limit is None:
        run.spending.admit(measured.rows)
    staged = await _stage(run, planned, measured)
    # The source is no longer needed: its transaction ends before the warehouse's begins.
    reader.close()
    counts = await run.publish(staged)
    if run.table.keys:
        await session.warehouse.execute(f"drop table if exists {_keys_relation(run.target)}")
    return Loaded(planned.plan, counts, described_changes(staged.changes, planned.held))


def _keys_relation(target: Target) -> str:
    return qualified(LANDING_SCHEMA, copy.keys_table(target))


def _refuse_misfits(measured: Measure, where: str) -> None:
    if sum(measured.unfit.values()) <= _MOST_UNFIT:
        return
    listed = ", ".join(f"{column}: {rows}" for column, rows in measured.unfit.items())
    raise DataRefused(
        f"values do not fit their columns' types in raw ({listed})",
        where=where,
        fix=f'declare as_text=("{next(iter(measured.unfit))}", …) then `medallion reload TABLE --recreate`',
    )


async def _stage(run: LoadRun[Database, Table], planned: ForeignPlan, measured: Measure) -> Staged:
    session, reader, target, warehouse = run.session, run.origin, run.target, run.warehouse
    plan, described, bounded, table = planned.plan, planned.described, planned.bounded, run.table
    shape = described.shape
    extracted_at = datetime.now(UTC).isoformat()
    changes = planned.changes + await ensure_types(warehouse, target, shape)
    await record_held(session, planned.held)
    await create_landing(warehouse, target, shape, first=planned.first)
    session.pass_failpoint("after_landing_created")
    condition = f"{bounded.condition} and {bounded.below}"
    fitting = rows.fits(described.columns)
    fits = f"{condition} and ({fitting})"
    stream = _Stream(reader, described, described.columns, fits, measured.longest, planned.limit)
    constants = (extracted_at, target.source, str(session.batch_id), None)
    async with contextlib.aclosing(stream.chunks(session, run.on_progress, constants)) as chunks:
        landed = await copy.copy_rows(warehouse, target, [*shape.names, *METADATA_NAMES], chunks, "csv")
    unreadable: tuple[Unreadable, ...] = ()
    if measured.unfit:
        with session.reading():
            found = await rows.documents(reader, described, f"{condition} and not ({fitting})", _MOST_UNFIT)
        unreadable = tuple(Unreadable(_UNFIT_RULE, document, keys) for document, keys in found)
    session.rows_read = landed + len(unreadable)
    # Counted and read in one snapshot: a chunk that skipped a row, or a driver that stopped early, is detected here.
    if landed != stream.rows or (planned.limit is None and session.rows_read != measured.rows):
        raise SourceError(
            f"the source counted {measured.rows} rows, sent {stream.rows + len(unreadable)}, and {landed} landed",
            where=target.where,
            fix="run again; if it repeats, the source changes rows outside of transactions (MyISAM, read "
            "uncommitted): read it while nothing writes to it",
            retryable=True,
        )
    landed_shape, drift = await fit_to_raw(warehouse, target, shape, planned.held)
    source_keys = None if planned.limit is not None else KeySet(measured.below)
    stage_keys = None
    # By counts alone, rows that only raw has would hide as many that it lacks.
    last = await compared.last_compared(warehouse, target.source, target.table)
    if planned.limit is None and (table.deletes or (table.keys and last is not None and last.result == "extra")):
        source_keys = await _stage_keys(session, reader, described, bounded, measured)

        async def keys_are_staged() -> str:
            return _keys_relation(target)

        stage_keys = keys_are_staged
    return Staged(
        load=_way(planned),
        shape=landed_shape,
        keys=table.keys,
        window=bounded.window,
        first=planned.first,
        rows_read=session.rows_read,
        received_bytes=stream.bytes,
        extracted_at=extracted_at,
        cursor=table.cursor_column,
        rules=(*drift, *table.rules),
        # A merge without a cursor reads everything as well.
        rereads=plan.strategy == "reload" or (table.cursor is None and bool(table.keys)),
        tolerance=table.tolerance,
        max_deleted=table.max_deleted,
        changes=tuple(changes),
        unreadable=unreadable,
        source_keys=source_keys,
        on_duplicate=table.on_duplicate,
        marks_deleted=table.deletes,
        stage_keys=stage_keys,
        moves_cursor=not planned.keeps_cursor,
        limited=planned.limit is not None,
        renews=planned.renews,
    )


def _way(planned: ForeignPlan) -> Replace | Append | Merge | Overwrite:
    """How rows are written: what is not read by a limited load stays."""
    table = planned.described.table
    if planned.limit is not None:
        return Merge() if table.keys else Append()
    # An append skips existing rows, which a reload must correct.
    return Merge() if planned.plan.strategy == "reload" else table.load


async def _stage_keys(
    session: LoadSession, reader: Reader, described: ForeignTable, bounded: Bounds, measured: Measure
) -> KeySet:
    """Copy all of the source's keys next to the landing table, where PostgreSQL computes their fingerprint."""
    condition = f"{bounded.below} and ({rows.fits(described.keys)})"
    stream = _Stream(reader, described, described.keys, condition, measured.longest)
    names = described.table.keys
    async with contextlib.aclosing(stream.chunks(session, None)) as chunks:
        await copy.copy_keys(session.warehouse, session.target, described.shape, names, chunks, "csv")
    marked = await copy.staged_key_set(session.warehouse, _keys_relation(session.target), names)
    return replace(marked, rows=measured.below)


class _Stream:
    """Rows as CSV. `rows` and `bytes` count what was written."""

    def __init__(
        self,
        reader: Reader,
        described: ForeignTable,
        columns: Sequence[TypedColumn],
        condition: str,
        longest: int,
        limit: int | None = None,
    ) -> None:
        self._source = (reader, described, columns, condition, longest, limit)
        self.rows = 0
        self.bytes = 0

    async def chunks(
        self, session: LoadSession, on_progress: Progress | None, constants: Sequence[str | None] = ()
    ) -> AsyncGenerator[bytes, None]:
        """The chunks, with progress; errors name the failing side."""
        texts = rows.texts(*self._source)
        async with contextlib.aclosing(texts), contextlib.aclosing(session.each(texts)) as batches:
            async for batch in batches:
                if not batch.num_rows:
                    continue
                chunk = to_csv(batch, constants)
                self.rows += batch.num_rows
                self.bytes += len(chunk)
                yield chunk
                if on_progress is not None:
                    on_progress("copied", self.bytes)
