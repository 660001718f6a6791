"""The story of ingest, on a real Prefect server."""

import asyncio
import json
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.access import rotated
from flows.access.sessions import open_session
from flows.failures.diagnose import diagnose
from flows.ingest import ingest
from flows.sources.shop import shop as declared_shop
from flows.tasks import tables as tasks
from flows.values.errors import DataRefused, DeclarationError, RateLimited, SourceUnavailable
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import artifacts, flow_run, task_runs
from tests.flows.scripted_api import ScriptedApi
from tests.kinds.loading import change, loads, raw_rows, rows
from tests.kinds.postgres.invariants import six_invariants
from tests.publish.two_ends import TwoEnds


async def run(source: str, tables: list[str] | None = None) -> State[Any]:
    state: State[Any] = await ingest(source, tables, return_state=True)
    return state


async def test_a_source_is_ingested_with_names_results_and_artifacts_that_say_what_happened(ends: Ends) -> None:
    state = await run("shop")

    loaded = await state.aresult()
    assert {load["table"]: load["counts"]["rows_inserted"] for load in loaded} == {
        "households": 60, "household_events": 60, "stores": 5, "products": 40, "baskets": 150, "basket_items": 450,
    }  # fmt: skip
    assert json.dumps(loaded)
    record: Any = state.data
    assert record.serializer.type == "json"
    assert flow_run(state).name == "ingest shop"
    names = {run.name for run in task_runs(state, 6)}
    assert names == {f"shop.{load['table']} whole" for load in loaded}
    shown = artifacts(state)["loads-shop"]
    assert "shop.basket_items" in shown
    assert "6 published" in shown
    (ran,) = rows(ends.warehouse, "select pipeline, scope, status, details, flow_run_id from ops.runs")
    assert (ran["pipeline"], ran["scope"], ran["status"]) == ("ingest", "shop", "done")
    assert ran["details"] == {"tables": 6, "failed": []}
    assert ran["flow_run_id"] == str(flow_run(state).id)
    used = rows(ends.warehouse, "select kind, scope, name, cpu_seconds, memory_bytes, rows from ops.usage")
    assert {(row["kind"], row["name"]): row["rows"] for row in used} == {
        ("run", "ingest"): None,
        **{("load", load["table"]): load["counts"]["rows_read"] for load in loaded},
    }
    assert all(row["scope"] == "shop" and row["cpu_seconds"] > 0 and row["memory_bytes"] > 2**20 for row in used)


async def test_two_runs_of_a_source_at_once_take_turns_table_by_table(ends: Ends) -> None:
    async with six_invariants(TwoEnds(ends.warehouse, ends.shop), declared_shop):
        states = await asyncio.gather(run("shop"), run("shop"))

    both = [await state.aresult() for state in states]
    brought: dict[str, list[int]] = {}
    for load in sorted((load for loaded in both for load in loaded), key=lambda load: load["counts"]["rows_inserted"]):
        brought.setdefault(load["table"], []).append(load["counts"]["rows_inserted"])
    assert brought == {
        "households": [0, 60], "household_events": [0, 60], "stores": [0, 5], "products": [0, 40],
        "baskets": [0, 150], "basket_items": [0, 450],
    }  # fmt: skip
    assert rows(ends.warehouse, "select status from ops.runs") == [{"status": "done"}] * 2


