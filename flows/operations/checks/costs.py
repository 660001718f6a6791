"""The cost of the last 30 days, against the budget."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.operations.alerts import Condition
from flows.operations.cost import costs
from flows.values.price import Price

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_NAME = "cost over budget"
_DAYS = 30


async def cost_over_budget(
    connection: Connection[Record], now: datetime, budget: float | None, currency: str, price: Price
) -> list[Condition]:
    """One problem if the last 30 complete days cost more than the budget; it names what cost most."""
    if budget is None or not price:
        return []
    found = await costs(connection, now.astimezone(UTC).date(), _DAYS, price)
    if found.whole <= budget:
        return []
    first = sorted((line for line in found.lines if line.cost), key=lambda line: -line.cost)[:3]
    most = ", ".join(f"{line.name} {line.cost:,.2f}" for line in first)
    return [
        Condition(
            _NAME,
            "cost",
            "warning",
            f"the last {_DAYS} days cost {found.whole:,.2f} {currency}, more than the budget of {budget:,.2f}: {most}",
            "`medallion cost` shows what costs most and what changed; if that is right, raise MEDALLION_COST_BUDGET",
        )
    ]
