"""A change of a source's columns is an event at the Prefect server, and an automation acts on it."""

import json
import time
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.actions import PauseWorkPool
from prefect.events.schemas.automations import AutomationCore, EventTrigger

from flows.ingest import ingest
from tests.flows.conftest import Ends
from tests.kinds.loading import change, load, rows

# The server is that of all tests, so this column tells our changes from theirs.
COLUMN = f"opened_by_{uuid4().hex[:8]}"
PATIENCE_SECONDS = 20.0


def events(client: SyncPrefectClient, at_least: int) -> list[dict[str, Any]]:
    """The events about our columns, once so many have reached the server."""
    wanted = {
        "event": {"name": ["medallion.schema.changed"]},
        "resource": {"labels": {"column": [COLUMN]}},
        "order": "ASC",
    }
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = client._client.post("/events/filter", json={"filter": wanted, "limit": 50})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["events"]
        if len(found) >= at_least or time.monotonic() > until:
            return found
        time.sleep(0.2)


def becomes_paused(client: SyncPrefectClient, pool: str) -> bool:
    """Whether the automation pauses the work pool."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (paused := client.read_work_pool(pool).is_paused) and time.monotonic() < until:
        time.sleep(0.2)
    return bool(paused)


async def test_each_change_is_told_once_and_an_automation_acts_on_one_that_was_refused(ends: Ends) -> None:
    """One change was recorded by a load whose run died before it told; the other is refused, and fails its run."""
    change(ends.shop, f"alter table products add column {COLUMN} int")
    await load(ends.warehouse, ends.shop, "stores")
    await load(ends.warehouse, ends.shop, "products")
    change(ends.shop, f"alter table stores add column {COLUMN} text default 'a secret'")
    await load(ends.warehouse, ends.shop, "stores")
    change(ends.shop, f"alter table products alter column {COLUMN} type text")
    with get_client(sync_client=True) as client:
        pool = client.create_work_pool(WorkPoolCreate(name=f"pool-{COLUMN}", type="process"))
        automation = client.create_automation(
            AutomationCore(
                name=f"stop on {COLUMN}",
                trigger=EventTrigger(
                    expect={"medallion.schema.changed"},
                    match={
                        "prefect.resource.id": "medallion.table.shop.products",
                        "column": COLUMN,
                        "applied": "false",
                    },
                    posture="Reactive",
                    threshold=1,
                ),
                actions=[PauseWorkPool(source="selected", work_pool_id=pool.id)],
            )
        )
        try:
            state: Any = await ingest("shop", ["stores", "products"], return_state=True)
            assert state.is_failed()
            told = events(client, 2)
            assert becomes_paused(client, pool.name)
            await ingest("shop", ["stores", "products"], return_state=True)
        finally:
            client.delete_automation(automation)
            client.delete_work_pool(pool.name)
        assert [event["id"] for event in events(client, 2)] == [event["id"] for event in told]

    assert [event["resource"]["prefect.resource.id"] for event in told] == [
        "medallion.table.shop.stores",
        "medallion.table.shop.products",
    ]
    batches = [row["batch_id"] for row in rows(ends.warehouse, "select * from ops.schema_changes order by change_id")]
    assert [event["payload"] for event in told] == [
        {
            "source": "shop", "table": "stores", "column": COLUMN, "change": "added",
            "old_type": None, "new_type": "text", "applied": True, "batch_id": batches[0],
        },
        {
            "source": "shop", "table": "products", "column": COLUMN, "change": "retyped",
            "old_type": "integer", "new_type": "text", "applied": False, "batch_id": batches[1],
        },
    ]  # fmt: skip
    assert "secret" not in json.dumps(told)
    run = {"prefect.resource.id": f"prefect.flow-run.{state.state_details.flow_run_id}"}
    assert run.items() <= told[0]["related"][0].items()
    assert rows(ends.warehouse, "select * from ops.schema_changes where not announced") == []
