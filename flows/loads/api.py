"""One load of one API endpoint: lock, plan, stage, check, publish."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.extract.rest import HttpLimits, count_records, read_pages
from flows.load import landing
from flows.load.table import Target, compare, create_landing, ensure_types, raw_columns
from flows.loads.publishing import Staged, check_and_publish
from flows.loads.session import LoadResult, LoadSession, Progress, load_session
from flows.loads.unreadable import readable
from flows.quality.quarantine import Unreadable
from flows.settings import settings
from flows.spec import Api, ApiConnection, DatabaseConnection, Endpoint
from flows.spec.identifiers import quote_identifier
from flows.spec.plan import CursorState, KeySet, LoadPlan, Window
from flows.spec.shape import Column, Shape
from flows.state import ledger

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def shape_of(endpoint: Endpoint) -> Shape:
    """Raw's columns for an endpoint: its key, its cursor's field, and the record itself."""
    columns = [Column(endpoint.key, endpoint.key_type, quote_identifier(endpoint.key), nullable=False)]
    if endpoint.cursor is not None and endpoint.cursor.field != endpoint.key:
        name = endpoint.cursor.field
        columns.append(Column(name, "timestamp with time zone", quote_identifier(name)))
    return Shape((*columns, Column("payload", "jsonb", "payload", nullable=False)))


def mode_of(endpoint: Endpoint) -> str:
    """`merge` or `replace`."""
    return type(endpoint.load).__name__.lower()


def since_of(endpoint: Endpoint, state: CursorState) -> str | None:
    """What to ask the API for: the latest cursor less its lag, as ISO 8601 in UTC; None asks for everything."""
    if endpoint.cursor is None or state.value is None:
        return None
    moment = datetime.fromisoformat(state.value).astimezone(UTC) - endpoint.cursor.overlap
    return moment.isoformat().replace("+00:00", "Z")


async def load_endpoint(
    warehouse_address: DatabaseConnection,
    api_connection: ApiConnection,
    source: Api,
    endpoint: Endpoint,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
) -> LoadResult:
    """Bring raw up to date with the endpoint's records. Memory holds one page at a time.

    Raises:
        MedallionError: see `flows.spec.errors`; what was committed before stays, and nothing partial is left.
    """
    target = Target(source.name, endpoint.name, source.raw_schema)
    started = time.monotonic()
    async with load_session(warehouse_address, target, mode_of(endpoint), "planned", run_id) as session:
        plan, state = await plan_endpoint(session.warehouse, target, source, endpoint)
        staged = await _stage(session, api_connection, source, endpoint, plan, state, on_progress)
        counts = await check_and_publish(warehouse_address, session, staged)
        return LoadResult(
            source=source.name,
            table=endpoint.name,
            batch_id=session.batch_id,
            mode=plan.mode,
            path=plan.path,
            seconds=time.monotonic() - started,
            counts=counts,
            lower=plan.lower,
            upper=staged.window.upper,
        )


async def plan_endpoint(
    warehouse: Connection[Record], target: Target, source: Api, endpoint: Endpoint
) -> tuple[LoadPlan, CursorState]:
    """What a load of the endpoint would do now. Reads the warehouse and touches nothing."""
    raw = await raw_columns(warehouse, target)
    state = CursorState()
    path, reason = mode_of(endpoint), f"{mode_of(endpoint)} what the API says has changed"
    if raw is None:
        path, reason = "first", "first load: every page"
    else:
        state = await ledger.read_cursor(warehouse, source.name, endpoint.name)
        verdict, last_path = await ledger.last_verdict(warehouse, source.name, endpoint.name)
        if verdict == "missing in raw" and last_path != "reread":
            path, reason, state = "reread", "the last load found records missing in raw", CursorState()
    since = since_of(endpoint, state)
    if since is None and path == "merge":
        reason = "every page: the endpoint has no cursor"
    return LoadPlan(source.name, endpoint.name, mode_of(endpoint), path, reason, lower=since), state


async def _stage(
    session: LoadSession,
    connection: ApiConnection,
    source: Api,
    endpoint: Endpoint,
    plan: LoadPlan,
    state: CursorState,
    on_progress: Progress | None,
) -> Staged:
    target, warehouse, shape = session.target, session.warehouse, shape_of(endpoint)
    extracted_at = datetime.now(UTC).isoformat()
    limits = HttpLimits(wait_budget_seconds=settings().api_wait_budget_seconds)
    unreadable: list[Unreadable] = []
    received = 0

    async def records() -> AsyncGenerator[list[bytes], None]:
        nonlocal received
        async with contextlib.aclosing(
            read_pages(source, endpoint, connection, since=plan.lower, limits=limits)
        ) as pages:
            session.side = "source"
            async for page in pages:
                received += page.received_bytes
                session.side = "warehouse"
                yield readable(page.records, endpoint.keys, unreadable)
                session.side = "source"
                if on_progress is not None:
                    on_progress("received", received)
            session.side = "warehouse"

    await ledger.note_path(warehouse, session.batch_id, plan.path)
    raw = await raw_columns(warehouse, target)
    changes = compare(shape, raw, target.where) if raw is not None else []
    await ensure_types(warehouse, target, shape)
    await create_landing(warehouse, target, shape, first=plan.path == "first")
    session.pass_failpoint("after_landing_created")
    async with contextlib.aclosing(records()) as pages_of_records:
        landed = await landing.copy_payloads(warehouse, target, pages_of_records)
    session.rows_read = landed + len(unreadable)
    await landing.type_payloads(warehouse, target, shape, (extracted_at, target.source, session.batch_id))
    session.pass_failpoint("after_copy")
    session.side = "source"
    total = await count_records(source, endpoint, connection, limits=limits)
    session.side = "warehouse"
    upper = await _latest(session, endpoint, state)
    return Staged(
        load=endpoint.load,
        shape=shape,
        keys=endpoint.keys,
        window=Window(lower=plan.lower, upper=upper, next=CursorState(upper)),
        first=plan.path == "first",
        rows_read=session.rows_read,
        received_bytes=received,
        extracted_at=extracted_at,
        cursor=endpoint.cursor.field if endpoint.cursor else None,
        cursor_required=endpoint.cursor is not None,
        rules=endpoint.rules,
        max_quarantined=endpoint.max_quarantined,
        changes=tuple(changes),
        unreadable=tuple(unreadable),
        source_keys=None if total is None else KeySet(total),
    )


async def _latest(session: LoadSession, endpoint: Endpoint, state: CursorState) -> str | None:
    """The furthest cursor among what was known and what landed; never later than this very moment.

    A record stamped in the future would otherwise carry the cursor past everything until then.
    """
    if endpoint.cursor is None:
        return None
    value = await session.warehouse.fetchval(
        f"select max(least({quote_identifier(endpoint.cursor.field)}, clock_timestamp()))::text "
        f"from {session.target.landing}"
    )
    known = datetime.fromisoformat(state.value) if state.value else datetime.min.replace(tzinfo=UTC)
    if value is None or datetime.fromisoformat(value) <= known:
        return state.value
    return str(value)
