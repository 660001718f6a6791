"""One load of a table from a database that is not PostgreSQL: the same steps, rows by way of Arrow and CSV."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.extract import foreign
from flows.extract.arrow import Reader, open_reader, to_csv
from flows.extract.arrow_types import TypedColumn
from flows.extract.foreign import Measure
from flows.extract.foreign_table import ForeignTable, describe
from flows.extract.foreign_window import Bounds, bounds
from flows.load import landing
from flows.load.drift import fit_to_raw
from flows.load.table import LANDING_SCHEMA, SchemaChange, Target, create_landing, ensure_types, raw_columns
from flows.loads.database_plan import leaves_alone, mode_of
from flows.loads.evolution import described_changes, drift_since, no_longer_held, record_held, returned
from flows.loads.publishing import Staged, check_and_publish
from flows.loads.session import LoadResult, LoadSession, Progress, load_session
from flows.quality.quarantine import Unreadable
from flows.settings import settings
from flows.spec import Database, DatabaseConnection, Merge, Table
from flows.spec.errors import DataRefused, SourceError
from flows.spec.identifiers import qualified
from flows.spec.plan import CursorState, KeySet, LoadPlan
from flows.spec.shape import METADATA_NAMES
from flows.state import ledger

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Rows that do not fit are kept one by one. More of them than this is not a few bad rows but a wrong type.
_MOST_UNFIT = 1_000
_UNFIT_RULE = "value_fits_type"


@asynccontextmanager
async def open_source(source: Database, address: DatabaseConnection, where: str) -> AsyncIterator[Reader]:
    """A connection to the source.

    Raises:
        MedallionError: it cannot be opened, or the extra `databases` is not installed.
    """
    async with open_reader(source.engine, address, where, settings().connect_timeout_seconds) as reader:
        yield reader


async def plan_foreign(
    warehouse: Connection[Record], reader: Reader, source: Database, table: Table
) -> tuple[LoadPlan, ForeignTable, Bounds, tuple[list[SchemaChange], list[SchemaChange]]]:
    """What a load of the table would do now, and the changes that reach raw and that are held back from it.

    Reads both ends and touches neither.
    """
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    state, verdict, last_path = CursorState(), None, None
    if raw is not None:
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        verdict, last_path = await ledger.last_verdict(warehouse, source.name, table.name)
    described = await describe(reader, source.name, table)
    bounded = await bounds(reader, described, state)
    changes, held = await drift_since(warehouse, target, described.shape, raw, table)
    path, reason = mode_of(table), f"{mode_of(table)} what changed" if table.cursor else "the whole table"
    if raw is None:
        path, reason = "first", "first load: the landing table becomes the raw table"
    elif bounded.window.lower is not None or leaves_alone(table):
        added = [change.column for change in changes if change.change == "added"]
        back = returned(changes)
        # An append leaves alone what is in raw, also where it reads it again: any row may lack the new column's value.
        come = "1 = 0" if leaves_alone(table) else bounded.condition
        if back or (added and await foreign.has_value_outside(reader, described, added, come)):
            columns, kept = ", ".join(added + back), "old values" if back else "null"
            if table.keys:
                path, reason = "reread", f"rows the cursor would pass over may differ in new column {columns}"
            else:
                # Without a key a row read again would stand there twice.
                note = f"rows in raw keep {kept} in new column {columns}: they have no key"
                bounded = replace(bounded, window=replace(bounded.window, warning=note))
        elif verdict == "missing in raw" and last_path != "reread" and table.keys:
            path, reason = "reread", "the last load found rows missing in raw"
        elif table.keys and (fitting := await no_longer_held(warehouse, target, held)):
            path, reason = "reread", f"rows that waited in quarantine for column {', '.join(fitting)} may fit now"
    if held:
        reason += f"; held back from raw: {', '.join(f'{change.column} {change.change}' for change in held)}"
    if path == "reread":
        bounded = replace(bounded, condition=bounded.below)
    window = bounded.window
    plan = LoadPlan(
        source=source.name,
        table=table.name,
        mode=mode_of(table),
        path=path,
        reason=f"{reason}; {source.engine} by way of Arrow",
        lower=window.lower,
        upper=window.upper,
        shape=described.shape,
        warning=window.warning,
    )
    return plan, described, bounded, (changes, held)


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
        MedallionError: see `flows.spec.errors`; what was committed before stays, and nothing partial is left.
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
    return qualified(LANDING_SCHEMA, landing.keys_table(target))


def _refuse_misfits(measured: Measure, where: str) -> None:
    if sum(measured.unfit.values()) <= _MOST_UNFIT:
        return
    listed = ", ".join(f"{column}: {rows}" for column, rows in measured.unfit.items())
    raise DataRefused(
        f"values do not fit their columns' types in raw ({listed})",
        where=where,
        next_move=f'declare as_text=("{next(iter(measured.unfit))}", …) and rename the raw table away, if there is one',
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
        landed = await landing.copy_rows(warehouse, target, [*shape.names, *METADATA_NAMES], chunks, "csv")
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
            next_move="run again; if it repeats, the source changes rows outside of transactions (MyISAM, read "
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
        await landing.copy_keys(session.warehouse, session.target, described.shape, names, chunks, "csv")
    marked = await landing.staged_key_set(session.warehouse, _keys_relation(session.target), names)
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
