"""The sources as dbt reads them."""

from typing import Any

import yaml

from flows.declare.source import Source
from flows.render.dbt_sources import dbt_sources


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
