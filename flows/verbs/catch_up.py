"""A warehouse that was set back in time, brought to where its sources are now, and compared with them.

Cursors were set back with the rows, because both commit together: a load reads again whatever came after. Nothing of
Prefect is needed, and nothing but the given warehouse is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flows.access import addresses
from flows.failures.diagnose import diagnose
from flows.kinds.api import Api
from flows.kinds.api.compare import reconcile_endpoint
from flows.kinds.api.plan import load_endpoint
from flows.kinds.databases.compare import reconcile_foreign
from flows.kinds.databases.stage import load_foreign
from flows.kinds.declared import Source
from flows.kinds.dlt import DltSource
from flows.kinds.dlt.compare import reconcile_resource
from flows.kinds.dlt.stage import load_resource
from flows.kinds.postgres import Database
from flows.kinds.postgres.compare.compare import reconcile_table
from flows.kinds.postgres.stage import load_table
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.values.connection import DatabaseConnection
from flows.values.errors import MedallionError
from flows.verbs.find import find_source


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What became of one table: rows read again, what the comparison found, or why there is none.

    `agrees`: both ends hold the same now, as far as the source can tell.
    """

    table: str
    rows_read: int = 0
    rows_changed: int = 0
    verdict: str = ""
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
    try:
        # Rows stamped below the cursor are found missing by the first load, and read by the second.
        for _ in range(2):
            loaded = await _load(warehouse, source, table)
            read += loaded.counts.rows_read
            changed += loaded.counts.changed
            if loaded.counts.reconciled != "missing in raw":
                break
        compared = await _compare(warehouse, source, table)
    except Exception as problem:
        return CaughtUp(
            name, read, changed, "failed", seconds=time.monotonic() - began, error=diagnose(problem, name).error
        )
    seconds = time.monotonic() - began
    return CaughtUp(name, read, changed, compared.verdict, compared.differences, compared.agrees, seconds)


async def _load(warehouse: DatabaseConnection, source: Source, table: str) -> LoadResult:
    if isinstance(source, Api):
        return await load_endpoint(warehouse, addresses.api(source), source, source.table(table))
    if isinstance(source, DltSource):
        return await load_resource(warehouse, addresses.dlt(source), source, source.table(table))
    assert isinstance(source, Database)
    load = load_table if source.engine == "postgresql" else load_foreign
    return await load(warehouse, addresses.database(source), source, source.table(table))


async def _compare(warehouse: DatabaseConnection, source: Source, table: str) -> Reconciliation:
    if isinstance(source, Api):
        return await reconcile_endpoint(warehouse, addresses.api(source), source, source.table(table))
    if isinstance(source, DltSource):
        return await reconcile_resource(warehouse, addresses.dlt(source), source, source.table(table))
    assert isinstance(source, Database)
    compare = reconcile_table if source.engine == "postgresql" else reconcile_foreign
    return await compare(warehouse, addresses.database(source), source, source.table(table))