async def test_a_second_run_names_the_cursor_and_changes_nothing_since_no_result_is_cached(ends: Ends) -> None:
    await run("shop", ["baskets"])
    change(ends.shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    changed = await run("shop", ["baskets"])
    before = raw_rows(ends.warehouse, "baskets")

    again = await run("shop", ["baskets"])

    assert (await changed.aresult())[0]["counts"]["rows_updated"] == 1
    assert raw_rows(ends.warehouse, "baskets") == before
    (task,) = task_runs(again, 1)
    assert task.name.startswith("shop.baskets since 20")
    assert task.state is not None
    assert task.state.name == "Completed"
    assert tasks.load.cache_policy is not None
    assert tasks.load.cache_policy.compute_key(None, {}, {}) is None  # type: ignore[arg-type]


async def test_a_table_that_fails_leaves_the_others_loaded_and_the_flow_failed(ends: Ends) -> None:
    change(ends.shop, "update basket_items set quantity = -1 where basket_item_id < 100")

    state = await run("shop")

    assert state.is_failed()
    with pytest.raises(DataRefused, match=r"shop\.basket_items: 27 of 450 rows break a rule"):
        await state.aresult()
    statuses = {load["table_name"]: load["status"] for load in loads(ends.warehouse)}
    assert statuses.pop("basket_items") == "refused"
    assert set(statuses.values()) == {"published"}
    assert len(statuses) == 5
    (ran,) = rows(ends.warehouse, "select status, details from ops.runs")
    assert ran == {"status": "refused", "details": {"tables": 6, "failed": ["basket_items"]}}
    assert "27 of 450 rows break a rule" in artifacts(state)["loads-shop"]


async def test_two_tables_that_fail_are_told_together_with_the_worse_exit_code(ends: Ends) -> None:
    change(ends.shop, "update basket_items set quantity = -1 where basket_item_id < 100")
    change(ends.shop, "revoke select on stores from medallion_extractor")

    state = await run("shop")

    error = diagnose(await error_of(state), "").error
    assert type(error).__name__ == "IngestFailed"
    assert error.exit_code == 3
    assert "2 tables were not loaded" in error.what
    assert "stores: " in error.what
    assert "basket_items: 27 of 450 rows" in error.what


async def test_an_unknown_source_or_table_is_refused_before_anything_is_touched(ends: Ends) -> None:
    for arguments in (("shopp", None), ("shop", ["basket"])):
        error = await error_of(await run(*arguments))
        assert isinstance(error, DeclarationError)
        assert "use one of" in error.fix
    assert rows(ends.warehouse, "select * from ops.runs") == []


# -- retries


async def test_a_transient_failure_is_tried_four_times(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the port: the next try may find it."""
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", "postgresql://reader:pw@127.0.0.1:9/shop")

    state = await run("shop", ["stores"])

    assert isinstance(await error_of(state), SourceUnavailable)
    assert [load["status"] for load in loads(ends.warehouse)] == ["failed"] * 4
    (task,) = task_runs(state, 1)
    assert task.run_count == 4


async def test_a_transient_failure_that_passes_ends_well(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, shop: TestDatabase
) -> None:
    tried: list[str] = []
    first = load_table

    async def fail_once(*arguments: Any, **options: Any) -> Any:
        tried.append("")
        if len(tried) == 1:
            raise SourceUnavailable("not now", where="shop.stores", fix="wait", retryable=True)
        return await first(*arguments, **options)

    monkeypatch.setattr(tasks, "load_table", fail_once)

    state = await run("shop", ["stores"])

    assert state.is_completed()
    assert len(tried) == 2


@pytest.mark.parametrize(
    "fault",
    [
        "update basket_items set quantity = -1 where basket_item_id < 100",
        "revoke select on basket_items from medallion_extractor",
        "alter table basket_items rename to somewhere_else",
    ],
)
async def test_what_a_retry_cannot_mend_is_tried_once(ends: Ends, fault: str) -> None:
    change(ends.shop, fault)

    state = await run("shop", ["basket_items"])

    assert state.is_failed()
    assert len(loads(ends.warehouse)) == 1


async def test_an_api_that_asks_for_an_hour_is_not_asked_again_within_the_run(
    ends: Ends, marketing_api: ScriptedApi
) -> None:
    """Retry-After is obeyed in full: the next scheduled run goes on, not the next attempt two seconds later."""
    marketing_api.refuse["coupons"] = (429, {"Retry-After": "3600"})

    state = await run("marketing")

    error = await error_of(state)
    assert isinstance(error, RateLimited)
    assert marketing_api.asked.count("coupons") == 1
    statuses = {load["table_name"]: load["status"] for load in loads(ends.warehouse)}
    assert statuses == {
        "campaigns": "published", "campaign_targets": "published", "redemptions": "published",
        "coupons": "rescheduled",
    }  # fmt: skip


# -- many tables


async def test_tables_share_the_sessions_of_their_run(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tables, four at a time: without, each opens two sessions of its own."""
    monkeypatch.setattr("flows.access.kept_sessions._LINGER_SECONDS", 60.0)
    opened: list[str] = []
    original = open_session

    async def counted(address: Any, side: Any, application: str) -> Any:
        if application.startswith(("medallion load", "medallion read")):
            opened.append(side)
        return await original(address, side, application)

    monkeypatch.setattr(rotated, "open_session", counted)

    state = await run("shop")

    assert state.is_completed()
    # One less where a table has ended before the fourth began.
    assert (
        1
        < opened.count("source")
        == opened.count("warehouse")
        <= declared_shop.max_parallel
        < len(declared_shop.tables)
    )


async def error_of(state: State[Any]) -> BaseException:
    try:
        await state.aresult()
    except Exception as error:
        return error
    pytest.fail("the flow ended well")
