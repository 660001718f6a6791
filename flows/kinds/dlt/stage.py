"""One load of one resource: resumed from the last state, staged, and published with the new state."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.declare import Append, Merge, Overwrite, Replace
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.dlt import state as dlt_states
from flows.kinds.dlt.frames_landing import FramesLanding
from flows.kinds.dlt.hints import settled
from flows.kinds.dlt.reader import DltReader
from flows.landing.table import Target, ensure_types, raw_columns
from flows.observe import logs
from flows.publish.evolution import changes_since, described_changes
from flows.publish.identity import joined
from flows.publish.records import RecordTable, StagedRecords, records_shape, stage_records
from flows.publish.run import Loaded, LoadRun
from flows.publish.sample import (
    full_load_follows,
    leave_out_tombstones,
    limited_plan,
    of_a_sample,
    refuse_beside_full_load,
    sample_of,
)
from flows.publish.session import LoadSession, Progress
from flows.publish.staged import Staged
from flows.publish.strategy import strategy_of
from flows.state import ledger, reloads
from flows.values.connection import ApiConnection
from flows.values.plan import CursorState, KeySet, LoadPlan, Window
from flows.values.row_limit import row_limit
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
    total = None if opened.limit is not None else await reader.count()
    # The state is known at the end only, so a resource cannot stop in the middle.
    run.spending.admit(total if plan.strategy in {"initial", "replace", "reload"} else None)
    settled(run.table, await reader.begin(), target.where)
    staged = await _stage(run, opened, plan, total)
    state = reader.state

    async def keep_state(warehouse: Connection[Record], batch_id: int) -> None:
        if state is not None:  # everything was read
            await dlt_states.save_state(warehouse, target.source, target.table, state, batch_id)

    counts = await run.publish(staged, keep_state)
    carried_out = replace(plan, upper=staged.window.upper, warning=joined(plan.warning, _warning(state or "")))
    return Loaded(carried_out, counts, described_changes(staged.changes, ()))


def _warning(state: str) -> str | None:
    if len(state) < _LARGE_STATE_BYTES:
        return None
    return f"the resource keeps {len(state) / 1e6:,.1f} MB of state, written with every load: store less in it"


@dataclass(frozen=True, slots=True)
class Opened:
    """A resource ready to be read from the last state, with its declaration resolved by its hints.

    `first`: raw has no such table yet. `limit`: how many rows are read at most; `keeps_cursor`: beside a full load.
    `renews`: raw has a sample that is replaced.
    """

    reader: DltReader
    resource: Resource
    first: bool = False
    limit: int | None = None
    keeps_cursor: bool = False
    renews: bool = False


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
    limit, sample, state = row_limit(), None, None
    if raw is not None:
        sample = sample_of(await ledger.read_cursor(warehouse, target.source, target.table))
    if raw is not None and sample is None:
        # The state is valid only with its raw table: after a drop, or a sample, all rows are read again.
        state = await dlt_states.read_state(warehouse, target.source, target.table)
    reader = DltReader(source, resource, target.where)
    async with reader.opened(connection, state) as said:
        logs.guard()  # dlt's own handler exists only now
        resource = settled(resource, said, target.where)
        plan = await _plan(warehouse, target, resource, first=raw is None, sample=sample)
        if plan.strategy in {"initial", "replace", "reload"}:
            reader.begin_anew()
        renews = sample is not None and (limit is None or not resource.keys)
        opened = Opened(reader, resource, raw is None, limit, raw is not None and sample is None, renews)
        if limit is None:
            yield replace(opened, keeps_cursor=False), plan
            return
        if opened.keeps_cursor:
            refuse_beside_full_load(resource.keys, target.where)
        reader.limit = limit
        yield opened, limited_plan(plan, limit, keeps_cursor=opened.keeps_cursor)


async def _plan(
    warehouse: Connection[Record], target: Target, resource: Resource, *, first: bool, sample: int | None
) -> LoadPlan:
    strategy, reason, lower = strategy_of(resource), "records since the resource's last state", None
    if first:
        strategy, reason = "initial", "first load: all records of the resource"
    elif sample is not None:
        strategy, reason = "reload" if resource.keys else strategy, full_load_follows(sample)
    elif strategy == "replace":
        reason = "all records of the resource"
    else:
        lower = (await ledger.read_cursor(warehouse, target.source, target.table)).value
        why = await reloads.reason(warehouse, target.source, target.table)
        # Without a key, a record read again would be duplicated.
        if why and resource.keys:
            strategy, reason, lower = "reload", why, None
    return LoadPlan(target.source, target.table, strategy, f"{reason}; via dlt", lower=lower)


async def _stage(run: LoadRun[DltSource, Resource], opened: Opened, plan: LoadPlan, total: int | None) -> Staged:
    session, reader, resource, first = run.session, opened.reader, opened.resource, opened.first
    extracted_at = datetime.now(UTC).isoformat()
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
    following = CursorState(reader.cursor_value)
    if opened.limit is not None:
        following = of_a_sample({}, opened.limit)
        await leave_out_tombstones(session)
    return Staged(
        load=_way(opened, plan),
        shape=staging.shape,
        keys=resource.keys,
        window=Window(lower=plan.lower, upper=reader.cursor_value, next=following),
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
        # What a sample has left must not stay beside a full load.
        moves_cursor=not opened.keeps_cursor and (following != CursorState() or opened.renews),
        tombstones=resource.deleted is not None,
        limited=opened.limit is not None,
        renews=opened.renews,
    )


def _way(opened: Opened, plan: LoadPlan) -> Replace | Append | Merge | Overwrite:
    """How rows are written: what is not read by a limited load stays."""
    if opened.limit is not None:
        return Merge() if opened.resource.keys else Append()
    load = opened.resource.load
    assert load is not None  # settled
    # An append skips existing records, which a reload must correct.
    return Merge() if plan.strategy == "reload" else load


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
