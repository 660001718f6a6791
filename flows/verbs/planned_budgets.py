"""What the loads of a plan would use of their budgets, before anything is read.

Rows are those that the plan counts. Bytes, minutes and money are estimated from what a row of the table took in the
loads of the last 30 days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flows.access import addresses
from flows.declare.budget import Budget
from flows.values.price import Price
from flows.verbs.find import find_source
from flows.verbs.plan import PlanLine

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Unit = Literal["rows", "bytes", "minutes", "money"]
_PER_ROW = """
select scope, name, sum(rows)::float8 as rows, sum(bytes)::float8 as bytes, sum(seconds) as seconds,
    sum(requests)::float8 as requests
from ops.usage_days where kind = 'load' and day > current_date - 30 group by scope, name having sum(rows) > 0
"""


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """A limit of a budget, and what the plan would use of it. `scope`: `the run`, `source shop` or `shop.baskets`.

    `unknown`: pending tables of which that cannot be said: the source gives no count, or nothing was loaded yet.
    """

    scope: str
    unit: Unit
    limit: float
    used: float
    unknown: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """1 is all of it; a run with more stops at it."""
        return self.used / self.limit


async def planned_budgets(lines: Sequence[PlanLine], of_run: Budget | None = None) -> list[BudgetUse]:
    """Those of the run, of the sources and of the tables of a plan."""
    scopes = [*_scopes(lines, of_run)]
    if not scopes:
        return []
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        known = await _per_row(warehouse)
    return [
        _use(scope, unit, limit, those, known) for scope, budget, those in scopes for unit, limit in _limits(budget)
    ]


def _scopes(lines: Sequence[PlanLine], of_run: Budget | None) -> Iterator[tuple[str, Budget, list[PlanLine]]]:
    pending = [line for line in lines if line.state.startswith("pending")]
    if of_run is not None:
        yield "the run", of_run, pending
    for name in dict.fromkeys(line.source for line in lines):
        if (budget := find_source(name).budget) is not None:
            yield f"source {name}", budget, [line for line in pending if line.source == name]
    for line in lines:
        if (own := find_source(line.source).table(line.table).budget) is not None:
            yield f"{line.source}.{line.table}", own, [line] if line in pending else []


def _limits(budget: Budget) -> Iterator[tuple[Unit, float]]:
    if budget.rows is not None:
        yield "rows", budget.rows
    if budget.size is not None:
        yield "bytes", budget.size
    if budget.minutes is not None:
        yield "minutes", budget.minutes
    if budget.money is not None:
        yield "money", budget.money


async def _per_row(warehouse: Connection[Record]) -> dict[tuple[str, str], dict[Unit, float]]:
    """What a row of each table took. A plan touches nothing, so that the table may not be there yet."""
    if await warehouse.fetchval("select to_regclass('ops.usage_days') is null"):
        return {}
    price = Price.declared()
    return {
        (row["scope"], row["name"]): {
            "bytes": row["bytes"] / row["rows"],
            "minutes": row["seconds"] / 60 / row["rows"],
            "money": price.cost(row["bytes"], row["requests"], row["seconds"], row["scope"]) / row["rows"],
        }
        for row in await warehouse.fetch(_PER_ROW)
    }


def _use(
    scope: str,
    unit: Unit,
    limit: float,
    lines: Sequence[PlanLine],
    known: Mapping[tuple[str, str], Mapping[Unit, float]],
) -> BudgetUse:
    used, unknown = 0.0, []
    for line in lines:
        each = 1.0 if unit == "rows" else known.get((line.source, line.table), {}).get(unit)
        if line.rows is None or each is None:
            unknown.append(f"{line.source}.{line.table}")
        else:
            used += line.rows * each
    return BudgetUse(scope, unit, limit, used, tuple(unknown))
