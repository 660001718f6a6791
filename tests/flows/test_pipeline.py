"""The pipeline from a person's terminal: day one with a source out of reach, then whole, then once more.

dbt takes seconds, so three runs serve all tests here, and the last one leaves it out.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import TestCluster, TestDatabase, fresh_shop, fresh_warehouse
from tests.flows.front_door import Ended, medallion
from tests.flows.prefect_facts import artifacts_of, names_of_task_runs
from tests.flows.scripted_api import ScriptedApi
from tests.kinds.loading import addresses, raw_rows, rows
from tests.observe.openlineage_schema import mistakes

# One worker builds dbt's models here; several would each do it all.
pytestmark = pytest.mark.xdist_group("pipeline")
TABLES = ["households", "household_events", "stores", "products", "baskets", "basket_items"]


@dataclass
class Told:
    """The three runs; what raw held before the last one, and gold before the second."""

    warehouse: TestDatabase
    shop: TestDatabase
    unreachable: Ended
    whole: Ended
    again: Ended
    raw_before: dict[str, list[str]] = field(default_factory=dict)
    gold_before: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)

    def flow_run(self, pipeline: str, place: int) -> UUID:
        """The Prefect run of the `place`-th row of ops.runs of that pipeline."""
        found = rows(self.warehouse, f"select flow_run_id from ops.runs where pipeline = '{pipeline}' order by run_id")
        return UUID(found[place]["flow_run_id"])


@pytest.fixture(scope="module")
def told(cluster: TestCluster, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop, ScriptedApi() as api:
        variables = dict(addresses(warehouse, shop)) | {
            "MEDALLION_SOURCE_MARKETING_KEY": api.key,
            "MEDALLION_SOURCE_CURRENCY_KEY": api.key,
            "MEDALLION_SOURCE_CURRENCY_URL": api.url,
            "MEDALLION_RETRY_FIRST_DELAY_SECONDS": "0.1",
            "MEDALLION_LOAD_ATTEMPTS": "1",
            "MEDALLION_HOME": str(tmp_path_factory.mktemp("home")),
            "MEDALLION_CIRCUIT_FAILURES": "1000",  # else the next run would leave the API alone for a minute
        }
        unreachable = medallion("run", variables=variables | {"MEDALLION_SOURCE_MARKETING_URL": "http://127.0.0.1:9"})
        gold = lines_of_gold(warehouse)
        variables["MEDALLION_SOURCE_MARKETING_URL"] = api.url
        lineage = tmp_path_factory.mktemp("lineage") / "events.jsonl"
        whole = medallion("run", variables=variables | {"MEDALLION_OPENLINEAGE_FILE": str(lineage)})
        events = [json.loads(line) for line in lineage.read_text().splitlines()]
        raw = {table: raw_rows(warehouse, table) for table in TABLES}
        again = medallion("run", "--ingest-only", variables=variables)
        yield Told(warehouse, shop, unreachable, whole, again, raw, gold, events)


def lines_of_gold(warehouse: TestDatabase) -> list[dict[str, Any]]:
    return rows(warehouse, "select to_jsonb(l) as line from gold.fct_basket_lines as l order by l::text")


def test_a_source_out_of_reach_on_day_one_keeps_the_other_neither_from_raw_nor_from_gold(told: Told) -> None:
    ended = told.unreachable
    assert ended.code == 3
    assert "✗ marketing.campaigns" in ended.out
    assert "✓ shop.basket_items" in ended.out
    # What hides behind the models that have nothing to read is told first, with its own next move.
    assert re.search(r"2 parts failed \(.*marketing.*no connection for GET ", ended.panel, re.DOTALL)
    assert "MEDALLION_SOURCE_MARKETING_URL names its host and port" in ended.panel
    assert "Prefect server does not respond" not in ended.text


def test_the_next_run_makes_good_for_it(told: Told) -> None:
    assert told.whole.code == 0, told.whole.text
    assert "✓ gate raw" in told.whole.out
    assert "✓ gate gold" in told.whole.out
    assert re.search(r"marketing.redemptions +│ initial +│ +1 │", told.whole.out)
    assert told.whole.err == ""


def test_running_again_changes_nothing_and_says_so(told: Told) -> None:
    assert told.again.code == 0
    assert "There was nothing new to load." in told.again.out
    assert "There was nothing new to load" not in told.whole.out
    assert {table: raw_rows(told.warehouse, table) for table in TABLES} == told.raw_before


def test_gold_built_again_from_the_same_raw_is_the_same(told: Told) -> None:
    assert len(told.gold_before) == 450
    assert lines_of_gold(told.warehouse) == told.gold_before


def test_the_sum_of_sales_in_gold_is_the_sum_at_the_source(told: Told) -> None:
    (gold,) = rows(told.warehouse, "select sum(sales_value) as total from gold.fct_basket_lines")
    assert gold == rows(told.shop, "select sum(sales_value) as total from basket_items")[0]


def test_every_node_of_dbt_is_a_task_run_of_its_own(told: Told) -> None:
    # The second builds what the first, which failed, has left.
    names = names_of_task_runs(told.flow_run("transform", 0), 40) | names_of_task_runs(
        told.flow_run("transform", 1), 40
    )
    for node in ("fct_basket_lines", "stg_shop__baskets", "dim_household"):
        assert any(node in name for name in names), names
    assert {"gate raw", "gate gold"} <= names


def test_a_run_leaves_artifacts_of_its_gates_and_its_nodes(told: Told) -> None:
    shown = artifacts_of(told.flow_run("transform", 1))
    assert "Gate raw: passed" in shown["gate-raw"]
    assert "Gate gold: passed" in shown["gate-gold"]
    assert "0 failed" in shown["dbt-build"]


def test_operations_tell_how_each_run_ended(told: Told) -> None:
    runs = rows(told.warehouse, "select pipeline, scope, status from ops.runs order by run_id")
    ended: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        ended.setdefault((run["pipeline"], run["scope"]), []).append(run["status"])
    assert ended == {
        ("ingest", "shop"): ["done"] * 3,
        ("ingest", "marketing"): ["failed", "done", "done"],
        ("ingest", "currency"): ["done"] * 3,
        ("transform", ""): ["failed", "done"],
    }


def test_status_shows_runs_cursors_lag_and_quarantine_of_it_all(told: Told) -> None:
    ended = medallion("status", variables=addresses(told.warehouse, told.shop))

    assert ended.code == 0
    for title in ("Last runs", "Tables", "Errors"):
        assert title in ended.out
    assert re.search(r"shop.baskets +│ published │ +\d+ (s|min) │ 20\d\d-", ended.out)
    assert re.search(r"transform +│ failed", ended.out)


def test_a_whole_build_leaves_its_manifest_for_those_who_build_beside_it(told: Told) -> None:
    """One that failed leaves none: nobody should compare with what was never built."""
    kept = rows(told.warehouse, "select run_id from ops.dbt_manifests")
    built = rows(told.warehouse, "select run_id from ops.runs where pipeline = 'transform' and status = 'done'")
    assert kept == built
    assert len(kept) == 1


def test_openlineage_hears_of_loads_and_nodes_under_the_flows_that_ran_them(told: Told) -> None:
    assert [mistake for event in told.lineage for mistake in mistakes(event)] == []
    ended = {event["job"]["name"]: event for event in told.lineage if event["eventType"] == "COMPLETE"}
    assert {"ingest.shop", "ingest.marketing", "transform", "ingest.shop.baskets", "dbt.customer_360"} <= ended.keys()
    transform = str(told.flow_run("transform", 1))
    assert ended["transform"]["run"]["runId"] == transform
    assert ended["dbt.customer_360"]["run"]["facets"]["parent"]["run"]["runId"] == transform
    begun = {event["run"]["runId"] for event in told.lineage if event["eventType"] == "START"}
    assert {event["run"]["runId"] for event in told.lineage} == begun
