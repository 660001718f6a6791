"""One load of one resource: resumed from the last state, staged, and published with the new state."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.declare import Merge, Replace
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.dlt import state as dlt_states
from flows.kinds.dlt.frames_landing import FramesLanding
from flows.kinds.dlt.hints import settled
from flows.kinds.dlt.reader import DltReader
from flows.landing.table import Target, ensure_types, raw_columns
from flows.observe import logs
from flows.publish.evolution import changes_since, described_changes
from flows.publish.records import RecordTable, StagedRecords, records_shape, stage_records
from flows.publish.run import Loaded, LoadRun
from flows.publish.session import LoadSession, Progress
from flows.publish.staged import Staged
from flows.publish.strategy import strategy_of
from flows.state import ledger, reloads
from flows.values.connection import ApiConnection
from flows.values.plan import CursorState, KeySet, LoadPlan, Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# The state is written with every load. Code that remembers every record makes it grow without bound.
_LARGE_STATE_BYTES = 1_000_000


def shape_of(resource: Resource) -> Shape:
    """Raw's columns for a resource whose records are kept in full: its key, its cursor, and the record."""
    keys = dict(zip(resource.keys, resource.types_of(resource.keys), strict=True))
    return records_shape(keys, None if resource.cursor is None else (resource.cursor, resource.cursor_type))


async def carry_out(run: LoadRun[DltSource, Resource], opened: Opened, plan: LoadPlan) -> Loaded:
    """Read the resource, and publish its rows with its state. Memory: what it yields at one time."""
    target, reader = run.target, opened.reader
    total = await reader.count()
    settled(run.table, await reader.begin(), target.where)
    staged = await _stage(run, reader, opened.resource, plan, total)
    state = reader.state
    assert state is not None  # everything was read

    async def keep_state(warehouse: Connection[Record], batch_id: int) -> None:
        await dlt_states.save_state(warehouse, target.source, target.table, state, batch_id)

    counts = await run.publish(staged, keep_state)
    carried_out = replace(plan, upper=staged.window.upper, warning=_warning(state))
    return Loaded(carried_out, counts, described_changes(staged.changes, ()))


def _warning(state: str) -> str | None:
    if len(state) < _LARGE_STATE_BYTES:
        return None
    return f"the resource keeps {len(state) / 1e6:,.1f} MB of state, written with every load: store less in it"


@dataclass(frozen=True, slots=True)
class Opened:
    """A resource ready to be read from the last state, with its declaration resolved by its hints."""

    reader: DltReader
    resource: Resource


@asynccontextmanager
async def opened_resource(
    warehouse: Connection[Record],
    target: Target,
    connection: ApiConnection | None,
    source: DltSource,
    resource: Resource,
) -> AsyncIterator[tuple[Opened, LoadPlan]]:
    """The resource, and the plan of its load. Reads the warehouse and changes nothing.

    Raises:
        MedallionError: the source cannot be built, or contradicts its declaration.
    """
    raw = await raw_columns(warehouse, target)
    # The state is valid only with its raw table: after a drop, all rows are read again.
    state = None if raw is None else await dlt_states.read_state(warehouse, target.source, target.table)
    reader = DltReader(source, resource, target.where)
    async with reader.opened(connection, state) as said:
        logs.guard()  # dlt's own handler exists only now
        resource = settled(resource, said, target.where)
        plan = await _plan(warehouse, target, resource, first=raw is None)
        if plan.strategy in {"initial", "replace", "reload"}:
            reader.begin_anew()
        yield Opened(reader, resource), plan


async def _plan(warehouse: Connection[Record], target: Target, resource: Resource, *, first: bool) -> LoadPlan:
    strategy, reason, lower = strategy_of(resource), "records since the resource's last state", None
    if first:
        strategy, reason = "initial", "first load: all records of the resource"
    elif strategy == "replace":
        reason = "all records of the resource"
    else:
        lower = (await ledger.read_cursor(warehouse, target.source, target.table)).value
        why = await reloads.reason(warehouse, target.source, target.table)
        # Without a key, a record read again would be duplicated.
        if why and resource.keys:
            strategy, reason, lower = "reload", why, None
    return LoadPlan(target.source, target.table, strategy, f"{reason}; via dlt", lower=lower)


async def _stage(
    run: LoadRun[DltSource, Resource], reader: DltReader, resource: Resource, plan: LoadPlan, total: int | None
) -> Staged:
    session = run.session
    extracted_at = datetime.now(UTC).isoformat()
    first = plan.strategy == "initial"
    if resource.columns:
        staging = await _stage_frames(session, reader, resource, first, extracted_at, run.on_progress)
    else:
        staging = await stage_records(
            run,
            shape_of(resource),
            _records(reader),
            extracted_at,
            first=first,
            table=RecordTable(resource.keys, resource.deleted, resource.on_drift),
        )
    assert resource.load is not None  # settled
    return Staged(
        # An append skips existing records, which a reload must correct.
        load=Merge() if plan.strategy == "reload" else resource.load,
        shape=staging.shape,
        keys=resource.keys,
        window=Window(lower=plan.lower, upper=reader.cursor_value, next=CursorState(reader.cursor_value)),
        first=first,
        rows_read=session.rows_read,
        received_bytes=staging.received,
        extracted_at=extracted_at,
        cursor=resource.cursor,
        cursor_required=resource.cursor is not None,
        rules=resource.rules,
        tolerance=resource.tolerance,
        on_duplicate=resource.on_duplicate,
        may_repeat=True,
        # A merge reads changes, of which the last one counts; a replace reads what is there now, once each.
        drops_copies=not isinstance(resource.load, Replace) or resource.deleted is not None,
        changes=staging.changes,
        unreadable=staging.unreadable,
        source_keys=None if total is None else KeySet(total),
        moves_cursor=reader.cursor_value is not None,
        tombstones=resource.deleted is not None,
    )


async def _records(reader: DltReader) -> AsyncGenerator[Sequence[bytes], None]:
    async with contextlib.aclosing(reader.batches()) as batches:
        async for batch in batches:
            yield batch.records


async def _stage_frames(
    session: LoadSession,
    reader: DltReader,
    resource: Resource,
    first: bool,
    extracted_at: str,
    on_progress: Progress | None,
) -> StagedRecords:
    """Arrow tables, in columns of their own types."""
    target, warehouse = session.target, session.warehouse
    raw = await raw_columns(warehouse, target)
    await ensure_types(warehouse, target, Shape(()))
    frames = FramesLanding(session, reader, resource, raw, first, extracted_at, on_progress)
    await frames.land()
    changes = await changes_since(warehouse, target, frames.shape, raw, resource.on_drift)
    return StagedRecords(frames.shape, session.rows_read, frames.received, frames.unreadable, tuple(changes))
