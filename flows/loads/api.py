"""One load of one API endpoint: lock, plan, stage, check, publish."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.extract.rest import HttpLimits, count_records, read_pages
from flows.load import landing
from flows.load.table import Target, compare, create_landing, ensure_types, raw_columns
from flows.loads.publishing import Staged, check_and_publish
from flows.loads.session import LoadResult, LoadSession, Progress, load_session
from flows.quality.quarantine import Unreadable
from flows.settings import settings
from flows.spec import Api, ApiConnection, DatabaseConnection, Endpoint
from flows.spec.identifiers import quote_identifier
from flows.spec.plan import CursorState, KeySet, LoadPlan, Window
from flows.spec.shape import Column, Shape
from flows.state import ledger

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# jsonb holds neither; PostgreSQL would refuse the whole COPY for one of them. Six bytes in the JSON text:
# \u0000, or a surrogate (\ud800 to \udfff) that may lack its other half.
_SUSPECT = (b"\\u0000", b"\\ud", b"\\uD")
# jsonb keeps numbers as numeric: up to 131,072 digits before the point and 16,383 after it. What looks like more is
# measured; inside a text it may be anything.
_DIGITS = 16_000
_EXPONENT_LENGTH = 6
_HUGE = re.compile(rb"\d[eE][+-]?\d{5}|\d{16000}")


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
                yield [record for record in page.records if _readable(record, endpoint.key, unreadable)]
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


def _readable(record: bytes, key: str, unreadable: list[Unreadable]) -> bool:
    """Whether jsonb can hold the record; if not, it joins those that go to quarantine as text."""
    rule = _unreadable_rule(record)
    if rule is not None:
        # PostgreSQL's text holds no more than jsonb does: the escapes stay as they are written.
        text = record.decode("utf-8", errors="backslashreplace")
        unreadable.append(Unreadable(rule, text, _key_text(record, key)))
    return rule is None


def _unreadable_rule(record: bytes) -> str | None:
    try:
        record.decode("utf-8")
    except UnicodeDecodeError:
        return "payload_not_utf8"
    if any(mark in record for mark in _SUSPECT):
        if b"\\u0000" in record.replace(rb"\\", b""):
            return "payload_holds_nul"
        try:
            # The decoder of the standard library joins surrogate pairs and keeps lone halves; encoding finds those.
            json.dumps(json.loads(record, parse_int=str, parse_float=str), ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return "payload_holds_lone_surrogate"
    if _HUGE.search(record):
        try:
            json.loads(record, parse_int=_measured, parse_float=_measured)
        except _TooLarge:
            return "payload_number_too_large"
    return None


class _TooLarge(Exception):
    """A number beyond what PostgreSQL's numeric holds."""


def _measured(number: str) -> str:
    digits, _, exponent = number.lower().partition("e")
    if len(digits) > _DIGITS or len(exponent) > _EXPONENT_LENGTH or abs(int(exponent or 0)) > _DIGITS:
        raise _TooLarge
    return number


def _key_text(record: bytes, key: str) -> str | None:
    """The record's key as text, when it can be read though the record cannot be kept."""
    fields = json.loads(record.decode("utf-8", errors="replace"), parse_int=str)
    text = fields.get(key) if isinstance(fields, dict) else None
    return text if isinstance(text, str) and text.isprintable() and "\ufffd" not in text else None


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
