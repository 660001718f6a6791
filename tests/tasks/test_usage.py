"""What models use is kept for metrics; it never stops what it is about."""

import pytest

from flows.models.environment import PREFIX_VARIABLE
from flows.observe.artifacts import NodeLine
from flows.tasks.usage import keep_usage_of_models
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.publish.two_ends import Rows, run_sql

NODES = [
    NodeLine("dim_stores", "model", "success", 1.5, 6),
    NodeLine("dim_broken", "model", "error", 0.2),
    NodeLine("dim_after", "model", "skipped"),
    NodeLine("not_null_dim_stores_id", "test", "pass", 0.1),
]


@pytest.fixture
def kept(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    settings.cache_clear()

    def look() -> Rows:
        return run_sql(warehouse.url("loader"), "select name, status, seconds, rows from ops.usage order by name")

    return look


def test_the_last_build_of_each_model_is_kept_and_neither_tests_nor_what_was_skipped(kept: object) -> None:
    assert callable(kept)
    keep_usage_of_models([NodeLine("dim_stores", "model", "error", 9.0)], "")
    keep_usage_of_models(NODES, "")
    assert kept() == [("dim_broken", "error", 0.2, None), ("dim_stores", "success", 1.5, 6)]


def test_a_private_build_is_none_of_the_platforms(kept: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(kept)
    monkeypatch.setenv(PREFIX_VARIABLE, "ann_")
    keep_usage_of_models(NODES, "")
    assert kept() == []
    keep_usage_of_models(NODES, "next_")  # that of a release is
    assert len(kept()) == 2


def test_a_warehouse_that_is_away_or_without_the_table_stops_no_build(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for url in ("postgresql://medallion_loader:s3cret@127.0.0.1:1/warehouse", warehouse.url("loader")):
        monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", url)
        settings.cache_clear()
        keep_usage_of_models(NODES, "")
        run_sql(warehouse.url("loader"), "drop table if exists ops.usage")
    assert len(caplog.records) == 2
    assert "s3cret" not in caplog.text
