"""The plan of an endpoint's load: its cursor, or the position in a list that an earlier load did not finish."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flows.kinds.api import Api, ChangeToken, Endpoint, Since, list_state
from flows.kinds.api.list_state import ListRead
from flows.kinds.api.shape import mark_of
from flows.landing.table import Target, raw_columns
from flows.publish.identity import refuse_other_key
from flows.publish.sample import full_load_follows, sample_of
from flows.publish.strategy import strategy_of
from flows.state import ledger, reloads
from flows.values.plan import CursorState, LoadPlan
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def since_of(endpoint: Endpoint, state: CursorState) -> str | None:
    """The lower bound to request: the latest cursor minus its lag, or the change token; None requests everything."""
    if endpoint.parent is not None:
        return None  # each parent has its own
    match endpoint.cursor:
        case Since() as since:
            return (since.begin or None) if state.value is None else since.lower(state.value)
        case ChangeToken():
            return state.value
    return None


def identity_of(endpoint: Endpoint) -> dict[str, Any]:
    """What a stored cursor belongs to, as JSON: the list, and the declared cursor without its lag."""
    if endpoint.cursor is None:
        return {}
    facts = asdict(endpoint.cursor)
    if isinstance(endpoint.cursor, Since):
        # What decides which records have been read, and what their values mean; not how they are requested.
        own = ("parameter", "field", "form", "prefix")
        more = {name: facts[name] for name, usual in (("zone", "UTC"), ("begin", "")) if facts[name] != usual}
        facts = {name: facts[name] for name in own} | more
    return {"cursor": {"kind": type(endpoint.cursor).__name__, **facts}, "path": endpoint.path}


async def plan_endpoint(
    warehouse: Connection[Record], target: Target, source: Api, endpoint: Endpoint
) -> tuple[LoadPlan, CursorState, int | None]:
    """The plan of the endpoint's load, the stored cursor, and the limit of the sample that raw has instead of a full
    load. Reads the warehouse and changes nothing."""
    raw = await raw_columns(warehouse, target)
    state, warning, sample = CursorState(), None, None
    strategy = strategy_of(endpoint)
    reason = f"{strategy} of what changed according to the API" if endpoint.cursor else f"{strategy}: every page"
    if raw is None:
        strategy, reason = "initial", "first load: every page"
    else:
        await refuse_other_key(warehouse, target, endpoint.keys)
        state = await ledger.read_cursor(warehouse, source.name, endpoint.name)
        sample = sample_of(state)
        if sample is not None:
            strategy, reason, state = "reload", full_load_follows(sample), CursorState()
        elif why := await reloads.reason(warehouse, source.name, endpoint.name):
            strategy, reason, state = "reload", why, CursorState()
        elif state.value is not None and endpoint.cursor is not None and _is_of_another(endpoint, state):
            strategy, state = "reload", CursorState()
            reason = warning = "another cursor or path is declared than the stored cursor belongs to: every page"
    since = since_of(endpoint, state)
    plan = LoadPlan(source.name, endpoint.name, strategy, reason, lower=since, warning=warning)
    if (await known_read(warehouse, source, endpoint, plan)).is_under_way:
        reason = "resumes the list that the last load did not finish"
    elif state.value is None and strategy == "merge":
        reason = "every page: the endpoint has no cursor" if endpoint.cursor is None else "every page: no cursor yet"
    return replace(plan, reason=reason), state, sample


def _is_of_another(endpoint: Endpoint, state: CursorState) -> bool:
    """Whether the value is of another cursor; unknown for one saved before version 11, or set by a person."""
    return any(part in state.identity and state.identity[part] != now for part, now in identity_of(endpoint).items())


async def known_read(warehouse: Connection[Record], source: Api, endpoint: Endpoint, plan: LoadPlan) -> ListRead:
    """The list's state that is valid for this load: an ETag of the same request, a place in the same list."""
    declared = mark_of(source, endpoint)
    nothing = ListRead(declared, since=plan.lower)
    if not await warehouse.fetchval("select to_regclass('ops.list_reads') is not null"):
        return nothing
    known = await list_state.read(warehouse, source.name, endpoint.name, timedelta(hours=settings().resume_hours))
    if known is None:
        return nothing
    if plan.strategy not in ("initial", "reload"):
        nothing = replace(nothing, gathered=known.gathered and known.gathered.rest)
    if known.declared != declared:
        return nothing
    if plan.strategy == "initial":
        # Keep what an earlier load gathered. What it published was dropped with the raw table, so an earlier ETag is
        # invalid.
        goes_on = known.is_under_way and known.place is None and known.since == plan.lower
        return replace(known, etag=None) if goes_on else nothing
    if known.is_under_way:
        return known
    if plan.strategy == "reload" or known.since != plan.lower or not endpoint.etag:
        return nothing
    return replace(nothing, etag=known.etag)
