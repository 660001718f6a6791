"""What the business pages read of gold. A page exists if its model does, with the columns that it shows.

Each reads an aggregate by its primary key, or a bounded number of rows: gold may have 20 million.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from flows.dashboard.ledger import Rows, rows
from flows.values.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.models.manifest import Manifest

SALES, LIFT, CUSTOMERS, FORECAST = "agg_daily_sales", "agg_campaign_lift", "customer_360", "forecast_features"
MONTHS = "agg_fiscal_month_sales"
RECEIPTS = "receipts_now"
#: The columns that a page needs, by model.
NEEDED: Mapping[str, Sequence[str]] = {
    RECEIPTS: ("table_name", "published_at", "findings"),
    SALES: ("sold_on", "sales_value", "baskets", "households", "sales_7_day_average"),
    MONTHS: ("fiscal_year", "fiscal_month", "department", "sales_value", "share_of_month", "is_complete"),
    LIFT: ("campaign_id", "campaign_name", "starts_on", "measured_until", "households_targeted", "response_rate",
           "lift_per_household", "standard_error", "is_significant", "is_measurable", "incremental_sales"),
    CUSTOMERS: ("household_id", "tier", "segment", "sales_value"),
    FORECAST: ("department", "date_day", "is_to_predict", "sales_value", "sales_mean_28", "sales_same_weekday_mean_4"),
}  # fmt: skip
#: An aggregate over all rows is read up to here; beyond it takes a model of its own.
SUMMED = 500_000
#: Texts of a customer that name nobody and tell no circumstances. All other texts are masked.
_HARMLESS = frozenset({"tier", "segment", "favourite_category"})


@dataclass(frozen=True, slots=True)
class Field:
    """A column of one customer. `value` is None and `is_masked` true for those who may not see it."""

    name: str
    value: Any
    is_masked: bool


async def models(connection: Connection[Record]) -> frozenset[str]:
    """The models of gold that this role may read, with all columns that their page needs."""
    records = await connection.fetch(
        "select c.relname::text as name, array_agg(a.attname::text) as columns from pg_class as c "
        "inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "where c.relnamespace = to_regnamespace('gold') and c.relname = any($1) "
        "and has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'select') group by 1",
        [*NEEDED],
    )
    return frozenset(one["name"] for one in records if set(NEEDED[one["name"]]) <= set(one["columns"]))


async def daily_sales(connection: Connection[Record], days: int) -> Rows:
    """The last days with sales, ascending."""
    return await rows(
        connection,
        f"select * from (select sold_on, sales_value, baskets, households, sales_7_day_average from gold.{SALES} "
        "order by sold_on desc limit $1) as last order by sold_on",
        days,
    )


async def departments(connection: Connection[Record]) -> Rows:
    """The departments of the last complete month, the largest first."""
    return await rows(
        connection,
        f"select fiscal_year, fiscal_month, department, sales_value, share_of_month from gold.{MONTHS} "
        f"where (fiscal_year, fiscal_month) = (select fiscal_year, fiscal_month from gold.{MONTHS} "
        "where is_complete order by fiscal_year desc, fiscal_month desc limit 1) order by sales_value desc limit 25",
    )


async def campaigns(connection: Connection[Record]) -> Rows:
    """The newest campaigns."""
    columns = ", ".join(NEEDED[LIFT])
    return await rows(connection, f"select {columns} from gold.{LIFT} order by starts_on desc, campaign_id limit 100")


async def forecast_departments(connection: Connection[Record]) -> list[str]:
    """The departments, sorted, by the index of the primary key: one step per department."""
    records = await connection.fetch(
        f"with recursive d as ((select department from gold.{FORECAST} order by department limit 1) union all "
        f"select (select f.department from gold.{FORECAST} as f where f.department > d.department "
        "order by f.department limit 1) from d where d.department is not null) "
        "select department from d where department is not null limit 200"
    )
    return [record["department"] for record in records]


async def forecast(connection: Connection[Record], department: str, days: int) -> Rows:
    """The last days of a department and the day to predict, ascending."""
    return await rows(
        connection,
        "select * from (select date_day, is_to_predict, sales_value, sales_mean_28, sales_same_weekday_mean_4 "
        f"from gold.{FORECAST} where department = $1 order by date_day desc limit $2) as last order by date_day",
        department,
        days,
    )


async def segments(connection: Connection[Record]) -> Rows | None:
    """Customers by segment and tier; None if there are too many to count at a click."""
    estimated = await connection.fetchval("select reltuples from pg_class where oid = to_regclass($1)", _CUSTOMERS)
    if estimated is None or estimated > SUMMED:
        return None
    return await rows(
        connection,
        f"select segment, count(*) as customers, sum(sales_value) as sales from {_CUSTOMERS} "
        "group by 1 order by 3 desc nulls last limit 50",
    )


async def customer(
    connection: Connection[Record], number: int, personal: frozenset[str], *, unmasked: bool
) -> list[Field]:
    """What gold knows of one customer; empty if it knows nobody of that number.

    Masked are columns tagged personal, and every text that is not known to be harmless. Masked values are not read.
    """
    columns = await connection.fetch(
        "select attname::text as name, atttypid in ('text'::regtype, 'varchar'::regtype) as is_text "
        "from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum",
        _CUSTOMERS,
    )
    hidden = {
        one["name"]
        for one in columns
        if not unmasked and (one["name"] in personal or (one["is_text"] and one["name"] not in _HARMLESS))
    }
    shown = [quote_identifier(one["name"]) for one in columns if one["name"] not in hidden]
    row = await connection.fetchrow(
        f"select {', '.join(shown)} from {_CUSTOMERS} where household_id = $1::bigint limit 1", number
    )
    if row is None:
        return []
    return [
        Field(one["name"], None if one["name"] in hidden else row[one["name"]], one["name"] in hidden)
        for one in columns
        if not one["name"].startswith("_")
    ]


async def has_key(connection: Connection[Record]) -> bool:
    """Whether a customer is found by an index."""
    return bool(
        await connection.fetchval(
            "select exists (select from pg_index as i inner join pg_attribute as a on a.attrelid = i.indrelid "
            "and a.attnum = i.indkey[0] where i.indrelid = to_regclass($1) and a.attname = 'household_id')",
            _CUSTOMERS,
        )
    )


def personal_columns(manifest: Manifest | None) -> frozenset[str]:
    """The columns of the customers' model that are tagged personal."""
    if manifest is None:
        return frozenset()
    return frozenset().union(*(one.personal for one in manifest.relations.values() if one.address == _CUSTOMERS))


def days_back(found: Rows) -> tuple[date, date] | None:
    """The first and the last day of sales."""
    return (found[0]["sold_on"], found[-1]["sold_on"]) if found else None


_CUSTOMERS = f"gold.{CUSTOMERS}"
