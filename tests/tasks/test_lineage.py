"""What OpenLineage hears of real runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.ingest import ingest
from flows.values.settings import settings
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import flow_run
from tests.kinds.loading import change, loads
from tests.observe.openlineage_schema import mistakes


@pytest.fixture
def told(ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What the file of events holds."""
    monkeypatch.setenv("MEDALLION_OPENLINEAGE_FILE", str(tmp_path / "lineage.jsonl"))
    settings.cache_clear()
    return (tmp_path / "lineage.jsonl").read_text


async def test_an_ingest_tells_each_load_with_what_it_read_and_wrote(ends: Ends, told: Callable[[], str]) -> None:
    change(ends.shop, "alter table products rename to products_gone")
    state: Any = await ingest("shop", ["stores", "products"], return_state=True)
    assert state.is_failed()

    events = [json.loads(line) for line in told().splitlines()]
    assert [problem for event in events for problem in mistakes(event)] == []
    heard = sorted((event["job"]["name"], event["eventType"]) for event in events)
    assert heard == sorted(
        (job, kind)
        for job, end in (("ingest.shop", "FAIL"), ("ingest.shop.stores", "COMPLETE"), ("ingest.shop.products", "FAIL"))
        for kind in ("START", end)
    )
    flow = str(flow_run(state).id)
    for event in events:
        parent = event["run"]["facets"].get("parent", {}).get("run", {}).get("runId")
        assert (parent or event["run"]["runId"]) == flow
    (stores,) = [
        event for event in events if (event["job"]["name"], event["eventType"]) == ("ingest.shop.stores", "COMPLETE")
    ]
    (read,), (written,) = stores["inputs"], stores["outputs"]
    assert read["name"] == f"{ends.shop.name}.public.stores"
    assert written["name"] == f"{ends.warehouse.name}.raw_shop.stores"
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 5
    assert {"store_id", "_batch_id"} <= {field["name"] for field in written["facets"]["schema"]["fields"]}
    (origin,) = written["facets"]["columnLineage"]["fields"]["store_id"]["inputFields"]
    assert (origin["name"], origin["field"]) == (read["name"], "store_id")
    tags = {tag["key"]: tag["value"] for tag in stores["run"]["facets"]["tags"]["tags"]}
    (batch,) = [load["batch_id"] for load in loads(ends.warehouse) if load["table_name"] == "stores"]
    assert tags["batch_id"] == str(batch)
    assert ends.warehouse.cluster.passwords["medallion_loader"] not in told()
