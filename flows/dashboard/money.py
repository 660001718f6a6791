"""The page of cost, if prices are declared."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from flows.dashboard.desk import desk, needs, refused
from flows.dashboard.people import VIEWER
from flows.dashboard.views import Chart, Series, page
from flows.operations.cost import costs, costs_by_day
from flows.values.price import Price
from flows.values.settings import settings

_DAYS = 30


@needs(VIEWER)
async def cost(request: Request) -> Response:
    """What the last 30 days cost, by table, model and run, and how that changed."""
    price = Price.declared()
    if not price:
        return refused(request, 404, "No price is set, so nothing is known of cost: docs/cost.md.")
    async with desk(request).reader.session() as connection:
        today = datetime.now(UTC).date()
        found = await costs(connection, today, _DAYS, price)
        daily = await costs_by_day(connection, today, _DAYS, price)
    compared = any(line.before is not None for line in found.lines)
    chart = Chart(
        f"Cost by day, {settings().price_currency}", "day (UTC)", [Series("cost")], daily, kind="bars",
        note="without storage, of which no past is kept",
    )  # fmt: skip
    return page(
        request, "cost.html", "Cost", found=found, chart=chart, currency=settings().price_currency,
        budget=settings().cost_budget, compared=compared,
    )  # fmt: skip
