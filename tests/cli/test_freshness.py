"""`medallion freshness`: each clock, what is promised, and the exit code."""

import json
from collections.abc import Mapping

import pytest

from tests.conftest import TestDatabase
from tests.flows.front_door import medallion
from tests.publish.two_ends import run_sql

LOADED = """
insert into ops.loads (source_system, table_name, strategy, status, started_at, finished_at, rows_read, rows_inserted,
    rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted)
select 'shop', t, 'merge', 'published', now() - interval '1 h', now() - interval '1 h', 0, 0, 0, 0, 0, 0, 0
from unnest(%s::text[]) as t
"""


@pytest.fixture
def variables(warehouse: TestDatabase) -> Mapping[str, str]:
    return {"MEDALLION_WAREHOUSE_URL": warehouse.url("loader")}


def test_each_clock_is_shown_and_the_exit_code_says_whether_something_is_late(
    warehouse: TestDatabase, variables: Mapping[str, str]
) -> None:
    run_sql(warehouse.url("loader"), LOADED, [["baskets", "stores"]])
    fresh = medallion("freshness", "shop", variables=variables)
    assert fresh.code == 0
    assert "shop.baskets" in fresh.out
    assert "36 h" in fresh.out
    assert "not due" in fresh.out  # products: never loaded
    assert "marketing" not in fresh.out

    run_sql(
        warehouse.url("loader"),
        "update ops.loads set finished_at = now() - interval '40 h' where table_name = 'stores'",
    )
    late = medallion("freshness", "shop.stores", "--json", variables=variables)
    assert late.code == 1
    (told,) = json.loads(late.out)
    assert (told["subject"], told["clock"], told["state"], told["promised"]) == ("shop.stores", "load", "late", "36 h")
    assert told["age_seconds"] == pytest.approx(40 * 3600, abs=60)
    assert medallion("freshness", "shop.baskets", variables=variables).code == 0


def test_a_name_that_is_not_declared_is_refused(variables: Mapping[str, str]) -> None:
    refused = medallion("freshness", "shop.baskts", variables=variables)
    assert refused.code == 2
    assert "shop.baskts" in refused.err
