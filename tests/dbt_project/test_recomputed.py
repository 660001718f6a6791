"""Gold against pandas: 60 households of the real data, every value of the marts, and every cent through the layers."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.dbt_project.built_warehouse import REAL_HOUSEHOLDS, REAL_STORES, Warehouse
from tests.dbt_project.recomputed import TABLES, Dataset, differences

pytestmark = pytest.mark.xdist_group("recomputed")


def frame(real: Warehouse, table: str) -> Any:
    return pandas.DataFrame(real.rows(f"select * from gold.{table}"))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset(REAL_HOUSEHOLDS, REAL_STORES)


@pytest.mark.parametrize("table", TABLES)
def test_every_value_is_what_pandas_computes(real: Warehouse, dataset: Dataset, table: str) -> None:
    expected = getattr(dataset, table)
    if table == "customer_360":  # it holds households that never bought, too; here there are none
        assert real.value("select count(*) from gold.customer_360 where baskets = 0") == 0
    compared, found = differences(expected, frame(real, table))
    assert found == []
    assert compared >= len(expected) * 3


def test_a_single_cent_is_seen(real: Warehouse, dataset: Dataset) -> None:
    """Else the comparison above might forgive what it must not."""
    rows = frame(real, "agg_daily_sales")
    rows.loc[100, "sales_value"] += Decimal("0.01")
    _, found = differences(dataset.agg_daily_sales, rows)
    assert [text.split(":")[0] for text in found] == ["sales_value"]


def test_every_layer_holds_the_same_cents(real: Warehouse, dataset: Dataset) -> None:
    """From the file to the marts, through raw, staging, silver and gold."""
    in_file = int(dataset.lines["sales_value"].sum())
    layers = {
        table: int(real.value(f"select sum(sales_value) * 100 from {table}"))
        for table in (
            "raw_shop.basket_items", "staging.stg_shop__basket_items", "silver.basket_line", "gold.fct_basket_lines",
            "gold.fct_baskets", "gold.agg_daily_sales", "gold.agg_daily_department_sales", "gold.agg_weekly_sales",
            "gold.agg_fiscal_month_sales", "gold.customer_360",
        )
    }  # fmt: skip
    assert layers == dict.fromkeys(layers, in_file)
    discounts = {
        "retail_discount": "retail_disc", "coupon_discount": "coupon_disc", "coupon_match_discount": "coupon_match_disc"
    }  # fmt: skip
    for gold, file in discounts.items():
        assert int(real.value(f"select sum({gold}) * 100 from gold.fct_basket_lines")) == dataset.lines[file].sum()


def test_metrics_give_what_the_marts_hold(real: Warehouse) -> None:
    """A metric is defined once, in metrics.yml; a mart that adds it up must have added up the same."""
    metrics = semantic_sql(Path(real.target / "semantic_manifest.json"))
    by_day = {
        "sales_value": "sales_value", "baskets": "baskets", "basket_lines": "basket_lines",
        "buying_households": "households", "coupon_discount": "coupon_discount",
    }  # fmt: skip
    for metric, column in by_day.items():
        table, day, expression = metrics[metric]
        differing = real.rows(f"""
            select sold_on, {column}, found.figure
            from gold.agg_daily_sales
            full join (select {day} as sold_on, {expression} as figure from {table} group by 1) as found using (sold_on)
            where {column} is distinct from coalesce(found.figure, 0)
        """)
        assert differing == [], metric
    table, _, expression = metrics["expected_sales"]
    assert real.value(f"select {expression} from {table}") == real.value(
        "select sum(expected_sales) from gold.customer_360"
    )


def semantic_sql(manifest: Path) -> dict[str, tuple[str, str, str]]:
    """The simple metrics of dbt's semantic manifest: table, day and aggregation as SQL."""
    content = json.loads(manifest.read_text())
    measures: dict[str, tuple[str, str, str]] = {}
    for model in content["semantic_models"]:
        for measure in model["measures"]:
            expression = measure["expr"] or measure["name"]
            sql = {"sum": f"sum({expression})", "count_distinct": f"count(distinct {expression})"}[measure["agg"]]
            day = measure["agg_time_dimension"] or model["defaults"]["agg_time_dimension"]
            measures[measure["name"]] = (model["node_relation"]["relation_name"], day, sql)
    return {
        metric["name"]: measures[metric["type_params"]["measure"]["name"]]
        for metric in content["metrics"]
        if metric["type"] == "simple"
    }
