"""One load of one API endpoint: lock, plan, stage, check, publish.

A list is published group by group, each with the place behind it, so that a load that ends early is gone on with.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flows.failures.circuit import guarded
from flows.kinds.api import Api, ChangeToken, Endpoint, Since, list_state
from flows.kinds.api.list import ListLoad
from flows.kinds.api.list_state import ListRead
from flows.kinds.api.pages.endpoint import HttpLimits
from flows.kinds.api.shape import mark_of, shape_of
from flows.landing.table import Target, raw_columns
from flows.publish.session import LoadResult, Progress, load_session
from flows.state import ledger
from flows.values.connection import ApiConnection, DatabaseConnection
from flows.values.plan import CursorState, LoadPlan
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

__all__ = ["load_endpoint", "mode_of", "plan_endpoint", "shape_of", "since_of"]


def mode_of(endpoint: Endpoint) -> str:
    """`merge` or `replace`."""
    return type(endpoint.load).__name__.lower()


def since_of(endpoint: Endpoint, state: CursorState) -> str | None:
    """What to ask the API for: the latest cursor less its lag, or the change token; None asks for everything."""
    if state.value is None:
        return None
    match endpoint.cursor:
        case Since() as since:
            return since.lower(state.value)
        case ChangeToken():
            return state.value
    return None


async def load_endpoint(
    warehouse_address: DatabaseConnection,
    api_connection: ApiConnection,
    source: Api,
    endpoint: Endpoint,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
    limits: HttpLimits | None = None,
) -> LoadResult:
    """Bring raw up to date with the endpoint's records, within `limits` (None: those of the settings).

    Memory holds a page, and those that are fetched ahead of it.

    Raises:
        MedallionError: see `flows.values.errors`; what was committed before stays, and is gone on from.
    """
    target = Target(source.name, endpoint.name, source.raw_schema)
    async with load_session(warehouse_address, target, mode_of(endpoint), "planned", run_id) as session:
        plan, state = await plan_endpoint(session.warehouse, target, source, endpoint)
        known = await known_read(session.warehouse, source, endpoint, plan)
        bounds = limits or HttpLimits(wait_budget_seconds=settings().api_wait_budget_seconds)
        load = ListLoad(
            warehouse_address, session, api_connection, source, endpoint, plan, state, known, bounds, on_progress
        )
        async with guarded(session.warehouse, source.name, target.where):
            counts = await load.run()
        return session.result(replace(plan, upper=load.upper), counts, tuple(load.changes), load.groups)


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
    plan = LoadPlan(source.name, endpoint.name, mode_of(endpoint), path, reason, lower=since)
    if (await known_read(warehouse, source, endpoint, plan)).is_under_way:
        reason = "goes on with the list that the last load did not finish"
    elif since is None and path == "merge":
        reason = "every page: the endpoint has no cursor" if endpoint.cursor is None else "every page: no cursor yet"
    return replace(plan, reason=reason), state


async def known_read(warehouse: Connection[Record], source: Api, endpoint: Endpoint, plan: LoadPlan) -> ListRead:
    """What is known of the list and holds for this load: an ETag of the same question, a place in the same list."""
    declared = mark_of(source, endpoint)
    nothing = ListRead(declared, since=plan.lower)
    if not await warehouse.fetchval("select to_regclass('ops.list_reads') is not null"):
        return nothing
    known = await list_state.read(warehouse, source.name, endpoint.name, timedelta(hours=settings().resume_hours))
    if known is None or known.declared != declared:
        return nothing
    if plan.path == "first":
        # What an earlier load gathered. What it had published is gone with the raw table, and so is what an ETag of
        # before stands for.
        goes_on = known.is_under_way and known.place is None and known.since == plan.lower
        return replace(known, etag=None) if goes_on else nothing
    if known.is_under_way:
        return known
    if plan.path == "reread" or known.since != plan.lower or not endpoint.etag:
        return nothing
    return replace(nothing, etag=known.etag)
