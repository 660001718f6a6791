"""`medallion tune`: what is slow and what would help on one screen, applied after a yes, and without values of rows."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import TestDatabase
from tests.flows.front_door import Ended, medallion
from tests.operations.tuning.tuned import Tuned


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> Tuned:
    """A month of runs of the shop's six tables, one after the other two at a time, and one load that always fails."""
    two, now = Tuned(warehouse, shop), datetime.now(UTC)
    for number in range(20):
        began = now - timedelta(days=1, hours=number)
        ((run,),) = two.raw(
            "insert into ops.runs (pipeline, scope, status, started_at, finished_at) "
            "values ('ingest', 'shop', 'done', %s, %s) returning run_id",
            [began, began + timedelta(seconds=245)],
        )
        for table in ("households", "household_events", "stores", "products", "baskets", "basket_items"):
            two.ledger(table, 1, seconds=120, ending=began, run=run)
    return two


def run(ends: Tuned, *arguments: str) -> Ended:
    variables = {
        "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
        "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
        "PREFECT_API_URL": "",
    }
    return medallion("tune", *arguments, variables=variables)


def test_from_what_is_slow_to_what_came_of_the_change(ends: Tuned) -> None:
    shown = json.loads(run(ends, "shop", "--json").out)
    (parallel,) = shown["recommendations"]
    assert (parallel["id"], parallel["runs"], parallel["confidence"]) == ("shop/parallel", 20, "medium")
    assert "+    max_parallel=6," in parallel["change"]
    assert "MEDALLION_WAREHOUSE_PARALLEL=6" in parallel["change"], "else four of all sources remain the limit"
    assert {each["subject"] for each in shown["findings"] if each["bottleneck"] == "duration"} >= {"shop.baskets"}

    screen = run(ends)
    assert screen.code == 0
    assert "load 6 tables in parallel in place of 4" in screen.text

    assert run(ends, "apply", "shop/parallel").code == 2, "nobody can be asked"
    assert "no changes were applied" in run(ends, "report").text
    assert "accepted" in run(ends, "apply", "shop/parallel", "--yes").text
    (change,) = json.loads(run(ends, "report", "--json").out)
    assert (change["state"], change["before"]["seconds per run"]["median"]) == ("accepted", 245)
    assert "change 1 (shop/parallel) is taken back" in run(ends, "revert", "1").text


@pytest.mark.long
def test_what_is_not_recommended_is_refused_with_what_is(ends: Tuned) -> None:
    ended = run(ends, "apply", "shop/schedule", "--yes")
    assert ended.code == 2
    assert "shop/parallel" in ended.text


def test_a_source_that_does_not_answer_costs_only_what_rests_on_it(ends: Tuned) -> None:
    variables = {"MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"), "PREFECT_API_URL": "",
                 "MEDALLION_SOURCE_SHOP_URL": "postgresql://nobody@127.0.0.1:1/none"}  # fmt: skip
    ended = medallion("tune", "shop", variables=variables)
    assert ended.code == 0
    assert "shop.baskets" in ended.text
    assert "not asked: shop" in ended.text
