"""The plan of one load of one database table: what is read, why, and how changed columns are handled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flows.declare import Overwrite, Timestamp
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.columns import declared_of_columns
from flows.kinds.postgres.large.sizing import plan_reading
from flows.kinds.postgres.large.volume import Volume
from flows.kinds.postgres.table import describe, has_value_outside, key_is_unique
from flows.kinds.postgres.trust import trusted_window
from flows.kinds.postgres.unchanged import is_unwritten, written
from flows.kinds.postgres.zones import notice_local_times
from flows.landing.table import SchemaChange, Target
from flows.publish.budget import Spending
from flows.publish.evolution import beside_scheduled_loads, drift_since, released, returned
from flows.publish.identity import (
    Doubt,
    can_be_read_again,
    joined,
    refuse_key,
    refuse_other_masks,
    untrusted,
)
from flows.publish.known import Known, read_known
from flows.publish.sample import (
    full_load_follows,
    limited_plan,
    of_a_sample,
    only_columns,
    refuse_beside_full_load,
    sample_of,
)
from flows.publish.strategy import leaves_alone, not_unique, strategy_of
from flows.state import ledger
from flows.state.tunings import tuned
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState, LoadPlan, Window
from flows.values.row_limit import row_limit
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table's next load: the plan to show, and the data to execute it.

    `changes` of the source's columns are applied to raw, `held` ones are not. `unique`: an index at the source forbids
    two rows with one key. `first`: raw has no such table yet. `limit`: how many rows are read at most; `keeps_cursor`:
    and the stored cursor stays. `renews`: raw has a sample that is replaced. `unwritten`: as far as the source's
    statistics know, no row was written since the last load. `snapshot` exports the snapshot to read in, once the table
    is locked (None: one of its own).
    """

    plan: LoadPlan
    target: Target
    table: Table
    window: Window
    changes: list[SchemaChange]
    volume: Volume
    held: list[SchemaChange]
    source: Database
    unique: bool = False
    first: bool = False
    limit: int | None = None
    keeps_cursor: bool = False
    renews: bool = False
    unwritten: bool = False
    snapshot: Callable[[], Awaitable[str]] | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """What raw has of the table: its columns (None: it was never loaded), the stored cursor, why a reload is due, and
    the limit of the sample that it has instead of a full load."""

    raw: dict[str, str] | None = None
    state: CursorState = field(default_factory=CursorState)
    why: str | None = None
    sample: int | None = None


async def plan_table(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
) -> TablePlan:
    """The plan of the table's load. Reads source and warehouse and changes neither."""
    target = Target(source.name, table.name, source.raw_schema)
    limit, known = row_limit(), await read_known(warehouse, target, table)
    in_raw = await _held_by_raw(warehouse, target, table, known)
    raw, state = in_raw.raw, in_raw.state
    shape = await describe(origin, source.name, source.raw_schema, table)
    beside = limit is not None and in_raw.sample is None
    if raw is not None and beside:
        refuse_beside_full_load(table.keys, target.where)
        shape, held = beside_scheduled_loads(shape, raw, table, target.where)
        table, changes = only_columns(table, shape.names), list[SchemaChange]()
    else:
        changes, held = await drift_since(warehouse, target, shape, raw, table, known.dropped)
    window, doubt = await trusted_window(origin, table, shape, state, target.where, known.clock)
    if doubt and not can_be_read_again(table) and not doubt.cursor_holds:
        raise untrusted(doubt, target.where)
    local = await notice_local_times(origin, table, shape, target.where)
    # Asked before the snapshot: what is written in between is then written since this load.
    now = {**window.next.identity, **local.seen, "written": await written(origin, table)}
    following = replace(window.next, identity=now)
    window = replace(window, warning=joined(window.warning, local.warning), next=following)
    if doubt is None and isinstance(table.cursor, Timestamp) and (behind := local.behind(table.cursor, state)):
        doubt = Doubt(behind)
    strategy, reason = strategy_of(table), _reason(table, window)
    if raw is None:
        strategy, reason = "initial", "first load: the landing table becomes the raw table"
        if isinstance(table.load, Overwrite):
            window = replace(window, condition="true", below="true", lower=None, earlier=0, since=None)
    elif in_raw.sample is not None:
        strategy = "reload" if can_be_read_again(table) else strategy
        reason = full_load_follows(in_raw.sample)
    elif doubt and can_be_read_again(table):
        strategy, reason = "reload", f"{doubt.reason}: all rows are read again"
        window = replace(window, warning=joined(window.warning, reason))
    elif window.lower is not None or leaves_alone(table):
        told_apart = can_be_read_again(table)
        added = [change.column for change in changes if change.change == "added"]
        back = returned(changes)
        come = await _coming(warehouse, target, table, window) if added else ""
        if back or (added and await has_value_outside(origin, table, added, come)):
            columns, kept = ", ".join(added + back), "old values" if back else "null"
            if told_apart:
                strategy, reason = "reload", f"rows below the cursor may differ in new column {columns}"
            else:
                # Without a key, a row read again would be duplicated.
                note = f"rows in raw keep {kept} in new column {columns}: they have no key"
                window = replace(window, warning=joined(window.warning, note))
        elif in_raw.why and told_apart:
            strategy, reason = "reload", in_raw.why
        elif told_apart and (fitting := released(known.unfit, held)):
            strategy, reason = "reload", f"quarantined rows may fit column {', '.join(fitting)} now"
    if doubt and strategy != "reload":
        note = f"{doubt.reason}: rows in raw keep their old values, because they have no key"
        window = replace(window, warning=joined(window.warning, note))
    if strategy == "reload":
        whole = "true" if window.below == "true" or isinstance(table.load, Overwrite) else window.below
        window = replace(window, condition=whole, below=whole)
    coming = [f"{change.column} {change.change}" for change in changes if change.change != "dropped"]
    unwritten = strategy == "replace" and limit is None and is_unwritten(table, shape, state.identity, now)
    if unwritten := unwritten and not coming and not held:
        reason = "nothing was written since the last load: both ends compare digests, and rows are read if they differ"
    if coming:
        reason += f"; columns: {', '.join(coming)}"
    if held:
        reason += f"; held back from raw: {', '.join(f'{change.column} {change.change}' for change in held)}"
    unique = await key_is_unique(origin, table)
    spending = Spending.of(source, table)
    spending.resumes = known.has_chunks
    limits = tuned(settings(), known.tunings)
    reading, volume = await plan_reading(origin, table, shape, window, strategy, spending, limits)
    plan = LoadPlan(
        source=source.name,
        table=table.name,
        strategy=strategy,
        reason=reason if reading.volume == "small" else f"{reason}; {reading}",
        lower=window.lower,
        upper=window.upper,
        shape=shape,
        warning=_warning(table, window),
        reading=reading,
        cautions=(*(() if unique or not table.keys else (not_unique(table.keys),)), *declared_of_columns(table)),
    )
    planned = TablePlan(plan, target, table, window, changes, volume, held, source, unique, raw is None)
    renews = in_raw.sample is not None and (limit is None or not table.keys)
    planned = replace(planned, renews=renews, unwritten=unwritten)
    return planned if limit is None else _limited(planned, limit, keeps_cursor=raw is not None and beside)


