"""Pages of gold, for analysts. Each exists if its model does."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from flows.dashboard import gold
from flows.dashboard.desk import desk, needs, number_in, person_of, record
from flows.dashboard.people import ANALYST, PERSONAL
from flows.dashboard.reading import operator
from flows.dashboard.views import Chart, Series, page
from flows.values.errors import DeclarationError

#: Days of sales that a page may show.
SPANS = (30, 90, 365)
_FORECAST_DAYS = 90


async def _need(request: Request, model: str) -> None:
    if model not in await desk(request).gold():
        raise DeclarationError(
            f"gold has no model {model} with the columns of this page", where="gold", fix="build it, or grant it"
        )


@needs(ANALYST)
async def sales(request: Request) -> Response:
    """Sales over time, and by department."""
    await _need(request, gold.SALES)
    days = number_in(request, "days", 90, SPANS)
    async with desk(request).reader.session() as connection:
        found = await gold.daily_sales(connection, days)
        by_department = await gold.departments(connection) if gold.MONTHS in await desk(request).gold() else []
    chart = Chart(
        "Sales per day", "day (UTC)", [Series("sales", "$"), Series("mean of seven days", "$")],
        [(one["sold_on"], one["sales_value"], one["sales_7_day_average"]) for one in found],
    )  # fmt: skip
    baskets = Chart(
        "Baskets per day", "day (UTC)", [Series("baskets"), Series("households")],
        [(one["sold_on"], one["baskets"], one["households"]) for one in found],
    )  # fmt: skip
    return page(
        request, "sales.html", "Sales", days=days, spans=SPANS, charts=[chart, baskets] if found else [],
        total=sum(one["sales_value"] for one in found), baskets=sum(one["baskets"] for one in found),
        departments=by_department, span=gold.days_back(found),
    )  # fmt: skip


@needs(ANALYST)
async def customers(request: Request) -> Response:
    """Customers by segment, and what gold knows of one."""
    await _need(request, gold.CUSTOMERS)
    at, person = desk(request), person_of(request)
    text = request.query_params.get("household", "").strip()
    number, unmasked = number_in(request, "household", -1), person.may(PERSONAL)
    personal = gold.personal_columns((await at.facts.models()).manifest)
    async with at.reader.session() as connection:
        found = await gold.segments(connection)
        can_find = found is not None or await gold.has_key(connection)
        if number >= 0 and can_find and unmasked:
            # Committed before a value is read.
            async with operator() as loader:
                await record(loader, person, "customer shown", f"household {number}", "done")
        fields = (
            await gold.customer(connection, number, personal, unmasked=unmasked) if number >= 0 and can_find else []
        )
    return page(
        request, "customers.html", "Customers", segments=found, fields=fields, asked_for=text, can_find=can_find,
        unmasked=unmasked,
    )  # fmt: skip


@needs(ANALYST)
async def campaigns(request: Request) -> Response:
    """Campaigns and their lift."""
    await _need(request, gold.LIFT)
    async with desk(request).reader.session() as connection:
        found = await gold.campaigns(connection)
    measured = [one for one in found if one["is_measurable"] and one["lift_per_household"] is not None]
    reach = max((abs(one["lift_per_household"]) + 2 * (one["standard_error"] or 0) for one in measured), default=1) or 1
    for one in measured:
        half = 2 * float(one["standard_error"] or 0)
        lift = float(one["lift_per_household"])
        one["at"], one["from"], one["to"] = (_place(value, float(reach)) for value in (lift, lift - half, lift + half))
    return page(request, "campaigns.html", "Campaigns", campaigns=found, measured=measured)


def _place(value: float, reach: float) -> float:
    """From -reach…reach to 0…240, the width of the drawing."""
    return round(120 + 116 * value / reach, 1)


@needs(ANALYST)
async def forecast(request: Request) -> Response:
    """What a forecast of a department starts from."""
    await _need(request, gold.FORECAST)
    async with desk(request).reader.session() as connection:
        names = await gold.forecast_departments(connection)
        chosen = request.query_params.get("department", "")
        chosen = chosen if chosen in names else (names[0] if names else "")
        found = await gold.forecast(connection, chosen, _FORECAST_DAYS) if chosen else []
    chart = Chart(
        f"Daily sales of {chosen}, and what its history suggests", "day",
        [Series("sales", "$"), Series("same weekday, mean of four weeks", "$"), Series("mean of 28 days", "$")],
        [(one["date_day"], one["sales_value"], one["sales_same_weekday_mean_4"], one["sales_mean_28"])
         for one in found],
    )  # fmt: skip
    return page(
        request, "forecast.html", "Forecast", departments=names, chosen=chosen, chart=chart if found else None,
        to_predict=[one for one in found if one["is_to_predict"]],
    )  # fmt: skip
