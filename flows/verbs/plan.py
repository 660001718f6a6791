"""What a run would do, found out by looking at both ends and touching neither."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.failures.diagnose import diagnose
from flows.kinds.api import Api, Endpoint
from flows.kinds.api.pages.endpoint import HttpLimits, read_pages
from flows.kinds.api.plan import plan_endpoint
from flows.kinds.databases import rows as foreign
from flows.kinds.databases.plan import open_source, plan_foreign
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.dlt.stage import opened_resource
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.plan import plan_table
from flows.kinds.postgres.table import count, key_set
from flows.landing.table import Target
from flows.publish import write
from flows.quality.open_rows import key_set_not_in_raw
from flows.state import ledger, table_locks
from flows.values.errors import MedallionError, WarehouseError
from flows.values.plan import LoadPlan
from flows.verbs.find import find_source

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A plan is for looking: an API that asks us to wait longer than this is shown as not answering.
_API_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One table's plan, or why there is none. `rows` waiting (None: the source cannot tell without reading).

    `keys_differ`: the source has other keys than raw and quarantine, so that deletes wait though no row does.
    """

    source: str
    table: str
    plan: LoadPlan | None = None
    rows: int | None = None
    running_batch: int | None = None
    error: MedallionError | None = None
    keys_differ: bool = False

    @property
    def due(self) -> str:
        """Whether a run would have anything to do."""
        if self.error is not None:
            return "cannot be planned"
        if self.running_batch is not None:
            return f"batch {self.running_batch} is running"
        if self.rows == 0 and self.keys_differ:
            return "due: deletes wait"
        if self.rows == 0:
            return "nothing waits"
        return "due"


async def plan_sources(chosen: Mapping[str, list[str] | None]) -> list[PlanLine]:
    """The plan of each chosen table, in declared order. A source that does not answer costs only its own lines.

    Raises:
        MedallionError: the warehouse does not answer, or is of another version.
    """
    lines: list[PlanLine] = []
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await _refuse_earlier_version(warehouse)
        for name, tables in chosen.items():
            source = find_source(name)
            declared = [table for table in source.tables if tables is None or table.name in tables]
            try:
                if isinstance(source, Database) and source.engine != "postgresql":
                    lines += await _foreign_lines(warehouse, source, [t for t in declared if isinstance(t, Table)])
                elif isinstance(source, Database):
                    lines += await _database_lines(warehouse, source, [t for t in declared if isinstance(t, Table)])
                elif isinstance(source, DltSource):
                    lines += await _dlt_lines(warehouse, source, [r for r in declared if isinstance(r, Resource)])
                else:
                    lines += await _api_lines(warehouse, source, [e for e in declared if isinstance(e, Endpoint)])
            except Exception as problem:
                if warehouse.is_closed():
                    raise diagnose(problem, "warehouse", "warehouse").error from None
                error = diagnose(problem, f"source {name}", "source").error
                lines += [PlanLine(name, table.name, error=error) for table in declared]
    return lines


async def _refuse_earlier_version(warehouse: Connection[Record]) -> None:
    version = await ledger.known_version(warehouse)
    if version is not None and version < ledger.SCHEMA_VERSION:
        raise WarehouseError(
            f"schema ops is of version {version}, a plan reads version {ledger.SCHEMA_VERSION}, and touches nothing",
            where="warehouse",
            fix="bring it up to date with `medallion migrate`; the next run does so as well",
        )


async def _lock_holder(warehouse: Connection[Record], source: str, table: str) -> int | None:
    """The batch under way; None too on a warehouse whose schema ops is still to be created or upgraded."""
    if not await warehouse.fetchval("select to_regclass('ops.locks') is not null"):
        return None
    return await table_locks.lock_holder(warehouse, source, table)


