"""What a run would do, found out by looking at both ends and touching neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare.source import Loadable, Source
from flows.failures.diagnose import diagnose
from flows.kinds.registry import kind_of
from flows.state import ledger, table_locks
from flows.values.errors import MedallionError, WarehouseError
from flows.values.plan import LoadPlan
from flows.values.row_limit import refuse_limit
from flows.verbs.find import find_source

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One table's plan, or why there is none. `rows` waiting (None: the source cannot tell without reading).

    `keys_differ`: the source has other keys than raw and quarantine, so that deletes are pending though no row is.
    `refusal`: why a run would publish nothing, by what is declared.
    """

    source: str
    table: str
    plan: LoadPlan | None = None
    rows: int | None = None
    running_batch: int | None = None
    error: MedallionError | None = None
    keys_differ: bool = False
    refusal: str | None = None

    @property
    def state(self) -> str:
        """Whether a run would have anything to do."""
        if self.error is not None:
            return "cannot be planned"
        if self.running_batch is not None:
            return f"batch {self.running_batch} is running"
        if self.refusal is not None:
            return "would be refused"
        if self.rows == 0 and self.keys_differ:
            return "pending: deletes"
        return "up to date" if self.rows == 0 else "pending"


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
                lines += await _of_source(warehouse, source, declared)
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


async def _of_source(warehouse: Connection[Record], source: Source, tables: Sequence[Loadable]) -> list[PlanLine]:
    kind, lines = kind_of(source), []
    async with kind.open(source, kind.address(source), f"source {source.name}") as origin:
        for table in tables:
            running = None
            try:
                running = await _lock_holder(warehouse, source.name, table.name)
                if not kind.heeds_limit:
                    refuse_limit("this kind of source is read in full only", f"{source.name}.{table.name}")
                planned = await kind.plan(warehouse, origin, source, table)
                waiting = await kind.waiting(warehouse, origin, planned)
            except Exception as problem:
                lines.append(_unplanned(warehouse, source.name, table.name, running, problem))
                continue
            lines.append(
                PlanLine(
                    source.name,
                    table.name,
                    planned.plan,
                    waiting.rows,
                    running,
                    keys_differ=waiting.keys_differ,
                    refusal=waiting.refusal,
                )
            )
    return lines


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
