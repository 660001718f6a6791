"""One load of one resource of a dlt source: lock, plan, stage, check, publish; its state is part of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.declare import Merge
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.dlt import state as dlt_states
from flows.kinds.dlt.frames_landing import FramesLanding
from flows.kinds.dlt.hints import settled
from flows.kinds.dlt.reader import DltReader
from flows.landing import records as payloads
from flows.landing.readable import readable
from flows.landing.record_rows import Place
from flows.landing.records import Records
from flows.landing.table import SchemaChange, Target, create_landing, ensure_types, raw_columns, stamp_landing
from flows.observe import logs
from flows.publish.evolution import changes_since, described_changes
from flows.publish.publish import Staged, check_and_publish
from flows.publish.session import LoadResult, LoadSession, Progress, load_session
from flows.quality.quarantine import Unreadable
from flows.state import ledger
from flows.values.connection import ApiConnection, DatabaseConnection
from flows.values.identifiers import quote_literal
from flows.values.plan import CursorState, KeySet, LoadPlan, Window
from flows.values.shape import Column, Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A state this large is written with every load. Code that remembers each thing it has seen makes it grow for ever.
_LARGE_STATE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class _Staging:
    """What a resource brought into the landing table."""

    shape: Shape
    rows: int
    received: int
    unreadable: tuple[Unreadable, ...]
    changes: tuple[SchemaChange, ...]


def mode_of(resource: Resource) -> str:
    """`merge`, `replace`, `append`; `by hints` while the resource itself has not been asked."""
    return type(resource.load).__name__.lower() if resource.load is not None else "by hints"


def shape_of(resource: Resource) -> Shape:
    """Raw's columns for a resource whose records are kept whole: its key, its cursor, and the record."""
    columns = [
        Column(name, kind, _text_of(name), nullable=False)
        for name, kind in zip(resource.keys, resource.types_of(resource.keys), strict=True)
    ]
    if resource.cursor is not None and resource.cursor not in resource.keys:
        columns.append(Column(resource.cursor, resource.cursor_type, _text_of(resource.cursor)))
    return Shape((*columns, Column("payload", "jsonb", "payload", nullable=False)))


async def load_resource(
    warehouse_address: DatabaseConnection,
    connection: ApiConnection | None,
    source: DltSource,
    resource: Resource,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
) -> LoadResult:
    """Bring raw up to date with what the resource yields. Memory holds what it yields at one time.

    Raises:
        MedallionError: see `flows.values.errors`; what was committed before stays, and nothing partial is left.
    """
    target = Target(source.name, resource.name, source.raw_schema)
    async with load_session(warehouse_address, target, mode_of(resource), "planned", run_id) as session:
        async with opened_resource(session.warehouse, target, connection, source, resource) as (reader, known, plan):
            total = await reader.count()
            settled(resource, await reader.begin(), target.where)
            resource = known
            staged = await _stage(session, reader, resource, plan, total, on_progress)
        state = reader.state
        assert state is not None  # everything was read

        async def keep_state(warehouse: Connection[Record], batch_id: int) -> None:
            await dlt_states.save_state(warehouse, target.source, target.table, state, batch_id)

        counts = await check_and_publish(warehouse_address, session, staged, keep_state)
        carried_out = replace(plan, upper=staged.window.upper, warning=_warning(state))
        return session.result(carried_out, counts, described_changes(staged.changes, ()))


def _warning(state: str) -> str | None:
    if len(state) < _LARGE_STATE_BYTES:
        return None
    return (
        f"the resource keeps {len(state) / 1e6:,.1f} MB of state, written with every load: let its code remember less"
    )


@asynccontextmanager
async def opened_resource(
    warehouse: Connection[Record],
    target: Target,
    connection: ApiConnection | None,
    source: DltSource,
    resource: Resource,
) -> AsyncIterator[tuple[DltReader, Resource, LoadPlan]]:
    """The resource ready to be read from where the last load left it, with all that its hints leave to be decided
    decided, and what a load would do now. Reads the warehouse and touches nothing.

    Raises:
        MedallionError: the source cannot be built, or contradicts its declaration.
    """
    raw = await raw_columns(warehouse, target)
    # State outlives no raw table: rows that are gone are read again.
    state = None if raw is None else await dlt_states.read_state(warehouse, target.source, target.table)
    reader = DltReader(source, resource, target.where)
    async with reader.opened(connection, state) as said:
        logs.guard()  # a handler of dlt's own is there only now
        resource = settled(resource, said, target.where)
        plan = await _plan(warehouse, target, resource, first=raw is None)
        if plan.path in {"first", "replace", "reread"}:
            reader.begin_anew()
        yield reader, resource, plan


