"""APIs: lists of records, page by page, compared by counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.access.addresses import connect
from flows.access.kept_tokens import keeper_of
from flows.failures.circuit import guarded
from flows.kinds.answers import Column, Ends, EventTime, Planned, Preview, Waiting, Words
from flows.kinds.api import (
    Api,
    ApiKeyHeader,
    ApiKeyQuery,
    Basic,
    Bearer,
    ChangeToken,
    Endpoint,
    NoAuth,
    RefreshToken,
    Since,
)
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.declared.stamps import EPOCHS
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.several import rejected_keys
from flows.kinds.api.limited import Limited, load_some, refuse_beside_state
from flows.kinds.api.list import ListLoad
from flows.kinds.api.list_state import ListRead
from flows.kinds.api.pages.endpoint import count_records, read_pages
from flows.kinds.api.pages.page import Start
from flows.kinds.api.plan import known_read, plan_endpoint, since_of
from flows.kinds.api.preview import draft_api, preview_endpoint
from flows.kinds.api.shape import places_of, shape_of, tombstone_of
from flows.kinds.kind import Kind
from flows.landing.table import Target
from flows.observe.openlineage import Dataset, api_dataset
from flows.publish import raw_rows
from flows.publish.counts import Totals, compare_counts
from flows.publish.identity import joined
from flows.publish.replay import RowChecks
from flows.publish.run import Loaded, LoadRun
from flows.publish.sample import limited_plan
from flows.state import ledger
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import ApiConnection
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState
from flows.values.row_limit import row_limit
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A plan is for looking: an API that asks us to wait longer than this is shown as not answering.
_PLAN_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class OpenApi:
    """An API to be asked: each request opens what it needs, within the limits."""

    connection: ApiConnection
    limits: HttpLimits


@dataclass(frozen=True, slots=True)
class _Carry:
    source: Api
    endpoint: Endpoint
    state: CursorState
    known: ListRead
    limited: Limited | None = None
    renews: bool = False  # raw has a sample


class Apis(Kind[Api, Endpoint]):
    """APIs that are read by HTTP."""

    has_key = True
    cursor_decides = True
    heeds_limit = True
    at_budget = "stops"  # after a page
    plan_fails_at = "warehouse"  # it reads nothing else

    def __init__(self, limits: HttpLimits | None = None) -> None:
        """`limits` bound each request of a load (None: those of the settings)."""
        self._limits = limits

    def address(self, source: Api) -> ApiConnection:
        """The base URL, with the credential that goes with it."""
        found = addresses.look_up(source.name, source.connection)
        keeper = keeper_of(source.connection) if isinstance(source.auth, RefreshToken) else None
        return ApiConnection(
            source.connection, found.url, found.key, found.user, found.token, found.certificate, keeper
        )

    @property
    def _bounds(self) -> HttpLimits:
        return self._limits or HttpLimits(wait_budget_seconds=settings().api_wait_budget_seconds)

    @asynccontextmanager
    async def open(
        self, source: Api, address: ApiConnection, where: str, application: str = "medallion"
    ) -> AsyncIterator[OpenApi]:
        """Nothing is asked yet."""
        yield OpenApi(address, self._bounds)

    async def plan(self, warehouse: Connection[Record], origin: OpenApi, source: Api, table: Endpoint) -> Planned:
        """By the cursor and the list that is under way; the API is not asked."""
        target = Target(source.name, table.name, source.raw_schema)
        plan, state, sample = await plan_endpoint(warehouse, target, source, table)
        known, limited = await known_read(warehouse, source, table, plan), None
        if (limit := row_limit()) is not None:
            first = plan.strategy == "initial"
            limited = Limited(limit, first, keeps_cursor=not first and sample is None)
            refuse_beside_state(table, target.where, keeps_cursor=limited.keeps_cursor)
            plan = limited_plan(plan, limit, keeps_cursor=limited.keeps_cursor)
        return Planned(plan, _Carry(source, table, state, known, limited, sample is not None))

    async def waiting(self, warehouse: Connection[Record], origin: OpenApi, planned: Planned) -> Waiting:
        """What the API's first page says of the list, if it says how long the list is."""
        carry: _Carry = planned.carry
        if carry.endpoint.total is None or carry.endpoint.partitions:
            return Waiting()
        limits = HttpLimits(wait_budget_seconds=_PLAN_PATIENCE_SECONDS)
        pages = read_pages(carry.source, carry.endpoint, origin.connection, Start(planned.plan.lower), limits=limits)
        async with asyncio.timeout(_PLAN_PATIENCE_SECONDS * 2), contextlib.aclosing(pages):
            total = (await anext(pages)).total
        limited = carry.limited
        return Waiting(total if total is None or limited is None else min(total, limited.limit))

    async def load(self, run: LoadRun[Api, Endpoint], planned: Planned) -> Loaded:
        """Page by page, published in groups. Memory holds a page, and those that are fetched ahead of it."""
        carry: _Carry = planned.carry
        if carry.limited is not None:
            async with guarded(run.warehouse, run.source.name, run.target.where):
                return await load_some(run, planned.plan, carry.state, carry.limited)
        load = ListLoad(run, planned.plan, carry.state, carry.known, renews=carry.renews)
        async with guarded(run.warehouse, run.source.name, run.target.where):
            counts = await load.run()
        warning = joined(planned.plan.warning, load.warning, rejected_keys(run.source, run.origin.connection))
        return Loaded(
            replace(planned.plan, upper=load.upper, warning=warning), counts, tuple(load.changes), load.groups
        )

    async def compare(self, ends: Ends[Api, Endpoint]) -> tuple[Reconciliation, Sequence[Key]]:
        """By the API's own count. Nothing can be repaired: an API is not asked for single records."""
        source, endpoint, connection = ends.source, ends.table, ends.address
        target = Target(source.name, endpoint.name, source.raw_schema)
        limits = self._bounds
        async with connect(ends.warehouse, side="warehouse") as warehouse:

            async def coming(_: int) -> int:
                return await _not_read_yet(warehouse, target, source, endpoint, connection, limits)

            totals = Totals(
                await count_records(source, endpoint, connection, limits=limits),
                {field.name: field.type for field in endpoint.key_fields},
                coming=coming,
                newest=endpoint.on_duplicate == "newest",
                note="only counts: an API shows its records page by page",
            )
            return await compare_counts(warehouse, target, totals), ()

    async def preview(self, ends: Ends[Api, Endpoint], count: int) -> Preview:
        """Two requests for the first page."""
        return await preview_endpoint(ends.source, ends.table, ends.address, count)

    async def draft(
        self, name: str, url: str, auth: str, parameter: str | None, key: str | None, user: str | None
    ) -> str:
        """From one live answer: records, key, total, pagination."""
        sent: dict[str, Auth] = {
            "none": NoAuth(),
            "header": ApiKeyHeader(parameter or "X-API-Key"),
            "query": ApiKeyQuery(parameter or "api_key"),
            "basic": Basic(),
            "bearer": Bearer(),
        }
        text, _ = await draft_api(name, url, sent[auth], key, user)
        return text

    def order(self, tables: Iterable[Endpoint]) -> Mapping[str, str]:
        """Children are asked for by their parents' keys, so parents come first."""
        return {table.name: table.parent.endpoint for table in tables if table.parent is not None}

    def row_checks(self, table: Endpoint) -> RowChecks:
        """Columns are made of the record, but for those of the request."""
        cursor = table.cursor if isinstance(table.cursor, Since) else None
        made = zip(places_of(table), shape_of(table).columns, strict=False)
        return RowChecks(
            table.rules,
            cursor.column if cursor is not None else None,
            cursor_required=cursor is not None and cursor.missing == "quarantine",
            has_records=True,
            derived={column.name: column.select for place, column in made if place.steps},
            tombstone=tombstone_of(table),
            known_fields_only=table.on_drift != "evolve",
        )

    def columns(self, table: Endpoint) -> Sequence[Column]:
        """Key, cursor, and the record as it was sent."""
        own = [Column(field.name, "The record's key at the API.", field.type) for field in table.key_fields]
        for field in table.copied:
            if field.name in table.keys:
                continue
            whose = "A value that the list was requested for."
            if table.parent is not None:
                whose = f"A value in {table.parent.endpoint} of the record that it belongs to."
                if field.name == table.parent.column:
                    whose = f"The key in {table.parent.endpoint} of the record that it belongs to."
            own.append(Column(field.name, whose, field.type))
        if isinstance(table.cursor, Since) and table.cursor.column not in table.keys:
            own.append(Column(table.cursor.column, "When the record last changed at the API.", table.cursor.raw_type))
        return [*own, Column("payload", "The record as the API sent it, unmodified.", "jsonb")]

    def event_time(self, table: Endpoint) -> EventTime | None:
        """The cursor's field."""
        if not isinstance(table.cursor, Since) or not table.cursor.is_time:
            return None
        seconds = 1 if table.cursor.form == "epoch_decimal" else EPOCHS.get(table.cursor.form, 0)
        return EventTime(table.cursor.column, table.cursor.zone, seconds)

    def describe(self, source: Api) -> str:
        """As the page of all tables says it."""
        return "API"

    def words(self, table: Endpoint) -> Words:
        """A change token is no column. Of children the parents that were read are stored; each has its own cursor."""
        stored = None if table.parent is None else f"latest batch of {table.parent.endpoint} that was read"
        return Words(cursor="change token" if isinstance(table.cursor, ChangeToken) else None, stored=stored)

    def dataset(self, source: Api, table: Endpoint) -> Dataset:
        """The API's host, and the list's path."""
        return api_dataset(self.address(source).base_url, table.path)


async def _not_read_yet(
    warehouse: Connection[Record],
    target: Target,
    source: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    limits: HttpLimits,
) -> int:
    """How many more records the API has than raw since the cursor: those the next load brings."""
    since = since_of(endpoint, await ledger.read_cursor(warehouse, source.name, endpoint.name))
    if since is None or not isinstance(endpoint.cursor, Since):
        return 0
    async with contextlib.aclosing(read_pages(source, endpoint, connection, Start(since), limits=limits)) as pages:
        coming = (await anext(pages)).total or 0
    cursor = endpoint.cursor
    window = f"{quote_identifier(cursor.column)} >= {quote_literal(since)}::{cursor.raw_type}"
    return max(0, coming - await raw_rows.count_live(warehouse, target, window))
