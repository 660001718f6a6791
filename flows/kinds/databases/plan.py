"""What a load of a table of another database would read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from flows.kinds.databases import rows
from flows.kinds.databases.connection import Reader, open_reader
from flows.kinds.databases.table import ForeignTable, describe
from flows.kinds.databases.window import Bounds, bounds
from flows.kinds.postgres import Database, Table
from flows.landing.table import SchemaChange, Target, raw_columns
from flows.publish.evolution import drift_since, no_longer_held, returned
from flows.publish.path import leaves_alone, mode_of
from flows.state import ledger
from flows.values.connection import DatabaseConnection
from flows.values.plan import CursorState, LoadPlan
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@asynccontextmanager
async def open_source(source: Database, address: DatabaseConnection, where: str) -> AsyncIterator[Reader]:
    """A connection to the source.

    Raises:
        MedallionError: it cannot be opened, or the extra `databases` is not installed.
    """
    async with open_reader(source.engine, address, where, settings().connect_timeout_seconds) as reader:
        yield reader


async def plan_foreign(
    warehouse: Connection[Record], reader: Reader, source: Database, table: Table
) -> tuple[LoadPlan, ForeignTable, Bounds, tuple[list[SchemaChange], list[SchemaChange]]]:
    """What a load of the table would do now, and the changes that reach raw and that are held back from it.

    Reads both ends and touches neither.
    """
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    state, verdict, last_path = CursorState(), None, None
    if raw is not None:
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        verdict, last_path = await ledger.last_verdict(warehouse, source.name, table.name)
    described = await describe(reader, source.name, table)
    bounded = await bounds(reader, described, state)
    changes, held = await drift_since(warehouse, target, described.shape, raw, table)
    path, reason = mode_of(table), f"{mode_of(table)} what changed" if table.cursor else "the whole table"
    if raw is None:
        path, reason = "first", "first load: the landing table becomes the raw table"
    elif bounded.window.lower is not None or leaves_alone(table):
        added = [change.column for change in changes if change.change == "added"]
        back = returned(changes)
        # An append leaves alone what is in raw, also where it reads it again: any row may lack the new column's value.
        come = "1 = 0" if leaves_alone(table) else bounded.condition
        if back or (added and await rows.has_value_outside(reader, described, added, come)):
            columns, kept = ", ".join(added + back), "old values" if back else "null"
            if table.keys:
                path, reason = "reread", f"rows the cursor would pass over may differ in new column {columns}"
            else:
                # Without a key a row read again would stand there twice.
                note = f"rows in raw keep {kept} in new column {columns}: they have no key"
                bounded = replace(bounded, window=replace(bounded.window, warning=note))
        elif verdict == "missing in raw" and last_path != "reread" and table.keys:
            path, reason = "reread", "the last load found rows missing in raw"
        elif table.keys and (fitting := await no_longer_held(warehouse, target, held)):
            path, reason = "reread", f"rows that waited in quarantine for column {', '.join(fitting)} may fit now"
    if held:
        reason += f"; held back from raw: {', '.join(f'{change.column} {change.change}' for change in held)}"
    if path == "reread":
        bounded = replace(bounded, condition=bounded.below)
    window = bounded.window
    plan = LoadPlan(
        source=source.name,
        table=table.name,
        mode=mode_of(table),
        path=path,
        reason=f"{reason}; {source.engine} by way of Arrow",
        lower=window.lower,
        upper=window.upper,
        shape=described.shape,
        warning=window.warning,
    )
    return plan, described, bounded, (changes, held)
