"""`medallion anomalies` and `medallion quality`, as somebody uses them who was woken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from flows.access.addresses import connect
from flows.cli import quality
from flows.observe.sparkline import sparkline
from flows.operations.alerts import open_alerts, report
from flows.operations.checks.anomalies import columns_unusual
from flows.operations.compared_columns import roll_up
from flows.operations.quality_history import ColumnTrend, QualityDay
from tests.conftest import TestDatabase
from tests.flows.front_door import medallion
from tests.kinds.loading import at
from tests.operations.profiles import profiled
from tests.operations.volumes import loaded
from tests.publish.two_ends import run_sql

NOW = datetime.now(UTC)
YESTERDAY = NOW.date() - timedelta(days=1)
WEEKS = {YESTERDAY - timedelta(days=n): 0.01 for n in range(80)} | {YESTERDAY: 0.3}


@pytest.fixture
def variables(warehouse: TestDatabase) -> Mapping[str, str]:
    return {"MEDALLION_WAREHOUSE_URL": warehouse.url("loader"), "COLUMNS": "80"}


async def test_an_unusual_column_is_listed_shown_and_accepted_which_ends_its_alert(
    warehouse: TestDatabase, variables: Mapping[str, str]
) -> None:
    profiled(warehouse, "status", WEEKS)
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        await roll_up(connection, min(WEEKS), YESTERDAY)
        await report(connection, "columns", await columns_unusual(connection, NOW, []))
        assert [each.name for each in await open_alerts(connection)] == ["columns unusual"]
        (listed,) = json.loads(medallion("anomalies", "list", "shop", "--json", variables=variables).out)
        assert (listed["column_name"], listed["measure"], listed["state"]) == ("status", "nulls", "high")
        assert "null share 30.0 %" in " ".join(medallion("anomalies", "list", variables=variables).out.split())
        accepted = medallion(
            "anomalies", "accept", "shop.baskets.status", "--reason", "guests have none", variables=variables
        )
        assert accepted.code == 0, accepted.text
        assert await open_alerts(connection) == []
    assert medallion("anomalies", "list", variables=variables).out.strip() == "no unusual days"
    shown = medallion("anomalies", "show", "shop.baskets", variables=variables).out
    assert "(accepted)" in shown
    assert "guests have none" in shown
    again = medallion("anomalies", "accept", "shop.baskets", "--reason", "x", variables=variables)
    assert again.code == 2
    assert "no unusual day is open" in again.text


def test_the_quality_of_a_table_is_shown_by_day_with_its_columns(
    warehouse: TestDatabase, variables: Mapping[str, str]
) -> None:
    loaded(warehouse, "baskets", {YESTERDAY - timedelta(days=n): 1000 for n in range(3)})
    profiled(warehouse, "status", {YESTERDAY - timedelta(days=n): n / 10 for n in range(3)}, distinct=4)
    run_sql(
        warehouse.url("loader"),
        "update ops.loads set rows_quarantined = 30, rows_inserted = rows_inserted - 30 where rows_read > 333;"
        "insert into ops.runs (pipeline) values ('transform');"
        "insert into ops.check_results (run_id, gate, dataset, check_name, outcome, checked_at) "
        "select 1, 'raw', 'raw_shop.baskets', 'c' || n, case n when 1 then 'failed' else 'passed' end, "
        "now() - interval '1 day' from generate_series(1, 4) as n",
    )
    shown = medallion("quality", "shop.baskets", "--days", "3", variables=variables)
    assert shown.code == 0, shown.text
    for part in ("1,000", "97.00 %", "3 of 4", "75.00 %", "status", "0 %"):
        assert part in shown.out, shown.text
    nothing = medallion("quality", "shop.stores", variables=variables)
    assert nothing.out.strip() == "nothing is known of shop.stores on these days"


def test_the_screens_fit_80_columns() -> None:
    day = QualityDay("shop.basket_items", YESTERDAY, 24, 3, 1_234_567, 12_345, 12, 2, 1, 0.9166, 3, True, True)
    trend = ColumnTrend("payload.coupon_match_disc", [0.1] * 14, [5.0] * 14, [0.2, None] * 7)
    console = Console(width=80, record=True)
    console.print(quality._days_table("shop.basket_items", [day]))
    console.print(quality._columns_table([trend]))
    text = console.export_text()
    assert "1,234,567" in text
    assert sparkline([0.1] * 10, 0, 1) in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 1], "▁█"), ([None, 3, 3], "·▁▁"), ([None], "·"), ([], ""), ([0.0, 0.5, 1.0], "▁▅█")]
)
def test_a_sparkline_has_one_character_per_value(values: list[float | None], expected: str) -> None:
    assert sparkline(values) == expected
