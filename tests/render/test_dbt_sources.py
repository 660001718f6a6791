"""The sources as dbt reads them."""

from typing import Any

import yaml

from flows.declare import Deadline, Freshness, Replace
from flows.declare.source import Source
from flows.kinds.postgres import Database, Table
from flows.render.dbt_sources import dbt_sources
from flows.render.raw_contracts import raw_contract
from flows.render.shape_page import shape_page


def rendered(source: Source) -> dict[str, Any]:
    document = yaml.safe_load(dbt_sources(source))
    (entry,) = document["sources"]
    found: dict[str, Any] = entry
    return found


def test_every_table_is_there_with_its_schema_and_description(sources: tuple[Source, ...]) -> None:
    entry = rendered(sources[0])
    assert (entry["name"], entry["schema"], entry["description"]) == (
        "stock",
        "raw_stock",
        "It's the stock: all of it.",
    )
    assert [table["name"] for table in entry["tables"]] == ["levels", "moves", "sites", "counts"]
    assert entry["tables"][1]["description"] == "One row per move."


def test_freshness_asks_the_ledger_and_not_the_rows(sources: tuple[Source, ...]) -> None:
    """`max(_extracted_at)` of a table that nobody changes grows old while every load does its duty."""
    entry = rendered(sources[0])
    assert entry["config"]["freshness"]["warn_after"] == {"count": 3 * 72, "period": "hour"}
    query = entry["tables"][0]["config"]["loaded_at_query"]
    assert "ops.loads" in query
    assert "source_system = 'stock' and table_name = 'levels' and status = 'published'" in query
    assert "loaded_at_field" not in dbt_sources(sources[0])


def test_a_source_without_schedule_promises_no_freshness(sources: tuple[Source, ...]) -> None:
    assert "freshness" not in dbt_sources(sources[1])
    assert "loaded_at" not in dbt_sources(sources[1])


def test_a_declared_limit_is_the_warning_of_dbt_and_of_gate_raw() -> None:
    """Monitoring uses the same: see tests/operations/test_freshness.py."""
    own = Table("sites", load=Replace(), freshness=Freshness(loaded_within="90 min"))
    stock = Database(
        "stock",
        connection="erp",
        schedule="15 * * * *",
        freshness=Freshness(loaded_within="2 h", expected_by=Deadline("0 7 * * *", "Europe/Berlin")),
        tables=[Table("levels", load=Replace()), own],
    )
    entry = rendered(stock)
    assert entry["config"]["freshness"]["warn_after"] == {"count": 2, "period": "hour"}
    assert entry["config"]["freshness"]["error_after"] == {"count": 168, "period": "hour"}
    levels, sites = entry["tables"]
    assert "freshness" not in levels["config"]
    assert sites["config"]["freshness"]["warn_after"] == {"count": 90, "period": "minute"}
    assert "loaded_at_query" in sites["config"]
    (metric,) = [check["metric"] for check in yaml.safe_load(raw_contract(stock, own))["checks"] if "metric" in check]
    assert metric["threshold"] == {
        "must_be_less_than": 168,
        "additional": {"level": "warn", "must_be_less_than": 1.5},
    }
    page = shape_page([stock])
    assert "- freshness of `sites`: a warning after 1.5 h without a load" in page
    assert "- expected by `0 7 * * * Europe/Berlin`: `levels`" in page


def test_a_declared_limit_needs_no_schedule_and_the_gate_waits_twice_as_long() -> None:
    monthly = Table("sites", load=Replace(), freshness=Freshness(loaded_within="40 days"))
    entry = rendered(Database("stock", connection="erp", tables=[monthly, Table("levels", load=Replace())]))
    assert "config" not in entry
    sites, levels = entry["tables"]
    assert sites["config"]["freshness"]["error_after"] == {"count": 80 * 24, "period": "hour"}
    assert "config" not in levels


def test_key_cursor_payload_and_metadata_are_described_once_each(sources: tuple[Source, ...]) -> None:
    metadata = ["_extracted_at", "_source_system", "_batch_id", "_deleted_at"]
    columns = {
        table["name"]: [column["name"] for column in table["columns"]]
        for source in sources
        for table in rendered(source)["tables"]
    }
    assert columns == {
        "levels": ["site_id", "product_id", "changed_at", *metadata],
        "moves": ["move_id", *metadata],
        "sites": metadata,
        "counts": ["counted_at", *metadata],
        "stations": ["id", "payload", *metadata],
        "readings": ["id", "read_at", "payload", *metadata],
        "contacts": ["account", "id", "changed", "payload", *metadata],
        "orders": ["order_id", *metadata],
        "stages": ["payload", *metadata],
    }
