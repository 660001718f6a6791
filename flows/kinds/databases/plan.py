"""The plan of a load from another database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flows.declare import Sequence
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.columns import declared_of_columns
from flows.kinds.databases import rows
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.identity import doubt, identify
from flows.kinds.databases.table import ForeignTable, describe
from flows.kinds.databases.window import Bounds, bounds
from flows.landing.table import SchemaChange, Target, raw_columns
from flows.publish.evolution import beside_scheduled_loads, drift_since, no_longer_held, returned
from flows.publish.identity import Clock, Doubt, joined, read_clock, refuse_other_key, refuse_other_masks, untrusted
from flows.publish.sample import (
    full_load_follows,
    limited_plan,
    of_a_sample,
    refuse_beside_full_load,
    sample_of,
)
from flows.publish.strategy import leaves_alone, not_unique, strategy_of
from flows.state import ledger, reloads
from flows.values.plan import CursorState, LoadPlan
from flows.values.row_limit import row_limit

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class ForeignPlan:
    """A table's next load: the plan to show, and the data to execute it.

    `changes` of the source's columns are applied to raw, `held` ones are not. `first`: raw has no such table yet.
    `limit`: how many rows are read at most; `keeps_cursor`: and the stored cursor stays. `renews`: raw has a sample
    that is replaced.
    """

    plan: LoadPlan
    target: Target
    described: ForeignTable
    bounded: Bounds
    changes: list[SchemaChange]
    held: list[SchemaChange]
    first: bool = False
    limit: int | None = None
    keeps_cursor: bool = False
    renews: bool = False


async def plan_foreign(warehouse: Connection[Record], reader: Reader, source: Database, table: Table) -> ForeignPlan:
    """The plan of the table's load. Reads source and warehouse and changes neither."""
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    state, why, limit, sample = CursorState(), None, row_limit(), None
    if raw is not None:
        await refuse_other_key(warehouse, target, table.keys)
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        refuse_other_masks(state, raw, table, target.where)
        why = await reloads.reason(warehouse, source.name, table.name)
        sample = sample_of(state)
        state = state if sample is None else CursorState()
    described = await describe(reader, source.name, table)
    beside = limit is not None and raw is not None and sample is None
    if raw is not None and beside:
        refuse_beside_full_load(table.keys, target.where)
        shape, held = beside_scheduled_loads(described.shape, raw, table, target.where)
        described, changes = described.narrowed(shape.names), list[SchemaChange]()
    else:
        changes, held = await drift_since(warehouse, target, described.shape, raw, table)
    clock = await read_clock(warehouse)
    bounded, found = await _trusted_bounds(reader, described, state, clock)
    if found and not table.keys and not found.cursor_holds:
        raise untrusted(found, target.where)
    strategy, reason = strategy_of(table), f"{strategy_of(table)} of changed rows" if table.cursor else "the full table"
    if raw is None:
        strategy, reason = "initial", "first load: the landing table becomes the raw table"
    elif sample is not None:
        strategy, reason = "reload" if table.keys else strategy, full_load_follows(sample)
    elif found and table.keys:
        strategy, reason = "reload", f"{found.reason}: all rows are read again"
        bounded = _warned(bounded, reason)
    elif bounded.window.lower is not None or leaves_alone(table):
        added = [change.column for change in changes if change.change == "added"]
        back = returned(changes)
        # An append skips existing rows, even if it reads them again: any row may lack the new column's value.
        come = "1 = 0" if leaves_alone(table) else bounded.condition
        if back or (added and await rows.has_value_outside(reader, described, added, come)):
            columns, kept = ", ".join(added + back), "old values" if back else "null"
            if table.keys:
                strategy, reason = "reload", f"rows below the cursor may differ in new column {columns}"
            else:
                # Without a key, a row read again would be duplicated.
                note = f"rows in raw keep {kept} in new column {columns}: they have no key"
                bounded = _warned(bounded, note)
        elif why and table.keys:
            strategy, reason = "reload", why
        elif table.keys and (fitting := await no_longer_held(warehouse, target, held)):
            strategy, reason = "reload", f"quarantined rows may fit column {', '.join(fitting)} now"
    if held:
        reason += f"; held back from raw: {', '.join(f'{change.column} {change.change}' for change in held)}"
    if found and strategy != "reload":
        bounded = _warned(bounded, f"{found.reason}: rows in raw keep their old values, because they have no key")
    if strategy == "reload":
        bounded = replace(bounded, condition=bounded.below)
    window = bounded.window
    plan = LoadPlan(
        source=source.name,
        table=table.name,
        strategy=strategy,
        reason=f"{reason}; {source.engine} via Arrow",
        lower=window.lower,
        upper=window.upper,
        shape=described.shape,
        warning=window.warning,
        cautions=(
            *(() if described.unique or not table.keys else (not_unique(table.keys),)),
            *declared_of_columns(table),
        ),
    )
    planned = ForeignPlan(plan, target, described, bounded, changes, held, raw is None)
    planned = replace(planned, renews=sample is not None and (limit is None or not table.keys))
    return planned if limit is None else _limited(planned, limit, keeps_cursor=beside)


def _limited(planned: ForeignPlan, limit: int, *, keeps_cursor: bool) -> ForeignPlan:
    """The same load, of which so many rows are read."""
    plan, window = planned.plan, planned.bounded.window
    following = replace(window, below="true", next=of_a_sample(window.next.identity, limit))
    return replace(
        planned,
        plan=limited_plan(plan, limit, keeps_cursor=keeps_cursor),
        bounded=replace(planned.bounded, window=following),
        limit=limit,
        keeps_cursor=keeps_cursor,
    )


async def _trusted_bounds(
    reader: Reader, described: ForeignTable, state: CursorState, clock: Clock
) -> tuple[Bounds, Doubt | None]:
    """The bounds, and why rows below the stored cursor may differ. A cursor that cannot be trusted is left out."""
    identity, found = await identify(reader, described), None
    if described.table.cursor is not None and state.value is not None:
        found = doubt(described, state.identity, identity)
    begins = found is not None and (bool(described.table.keys) or not found.cursor_holds)
    bounded = await bounds(reader, described, CursorState() if begins else state, clock)
    if bounded.window.doubt is not None and not _goes_on(described.table, identity, state):
        found = Doubt(bounded.window.doubt)
        bounded = await bounds(reader, described, CursorState(), clock)
    following = replace(bounded.window.next, identity={**identity, **bounded.window.next.identity})
    return replace(bounded, window=replace(bounded.window, next=following)), found


def _goes_on(table: Table, identity: Mapping[str, Any], state: CursorState) -> bool:
    """Whether the table's own numbering is beyond the stored value: then its newest rows were deleted."""
    last = identity["numbered"]
    return isinstance(table.cursor, Sequence) and bool(last) and int(last) >= int(str(state.value))


def _warned(bounded: Bounds, note: str) -> Bounds:
    return replace(bounded, window=replace(bounded.window, warning=joined(bounded.window.warning, note)))
