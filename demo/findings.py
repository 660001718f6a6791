"""The results of the demo's two days: versions, quarantine, tombstones, and totals that must match."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.text import Text

from demo.day_two import MOVED_HOUSEHOLD
from flows.access.addresses import DEMO_SOURCES
from flows.observe import look

if TYPE_CHECKING:
    from infra.local.stack import Stack

# Everything that an earlier demo left in the warehouse. The demo starts from scratch; `medallion run` never does this.
_SCHEMAS = (
    *("raw_shop", "raw_marketing", "raw_currency", "landing", "quarantine", "ops"),
    *("staging", "seeds", "snapshots", "silver", "silver_quarantine", "gold", "ml", "dbt_test__audit"),
)

_VERSIONS = """
select version_number, income_band, effective_at, expires_at, is_current
from gold.dim_household where household_id = %s order by version_number
"""
_QUARANTINE = """
select source_system || '.' || table_name as place, rule, count(*) as rows, min(row_data ->> 'basket_id') as example
from quarantine.rows where resolved_at is null group by 1, 2
order by 1, 2
"""
_SILVER_QUARANTINE = """
select 'silver.' || entity as place, rule_id, rule, count(*) as rows
from (
    select 'basket_line' as entity, rule_id, rule from silver_quarantine.quarantine_basket_line
    union all select 'household', rule_id, rule from silver_quarantine.quarantine_household
    union all select 'redemption', rule_id, rule from silver_quarantine.quarantine_redemption
    union all select entity, rule_id, rule from silver_quarantine.quarantine_marketing_record
    union all select 'exchange_rate', rule_id, rule from silver_quarantine.quarantine_exchange_rate
) as refused
group by 1, 2, 3
order by 1, 2
"""
_TOMBSTONES = """
select 'shop.' || name as place, rows
from (
    select 'basket_items' as name, count(*) as rows from raw_shop.basket_items where _deleted_at is not null
    union all
    select 'baskets', count(*) from raw_shop.baskets where _deleted_at is not null
    union all
    select 'households', count(*) from raw_shop.households where _deleted_at is not null
) as counted
order by 1
"""


def other_sources(admin_url: str) -> list[str]:
    """Sources, other than the demo's, of which this warehouse has loads: with `forget` their cursors would go, too."""
    with psycopg.connect(admin_url) as connection:
        if connection.execute("select to_regclass('ops.loads')").fetchone() == (None,):
            return []
        rows = connection.execute(
            "select distinct source_system from ops.loads where source_system <> all(%s) order by 1",
            [list(DEMO_SOURCES)],
        )
        return [str(name) for (name,) in rows]


def forget(admin_url: str) -> None:
    """Empty the warehouse, so that the demo starts from scratch. Roles are kept; their privileges are granted again."""
    from infra.local import roles

    with psycopg.connect(admin_url, autocommit=True) as connection:
        for schema in _SCHEMAS:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))
        roles.grant_warehouse(connection)


def show(stack: Stack, console: Console) -> bool:
    """Print the results; returns whether source and gold match to the cent."""
    with psycopg.connect(stack.urls["warehouse_admin"], autocommit=True) as warehouse:
        console.print(
            _table(
                "The household that moved up: SCD 2 versions in gold.dim_household",
                warehouse,
                _VERSIONS,
                (MOVED_HOUSEHOLD,),
            )
        )
        console.print(_table("Quarantined by row checks on load", warehouse, _QUARANTINE))
        console.print(_table("Quarantined in silver", warehouse, _SILVER_QUARANTINE))
        console.print(_table("Tombstones in raw", warehouse, _TOMBSTONES))
        totals, agreed = _totals(stack, warehouse)
    table = look.grid("Sales, to the cent", ["what", "lines", "sales"], ["lines", "sales"])
    for what, lines, sales in totals:
        table.add_row(what, f"{lines:,}", f"{sales:,.2f}")
    console.print(table)
    console.print(
        Text("The totals agree." if agreed else "The totals differ.", style="green" if agreed else "bold red")
    )
    return agreed


def _totals(stack: Stack, warehouse: psycopg.Connection[Any]) -> tuple[list[tuple[str, int, Decimal]], bool]:
    with psycopg.connect(stack.urls["shop_extractor"]) as shop:
        source = _pair(shop, "select count(*), sum(sales_value) from basket_items")
    door = _pair(
        warehouse,
        "select count(*), coalesce(sum((row_data ->> 'sales_value')::numeric), 0) from quarantine.rows "
        "where source_system = 'shop' and table_name = 'basket_items' and resolved_at is null",
    )
    silver = _pair(
        warehouse,
        "select count(*), coalesce(sum((row_data ->> 'sales_value')::numeric), 0) "
        "from silver_quarantine.quarantine_basket_line",
    )
    gold = _pair(warehouse, "select count(*), sum(sales_value) from gold.fct_basket_lines")
    expected = (source[0] - door[0] - silver[0], source[1] - door[1] - silver[1])
    rows = [
        ("source: shop.basket_items", *source),
        ("minus quarantined on load", *door),
        ("minus quarantined in silver", *silver),
        ("gold: fct_basket_lines", *gold),
    ]
    return rows, expected == gold


def _pair(connection: psycopg.Connection[Any], query: sql.SQL | str) -> tuple[int, Decimal]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0], row[1] or Decimal(0)


def _table(title: str, connection: psycopg.Connection[Any], query: str, parameters: tuple[object, ...] = ()) -> Any:
    cursor = connection.execute(query, parameters)
    names = [column.name for column in cursor.description or ()]
    table = look.grid(title, [name.replace("_", " ") for name in names], ["rows", "version number"])
    for row in cursor.fetchall():
        table.add_row(*("" if value is None else str(value) for value in row))
    return table