async def _plan(warehouse: Connection[Record], target: Target, resource: Resource, *, first: bool) -> LoadPlan:
    path, reason, lower = mode_of(resource), "what the resource yields since its last state", None
    if first:
        path, reason = "first", "first load: everything the resource yields"
    elif path == "replace":
        reason = "everything the resource yields"
    else:
        lower = (await ledger.read_cursor(warehouse, target.source, target.table)).value
        verdict, last_path = await ledger.last_verdict(warehouse, target.source, target.table)
        # Without a key a record read again would stand there twice.
        if verdict == "missing in raw" and last_path != "reread" and resource.keys:
            path, reason, lower = "reread", "the last load found records missing in raw", None
    return LoadPlan(target.source, target.table, mode_of(resource), path, f"{reason}; by way of dlt", lower=lower)


async def _stage(
    session: LoadSession,
    reader: DltReader,
    resource: Resource,
    plan: LoadPlan,
    total: int | None,
    on_progress: Progress | None,
) -> Staged:
    extracted_at = datetime.now(UTC).isoformat()
    await ledger.note_path(session.warehouse, session.batch_id, plan.path)
    first = plan.path == "first"
    stage = _stage_frames if resource.columns else _stage_records
    staging = await stage(session, reader, resource, first, extracted_at, on_progress)
    session.pass_failpoint("after_copy")
    assert resource.load is not None  # settled
    return Staged(
        # An append leaves records alone that are there, which is what a reread is to mend.
        load=Merge() if plan.path == "reread" else resource.load,
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
        changes=staging.changes,
        unreadable=staging.unreadable,
        source_keys=None if total is None else KeySet(total),
        moves_cursor=reader.cursor_value is not None,
        tombstones=resource.deleted is not None,
    )


def _text_of(name: str) -> str:
    """SQL for a field's text in a landed record."""
    return f"payload ->> {quote_literal(name)}"


async def _stage_records(
    session: LoadSession,
    reader: DltReader,
    resource: Resource,
    first: bool,
    extracted_at: str,
    on_progress: Progress | None,
) -> _Staging:
    """Records, each whole: as an API's are."""
    target, warehouse, shape = session.target, session.warehouse, shape_of(resource)
    unreadable: list[Unreadable] = []
    received = 0

    keys = [(key,) for key in resource.keys]

    async def records() -> AsyncGenerator[Records, None]:
        nonlocal received
        session.side = "source"
        async with contextlib.aclosing(reader.batches()) as batches:
            async for batch in batches:
                received += batch.bytes
                session.side = "warehouse"
                yield Records(readable(batch.records, keys, unreadable, careful=True))
                session.side = "source"
                if on_progress is not None:
                    on_progress("received", received)
        session.side = "warehouse"

    changes = await changes_since(warehouse, target, shape, await raw_columns(warehouse, target), resource.on_drift)
    await ensure_types(warehouse, target, shape)
    await create_landing(warehouse, target, shape, first=first, bare=True)
    session.pass_failpoint("after_landing_created")
    places = [Place(column.name, column.raw_type, (column.name,)) for column in shape.columns[:-1]]
    gone = resource.deleted
    tombstone = f"coalesce(payload -> {quote_literal(gone)}, 'null') not in ('null', 'false')" if gone else "false"
    async with contextlib.aclosing(records()) as pages:
        landed = await payloads.land(warehouse, target, shape, places, pages, extracted_at, session.batch_id, tombstone)
    await stamp_landing(warehouse, target, extracted_at, session.batch_id)
    session.rows_read = landed + len(unreadable)
    return _Staging(shape, session.rows_read, received, tuple(unreadable), tuple(changes))


async def _stage_frames(
    session: LoadSession,
    reader: DltReader,
    resource: Resource,
    first: bool,
    extracted_at: str,
    on_progress: Progress | None,
) -> _Staging:
    """Arrow tables, in columns of their own types."""
    target, warehouse = session.target, session.warehouse
    raw = await raw_columns(warehouse, target)
    await ensure_types(warehouse, target, Shape(()))
    frames = FramesLanding(session, reader, resource, raw, first, extracted_at, on_progress)
    await frames.land()
    changes = await changes_since(warehouse, target, frames.shape, raw, resource.on_drift)
    return _Staging(frames.shape, session.rows_read, frames.received, frames.unreadable, tuple(changes))
