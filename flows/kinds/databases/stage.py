"""One load of a table from a database that is not PostgreSQL: the same steps, rows by way of Arrow and CSV."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.declare import Merge
from flows.kinds.databases import rows as foreign
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.plan import open_source, plan_foreign
from flows.kinds.databases.rows import Measure
from flows.kinds.databases.table import ForeignTable
from flows.kinds.databases.types import TypedColumn
from flows.kinds.databases.window import Bounds
from flows.kinds.postgres import Database, Table
from flows.landing import copy
from flows.landing.csv import to_csv
from flows.landing.drift import fit_to_raw
from flows.landing.table import LANDING_SCHEMA, SchemaChange, Target, create_landing, ensure_types
from flows.publish.evolution import described_changes, record_held
from flows.publish.path import mode_of
from flows.publish.publish import Staged, check_and_publish
from flows.publish.session import LoadResult, LoadSession, Progress, load_session
from flows.quality.quarantine import Unreadable
from flows.state import ledger
from flows.values.connection import DatabaseConnection
from flows.values.errors import DataRefused, SourceError
from flows.values.identifiers import qualified
from flows.values.plan import KeySet, LoadPlan
from flows.values.shape import METADATA_NAMES

if TYPE_CHECKING:
    pass

# Rows that do not fit are kept one by one. More of them than this is not a few bad rows but a wrong type.
_MOST_UNFIT = 1_000
_UNFIT_RULE = "value_fits_type"


async def load_foreign(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
) -> LoadResult:
    """Bring raw up to date with the source's table. Memory holds one chunk of rows at a time.

    Raises:
        MedallionError: see `flows.values.errors`; what was committed before stays, and nothing partial is left.
    """
    target = Target(source.name, table.name, source.raw_schema)
    async with load_session(warehouse_address, target, mode_of(table), "planned", run_id) as session:
        session.side = "source"
        async with open_source(source, origin_address, target.where) as reader:
            plan, described, bounded, changes = await plan_foreign(session.warehouse, reader, source, table)
            # The window was chosen before this snapshot: whatever was still open then cannot hide below its bound.
            await reader.begin()
            measured = await foreign.measure(reader, described, bounded)
            _refuse_misfits(measured, target.where)
            staged = await _stage(session, reader, plan, described, bounded, measured, changes, on_progress)
            session.side = "warehouse"
        # The source is not needed any more: its transaction ends before the warehouse's begins.
        counts = await check_and_publish(warehouse_address, session, staged)
        if table.deletes:
            await session.warehouse.execute(f"drop table if exists {_keys_relation(target)}")
        return session.result(plan, counts, described_changes(staged.changes, changes[1]))


def _keys_relation(target: Target) -> str:
    return qualified(LANDING_SCHEMA, copy.keys_table(target))


def _refuse_misfits(measured: Measure, where: str) -> None:
    if sum(measured.unfit.values()) <= _MOST_UNFIT:
        return
    listed = ", ".join(f"{column}: {rows}" for column, rows in measured.unfit.items())
    raise DataRefused(
        f"values do not fit their columns' types in raw ({listed})",
        where=where,
        fix=f'declare as_text=("{next(iter(measured.unfit))}", …) and rename the raw table away, if there is one',
    )


async def _stage(
    session: LoadSession,
    reader: Reader,
    plan: LoadPlan,
    described: ForeignTable,
    bounded: Bounds,
    measured: Measure,
    drifted: tuple[list[SchemaChange], list[SchemaChange]],
    on_progress: Progress | None,
) -> Staged:
    table, shape, target, warehouse = described.table, described.shape, session.target, session.warehouse
    extracted_at = datetime.now(UTC).isoformat()
    session.side = "warehouse"
    await ledger.note_path(warehouse, session.batch_id, plan.path)
    changes = drifted[0] + await ensure_types(warehouse, target, shape)
    await record_held(session, drifted[1])
    await create_landing(warehouse, target, shape, first=plan.path == "first")
    session.pass_failpoint("after_landing_created")
    condition = f"{bounded.condition} and {bounded.below}"
    fitting = foreign.fits(described.columns)
    stream = _Stream(reader, described, described.columns, f"{condition} and ({fitting})", measured.longest)
    constants = (extracted_at, target.source, str(session.batch_id), None)
    async with contextlib.aclosing(stream.chunks(session, on_progress, constants)) as chunks:
        landed = await copy.copy_rows(warehouse, target, [*shape.names, *METADATA_NAMES], chunks, "csv")
    unreadable: tuple[Unreadable, ...] = ()
    if measured.unfit:
        session.side = "source"
        found = await foreign.documents(reader, described, f"{condition} and not ({fitting})", _MOST_UNFIT)
        unreadable = tuple(Unreadable(_UNFIT_RULE, document, keys) for document, keys in found)
        session.side = "warehouse"
    session.rows_read = landed + len(unreadable)
    # Counted and read in one snapshot: a chunk that stepped over a row, or a driver that stopped early, shows here.
    if session.rows_read != measured.rows or landed != stream.rows:
        raise SourceError(
            f"the source counted {measured.rows} rows, sent {stream.rows + len(unreadable)}, and {landed} landed",
            where=target.where,
            fix="run again; if it repeats, the source changes rows outside of transactions (MyISAM, read "
            "uncommitted): read it when nobody writes",
            retryable=True,
        )
    session.pass_failpoint("after_copy")
    landed_shape, drift = await fit_to_raw(warehouse, target, shape, drifted[1])
    source_keys = KeySet(measured.below)
    stage_keys = None
    if table.deletes:
        source_keys = await _stage_keys(session, reader, described, bounded, measured)

        async def keys_are_staged() -> str:
            return _keys_relation(target)

        stage_keys = keys_are_staged
    return Staged(
        # An append leaves rows alone that are there, which is what a reread is to mend.
        load=Merge() if plan.path == "reread" else table.load,
        shape=landed_shape,
        keys=table.keys,
        window=bounded.window,
        first=plan.path == "first",
        rows_read=session.rows_read,
        received_bytes=stream.bytes,
        extracted_at=extracted_at,
        cursor=table.cursor_column,
        rules=(*drift, *table.rules),
        rereads=plan.path == "reread",
        tolerance=table.tolerance,
        max_deleted=table.max_deleted,
        changes=tuple(changes),
        unreadable=unreadable,
        source_keys=source_keys,
        stage_keys=stage_keys,
    )


async def _stage_keys(
    session: LoadSession, reader: Reader, described: ForeignTable, bounded: Bounds, measured: Measure
) -> KeySet:
    """Copy all of the source's keys beside the landing table, where PostgreSQL takes their fingerprint."""
    condition = f"{bounded.below} and ({foreign.fits(described.keys)})"
    stream = _Stream(reader, described, described.keys, condition, measured.longest)
    names = described.table.keys
    async with contextlib.aclosing(stream.chunks(session, None)) as chunks:
        await copy.copy_keys(session.warehouse, session.target, described.shape, names, chunks, "csv")
    marked = await copy.staged_key_set(session.warehouse, _keys_relation(session.target), names)
    return replace(marked, rows=measured.below)


class _Stream:
    """Rows as CSV. `rows` and `bytes` count what was handed over."""

    def __init__(
        self, reader: Reader, described: ForeignTable, columns: Sequence[TypedColumn], condition: str, longest: int
    ) -> None:
        self._source = (reader, described, columns, condition, longest)
        self.rows = 0
        self.bytes = 0

    async def chunks(
        self, session: LoadSession, on_progress: Progress | None, constants: Sequence[str | None] = ()
    ) -> AsyncGenerator[bytes, None]:
        """The chunks, with progress, and with the blame on the side that fails."""
        session.side = "source"
        async with contextlib.aclosing(foreign.texts(*self._source)) as batches:
            async for batch in batches:
                if not batch.num_rows:
                    continue
                chunk = to_csv(batch, constants)
                self.rows += batch.num_rows
                self.bytes += len(chunk)
                session.side = "warehouse"
                yield chunk
                session.side = "source"
                if on_progress is not None:
                    on_progress("copied", self.bytes)
        session.side = "warehouse"
