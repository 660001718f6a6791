"""Connections that break at the worst moment: around COMMIT, and in the middle of a read or a write."""

import asyncio

import psycopg
import pytest

from flows.failures.diagnose import diagnose
from flows.sources.shop import shop as declared_shop
from flows.values.errors import FailureClass, SourceUnavailable, WarehouseError
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.loading import (
    CHANGES,
    at,
    change,
    cursor,
    load,
    loads,
    open_quarantine,
    raw_rows,
    rows,
    until_it_waits_for_a_lock,
)
from tests.kinds.postgres.invariants import six_invariants
from tests.kinds.postgres.large_table import LARGE, large
from tests.kinds.postgres.proxy import proxy
from tests.publish.two_ends import TwoEnds

__all__ = ["large"]  # a fixture

# -- COMMIT


@pytest.mark.parametrize("table", ["basket_items", "household_events", "products"])
async def test_a_commit_whose_answer_is_lost_is_settled_by_reading_the_ledger(
    warehouse: TestDatabase, shop: TestDatabase, table: str
) -> None:
    """The client sees a broken connection while the rows are durable: running again blindly would count them twice."""
    declared = declared_shop.table(table)
    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, table):
        async with proxy(at(warehouse, "loader"), "after") as loader:
            result = await load_table(loader, at(shop, "extractor"), declared_shop, declared)

        (entry,) = loads(warehouse)
        assert (entry["status"], entry["batch_id"]) == ("published", result.batch_id)
        assert result.counts.rows_inserted == len(rows(shop, f"select 1 from {table}"))
        assert result.counts.reconciliation == "match"
        assert rows(warehouse, "select * from ops.errors") == []


async def test_a_later_commit_whose_answer_is_lost_is_settled_too(warehouse: TestDatabase, shop: TestDatabase) -> None:
    await load(warehouse, shop, "basket_items")
    change(shop, *CHANGES)

    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "basket_items"):
        async with proxy(at(warehouse, "loader"), "after") as loader:
            result = await load_table(loader, at(shop, "extractor"), declared_shop, declared_shop.table("basket_items"))
        before = raw_rows(warehouse, "basket_items")

    assert (result.counts.rows_inserted, result.counts.rows_updated, result.counts.rows_deleted) == (60, 150, 150)
    assert raw_rows(warehouse, "basket_items") == before, "it was in: the loads after it had nothing to write"


async def test_a_commit_that_never_arrived_is_a_transient_failure_and_nothing_was_published(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "baskets"):
        async with proxy(at(warehouse, "loader"), "before") as loader:
            with pytest.raises(WarehouseError, match="lost while publishing") as caught:
                await load_table(loader, at(shop, "extractor"), declared_shop, declared_shop.table("baskets"))

        assert caught.value.retryable
        assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
        assert rows(warehouse, "select to_regclass('raw_shop.baskets') as raw") == [{"raw": None}]
        assert cursor(warehouse, "baskets") is None
        assert [entry["status"] for entry in loads(warehouse)] == ["failed"]


async def test_a_later_commit_that_never_arrived_leaves_raw_as_it_was(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "basket_items")
    change(shop, *CHANGES)
    before, since = raw_rows(warehouse, "basket_items"), cursor(warehouse, "basket_items")

    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "basket_items"):
        async with proxy(at(warehouse, "loader"), "before") as loader:
            with pytest.raises(WarehouseError, match="lost while publishing"):
                await load_table(loader, at(shop, "extractor"), declared_shop, declared_shop.table("basket_items"))

        assert (raw_rows(warehouse, "basket_items"), cursor(warehouse, "basket_items")) == (before, since)
        assert open_quarantine(warehouse) == []


# -- sessions that are ended, at either end


async def test_a_source_that_ends_our_session_in_the_middle_of_a_copy_is_transient_and_publishes_nothing(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    killed: list[int] = []

    def kill_reader(_: str, received: int) -> None:
        if not killed:
            killed.append(received)
            end_sessions(large, "medallion read shop.large")

    async with six_invariants(TwoEnds(warehouse, large), LARGE):
        with pytest.raises(SourceUnavailable) as caught:
            await load(warehouse, large, "large", LARGE, on_progress=kill_reader)

        assert caught.value.retryable
        assert 0 < killed[0] < 20_000_000
        assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
        assert rows(warehouse, "select to_regclass('raw_shop.large') as raw") == [{"raw": None}]
        (error,) = rows(warehouse, "select * from ops.errors")
        assert (error["failure_class"], error["strategy"], error["location"]) == (
            "transient", "back off and retry", "shop.large",
        )  # fmt: skip
        assert loads(warehouse)[0]["error_id"] == error["error_id"]


async def test_a_warehouse_that_ends_our_session_in_the_middle_of_a_copy_is_transient_and_publishes_nothing(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    killed: list[int] = []

    def kill_loader(_: str, received: int) -> None:
        if not killed:
            killed.append(received)
            end_sessions(warehouse, "medallion load shop.large")

    async with six_invariants(TwoEnds(warehouse, large), LARGE):
        with pytest.raises(WarehouseError) as caught:
            await load(warehouse, large, "large", LARGE, on_progress=kill_loader)

        assert caught.value.retryable
        assert [entry["status"] for entry in loads(warehouse)] == ["failed"]
        assert rows(warehouse, "select to_regclass('raw_shop.large') as raw") == [{"raw": None}]


async def test_a_warehouse_that_ends_our_session_while_it_publishes_is_transient_and_publishes_nothing(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """The load waits in its publishing transaction for a row that somebody holds, and is ended there."""
    await load(warehouse, shop, "basket_items")
    change(shop, *CHANGES)
    before = raw_rows(warehouse, "basket_items")
    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "basket_items"):
        async with await psycopg.AsyncConnection.connect(warehouse.url("admin")) as other:
            await other.execute("update raw_shop.basket_items set quantity = 7 where basket_item_id = 11")
            loading = asyncio.create_task(load(warehouse, shop, "basket_items"))
            await until_it_waits_for_a_lock(warehouse, "basket_items")
            end_sessions(warehouse, "medallion load shop.basket_items")

            with pytest.raises(WarehouseError) as caught:
                await loading
            await other.rollback()

        assert caught.value.retryable
        assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
        assert raw_rows(warehouse, "basket_items") == before
        assert [entry["status"] for entry in loads(warehouse)] == ["published", "failed"]


async def test_a_warehouse_that_takes_no_more_bytes_and_then_breaks_the_connection_does_not_hang_the_load(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    async with six_invariants(TwoEnds(warehouse, large), LARGE):
        async with proxy(at(warehouse, "loader"), "stalled") as loader, asyncio.timeout(20):
            with pytest.raises(WarehouseError) as caught:
                await load_table(loader, at(large, "extractor"), LARGE, LARGE.table("large"))

        assert caught.value.retryable
        assert [entry["status"] for entry in loads(warehouse)] == ["failed"]


async def test_a_cancelled_load_leaves_no_session_behind_and_says_how_it_ended(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    begun = asyncio.Event()
    async with six_invariants(TwoEnds(warehouse, large), LARGE):
        task = asyncio.create_task(load(warehouse, large, "large", LARGE, on_progress=lambda *_: begun.set()))
        await begun.wait()

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert [entry["status"] for entry in loads(warehouse)] == ["failed"]


def end_sessions(database: TestDatabase, application: str) -> None:
    """End the sessions of that name, as an administrator or a failover does."""
    with psycopg.connect(database.url("admin"), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and application_name = %s",
            [application],
        )
