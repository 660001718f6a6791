"""A warehouse that was set back in time, brought to where its sources are now, and compared with them.

Cursors were set back with the rows, because both commit together: a load reads again whatever came after. Nothing of
Prefect is needed, and nothing but the given warehouse is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flows.declare.source import Source
from flows.failures.diagnose import diagnose
from flows.kinds.registry import kind_of
from flows.values.connection import DatabaseConnection
from flows.values.errors import MedallionError
from flows.values.row_limit import refuse_limit
from flows.verbs.compare import compare_table
from flows.verbs.find import find_source
from flows.verbs.load import load_table


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What became of one table: rows read again, what the comparison found, or why there is none.

    `agrees`: both ends hold the same now, as far as the source can tell.
    """

    table: str
    rows_read: int = 0
    rows_changed: int = 0
    result: str = ""
    differences: int = 0
    agrees: bool = False
    seconds: float = 0.0
    error: MedallionError | None = None


async def catch_up(
    warehouse: DatabaseConnection,
    chosen: Mapping[str, list[str] | None],
    on_table: Callable[[CaughtUp], None] = lambda _: None,
) -> list[CaughtUp]:
    """Load each chosen table, then compare both ends. Tables fail alone: their error stands in their line."""
    refuse_limit("catching up reads all that is pending", "warehouse")
    found = await asyncio.gather(
        *(_of_source(warehouse, find_source(name), tables, on_table) for name, tables in chosen.items())
    )
    return [line for lines in found for line in lines]


async def _of_source(
    warehouse: DatabaseConnection,
    source: Source,
    tables: list[str] | None,
    on_table: Callable[[CaughtUp], None],
) -> list[CaughtUp]:
    turns = asyncio.Semaphore(source.max_parallel)

    async def take_turn(table: str) -> CaughtUp:
        async with turns:
            line = await _one(warehouse, source, table)
        on_table(line)
        return line

    names = [table.name for table in source.tables if tables is None or table.name in tables]
    return await asyncio.gather(*(take_turn(name) for name in names))


async def _one(warehouse: DatabaseConnection, source: Source, table: str) -> CaughtUp:
    name, began, read, changed = f"{source.name}.{table}", time.monotonic(), 0, 0
    declared = source.table(table)
    try:
        address = kind_of(source).address(source)
        # Rows stamped below the cursor are found missing by the first load, and read by the second.
        for _ in range(2):
            loaded = await load_table(warehouse, address, source, declared)
            read += loaded.counts.rows_read
            changed += loaded.counts.changed
            if loaded.counts.reconciliation != "missing":
                break
        compared = await compare_table(warehouse, address, source, declared)
    except Exception as problem:
        return CaughtUp(
            name, read, changed, "failed", seconds=time.monotonic() - began, error=diagnose(problem, name).error
        )
    seconds = time.monotonic() - began
    return CaughtUp(name, read, changed, compared.result, compared.differences, compared.agrees, seconds)