def _limited(planned: TablePlan, limit: int, *, keeps_cursor: bool) -> TablePlan:
    """The same load, of which so many rows are read."""
    return replace(
        planned,
        plan=limited_plan(planned.plan, limit, keeps_cursor=keeps_cursor),
        window=replace(planned.window, below="true", next=of_a_sample(planned.window.next.identity, limit)),
        limit=limit,
        keeps_cursor=keeps_cursor,
    )


async def _held_by_raw(warehouse: Connection[Record], target: Target, table: Table, known: Known) -> _Held:
    """Raises: DeclarationError: raw was loaded with another key, or with other masks."""
    raw = known.raw
    if raw is None:
        return _Held()
    refuse_key(known.key, target, table.keys)
    state = await _state(warehouse, target, table, known.state)
    refuse_other_masks(state, raw, table, target.where)
    sample = sample_of(state)
    if sample is not None:
        return _Held(raw, sample=sample)
    return _Held(raw, state, known.reload)


async def _state(warehouse: Connection[Record], target: Target, table: Table, state: CursorState) -> CursorState:
    """The stored cursor; for an overwrite with the time up to which partitions were read."""
    if not isinstance(table.load, Overwrite) or "reached" in state.identity:
        return state
    began = await ledger.last_full_load(warehouse, target.source, target.table)
    return replace(state, identity={**state.identity, "reached": began.isoformat()}) if began else state


async def _coming(warehouse: Connection[Record], target: Target, table: Table, window: Window) -> str:
    """SQL for rows that are read with all columns, including those that raw gets with this load."""
    if not leaves_alone(table):
        return window.condition
    if table.cursor_column is None:
        return "false"
    name = quote_identifier(table.cursor_column)
    latest = await warehouse.fetchval(f"select max({name})::text from {target.raw}")
    return window.condition if latest is None else f"{name} > {quote_literal(latest)}"


def _warning(table: Table, window: Window) -> str | None:
    hidden = "rows that the source hides from our role are not loaded, as declared" if table.sees_a_part else None
    return "; ".join(part for part in (window.warning, hidden) if part) or None


def _reason(table: Table, window: Window) -> str:
    if isinstance(table.load, Overwrite) and window.lower is not None:
        earlier = f", and {window.earlier} earlier in which rows changed" if window.earlier else ""
        since = f", and those since the last load, from {window.since} on" if window.since else ""
        return f"overwrite {table.load}{since}{earlier}"
    if table.cursor is not None and not isinstance(table.load, Overwrite):
        return f"{strategy_of(table)} of changed rows"
    return "the full table; only differing rows are written"