async def _database_lines(warehouse: Connection[Record], source: Database, tables: list[Table]) -> list[PlanLine]:
    lines = []
    async with addresses.connect(addresses.database(source), side="source") as origin:
        for table in tables:
            running = None
            try:
                running = await _lock_holder(warehouse, source.name, table.name)
                planned = await plan_table(warehouse, origin, source, table)
                plan = planned.plan
                waiting = await count(origin, table, planned.window.condition)
                differ = not waiting and table.deletes and await _keys_differ(warehouse, origin, source, table, plan)
            except Exception as problem:
                lines.append(_unplanned(warehouse, source.name, table.name, running, problem))
                continue
            lines.append(PlanLine(source.name, table.name, plan, waiting, running, keys_differ=differ))
    return lines


async def _keys_differ(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table, plan: LoadPlan
) -> bool:
    """Whether a load would look for deletes: it compares the same sets of keys."""
    target, shape = Target(source.name, table.name, source.raw_schema), plan.shape
    assert shape is not None  # plan_table always describes
    if plan.path == "first":
        return False
    kinds = {key: column.raw_type for key in table.keys if (column := shape.column(key))}
    held = await write.key_set(warehouse, target, table.keys)
    aside = await key_set_not_in_raw(warehouse, target.raw, kinds, source=source.name, table=table.name)
    return await key_set(origin, table, shape) != held.plus(aside)


def _unplanned(
    warehouse: Connection[Record], source: str, table: str, running: int | None, problem: Exception
) -> PlanLine:
    """One table's failure costs only its own line; a warehouse that went away is not the source's fault.

    Raises:
        MedallionError: the warehouse does not answer any more.
    """
    if warehouse.is_closed():
        raise diagnose(problem, "warehouse", "warehouse").error from None
    error = diagnose(problem, f"{source}.{table}", "source").error
    return PlanLine(source, table, running_batch=running, error=error)


async def _foreign_lines(warehouse: Connection[Record], source: Database, tables: list[Table]) -> list[PlanLine]:
    lines = []
    async with open_source(source, addresses.database(source), f"source {source.name}") as reader:
        for table in tables:
            running = None
            try:
                running = await _lock_holder(warehouse, source.name, table.name)
                plan, described, bounded, _ = await plan_foreign(warehouse, reader, source, table)
                waiting = await foreign.count(reader, described, f"{bounded.condition} and {bounded.below}")
            except Exception as problem:
                lines.append(_unplanned(warehouse, source.name, table.name, running, problem))
                continue
            lines.append(PlanLine(source.name, table.name, plan, waiting, running))
    return lines


async def _api_lines(warehouse: Connection[Record], source: Api, endpoints: list[Endpoint]) -> list[PlanLine]:
    connection = addresses.api(source)
    lines = []
    for endpoint in endpoints:
        target = Target(source.name, endpoint.name, source.raw_schema)
        running = None
        try:
            running = await _lock_holder(warehouse, source.name, endpoint.name)
            plan, _ = await plan_endpoint(warehouse, target, source, endpoint)
            rows = None
            if endpoint.total is not None:
                async with asyncio.timeout(_API_PATIENCE_SECONDS * 2):
                    limits = HttpLimits(wait_budget_seconds=_API_PATIENCE_SECONDS)
                    pages = read_pages(source, endpoint, connection, since=plan.lower, limits=limits)
                    rows = (await anext(pages)).total
                    await pages.aclose()
        except Exception as problem:
            lines.append(_unplanned(warehouse, source.name, endpoint.name, running, problem))
            continue
        lines.append(PlanLine(source.name, endpoint.name, plan, rows, running))
    return lines


async def _dlt_lines(warehouse: Connection[Record], source: DltSource, resources: list[Resource]) -> list[PlanLine]:
    """The source's function is called and its hints are looked at; no record is read."""
    connection = addresses.dlt(source)
    lines = []
    for resource in resources:
        target = Target(source.name, resource.name, source.raw_schema)
        running = None
        try:
            running = await _lock_holder(warehouse, source.name, resource.name)
            async with opened_resource(warehouse, target, connection, source, resource) as (_, _, plan):
                lines.append(PlanLine(source.name, resource.name, plan, running_batch=running))
        except Exception as problem:
            lines.append(_unplanned(warehouse, source.name, resource.name, running, problem))
    return lines
