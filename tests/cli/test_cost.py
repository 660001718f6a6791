"""`medallion cost` fits a terminal of 80 columns, and adds up as it is shown."""

import io
from datetime import date

import pytest
from rich.console import Console

from flows.cli.cost import as_values, cost_table
from flows.operations.cost import Costs, Line
from tests.conftest import TestDatabase
from tests.flows.front_door import medallion

FOUND = Costs(
    date(2026, 5, 11),
    date(2026, 6, 10),
    106.5,
    90.0,
    (
        Line("table", "shop.basket_lines", 720, 41_000, 8 * 10**9, 2_600_000_000, 40.25, 3, 7.75, 0, 50.0),
        Line("model", "agg_department_sales", 30, 900, 0, 40_000_000, 30, 0, 1.5, 0, 0.0),
        Line("run", "reconcile", 30, 300, of_time=1.5, before=1.5),
        Line("table", "shop.stores", 720, 90, of_time=0.5, before=1.0),
        Line("storage", "other tables of gold", stored=330_000_000, before=0.0),
        Line("unattributed", "unattributed", 0, 5_000, 0, 10**9, 5, 0, 2, 15, 22.0),
    ),
)


def shown(rows: int) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(cost_table(FOUND, rows))
    return console.export_text().splitlines()


@pytest.mark.parametrize("rows", [2, 20])
def test_the_costs_that_are_shown_add_up_to_the_last_one_at_80_columns(rows: int) -> None:
    cells = [[cell.strip() for cell in line.split("│")] for line in shown(rows) if "│" in line]
    amounts = [float(row[5]) for row in cells]
    assert amounts[-1] == sum(amounts[:-1]) == 106.5
    assert ["agg_department_sales", "new"] in [[row[2], row[7]] for row in cells]
    assert {"+2 %", "+18 %"} <= {row[7] for row in cells}
    assert "other tables of gold" not in {row[2] for row in cells}, "it costs nothing"
    assert ("-50 %" in {row[7] for row in cells}) == (rows == 20)


def test_json_has_each_line_with_its_parts() -> None:
    values = as_values(FOUND)
    assert sum(line["cost"] for line in values["lines"]) == pytest.approx(values["whole"])  # type: ignore[attr-defined]


def test_without_a_price_the_settings_are_named(warehouse: TestDatabase) -> None:
    ended = medallion("cost", variables={"MEDALLION_WAREHOUSE_URL": warehouse.url("loader"), "PREFECT_API_URL": ""})
    assert ended.code == 3
    assert "MEDALLION_PRICE_PER_HOUR" in ended.text
