"""The plan of one load of one database table: what is read, why, and what becomes of columns that changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.declare import Overwrite
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.large.sizing import plan_reading
from flows.kinds.postgres.large.volume import Volume
from flows.kinds.postgres.table import describe, has_value_outside
from flows.kinds.postgres.window import window as read_window
from flows.landing.table import SchemaChange, Target, raw_columns
from flows.publish.evolution import drift_since, no_longer_held, returned
from flows.publish.path import leaves_alone, mode_of
from flows.state import ledger
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState, LoadPlan, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Planned:
    """A table's next load: the plan for people, and what carrying it out needs.

    `changes` of the source's columns reach raw, those `held` do not.
    """

    plan: LoadPlan
    window: Window
    changes: list[SchemaChange]
    volume: Volume
    held: list[SchemaChange]


async def plan_table(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
) -> Planned:
    """What a load of the table would do now. Reads both ends and touches neither."""
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    state = CursorState()
    verdict: tuple[str | None, str | None] = (None, None)
    if raw is not None:
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        verdict = await ledger.last_verdict(warehouse, source.name, table.name)
    shape = await describe(origin, source.name, source.raw_schema, table)
    window = await read_window(origin, table, shape, state)
    changes, held = await drift_since(warehouse, target, shape, raw, table)
    path, reason = mode_of(table), _reason(table, window)
    if raw is None:
        path, reason = "first", "first load: the landing table becomes the raw table"
        if isinstance(table.load, Overwrite):
            window = replace(window, condition="true", below="true", lower=None, earlier=0)
    elif window.lower is not None or leaves_alone(table):
        told_apart = bool(table.keys) or isinstance(table.load, Overwrite)
        added = [change.column for change in changes if change.change == "added"]
        back = returned(changes)
        come = await _coming(warehouse, target, table, window) if added else ""
        if back or (added and await has_value_outside(origin, table, added, come)):
            columns, kept = ", ".join(added + back), "old values" if back else "null"
            if told_apart:
                path, reason = "reread", f"rows that would be passed over may differ in new column {columns}"
            else:
                # Without a key a row read again would stand there twice.
                window = replace(window, warning=f"rows in raw keep {kept} in new column {columns}: they have no key")
        elif verdict[0] == "missing in raw" and verdict[1] != "reread" and told_apart:
            path, reason = "reread", "the last load found rows missing in raw"
        elif told_apart and (fitting := await no_longer_held(warehouse, target, held)):
            path, reason = "reread", f"rows that waited in quarantine for column {', '.join(fitting)} may fit now"
    if path == "reread":
        whole = "true" if window.below == "true" or isinstance(table.load, Overwrite) else window.below
        window = replace(window, condition=whole, below=whole)
    coming = [f"{change.column} {change.change}" for change in changes if change.change != "dropped"]
    if coming:
        reason += f"; columns: {', '.join(coming)}"
    if held:
        reason += f"; held back from raw: {', '.join(f'{change.column} {change.change}' for change in held)}"
    reading, volume = await plan_reading(origin, table, shape, window, path)
    plan = LoadPlan(
        source=source.name,
        table=table.name,
        mode=mode_of(table),
        path=path,
        reason=reason if reading.volume == "small" else f"{reason}; {reading}",
        lower=window.lower,
        upper=window.upper,
        shape=shape,
        warning=window.warning,
        reading=reading,
    )
    return Planned(plan, window, changes, volume, held)


async def _coming(warehouse: Connection[Record], target: Target, table: Table, window: Window) -> str:
    """SQL for rows that come with all of their columns, also those that raw gets with this load."""
    if not leaves_alone(table):
        return window.condition
    if table.cursor_column is None:
        return "false"
    name = quote_identifier(table.cursor_column)
    latest = await warehouse.fetchval(f"select max({name})::text from {target.raw}")
    return window.condition if latest is None else f"{name} > {quote_literal(latest)}"


def _reason(table: Table, window: Window) -> str:
    if isinstance(table.load, Overwrite) and window.lower is not None:
        earlier = f", and {window.earlier} earlier in which rows changed" if window.earlier else ""
        return f"overwrite {table.load}{earlier}"
    if table.cursor is not None and not isinstance(table.load, Overwrite):
        return f"{mode_of(table)} what changed"
    return "the whole table, written where it differs"
