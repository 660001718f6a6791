"""A task's time limit ends a load, and the ledger says so."""

import psycopg
import pytest
from prefect import flow

from flows.failures.diagnose import diagnose
from flows.tasks import tables
from flows.values.errors import FailureClass
from tests.flows.conftest import Ends
from tests.kinds.loading import loads, rows


@pytest.mark.parametrize(("end", "relation"), [("shop", "stores"), ("warehouse", "raw_shop.stores")])
async def test_a_load_beyond_its_time_limit_is_written_down_and_not_tried_again(
    ends: Ends, end: str, relation: str
) -> None:
    """The time limit cancels whatever the load awaits, also what it does to say how it ended; in the second case the
    publishing transaction is open by then."""
    limited = tables.load.with_options(timeout_seconds=10)  # a busy machine takes 4 to get there

    @flow
    async def ingest_stores(table: str) -> None:
        await tables.load("shop", table, "whole", 1)

    @flow
    async def ingest_locked_stores() -> None:
        await limited("shop", "stores", "whole", 1)

    with psycopg.connect(ends.warehouse.url("loader")) as connection:
        connection.execute("insert into ops.runs (pipeline) values ('ingest')")
    await ingest_stores("stores")
    locked = ends.shop if end == "shop" else ends.warehouse
    with psycopg.connect(locked.url("admin")) as holder:
        holder.execute(f"lock table {relation} in share mode".encode() if end == "warehouse"
                       else f"lock table {relation} in access exclusive mode".encode())  # fmt: skip
        if end == "warehouse":
            with psycopg.connect(ends.shop.url("app")) as shop:
                shop.execute("update stores set name = name || '!'")
        with pytest.raises(TimeoutError) as stopped:
            await ingest_locked_stores()

        (_, load) = loads(ends.warehouse)
        assert load["status"] == "failed"
        assert "2 hours" in load["error"]
        (error,) = rows(ends.warehouse, "select error_id, failure_class, retryable from ops.errors")
        assert (error["failure_class"], error["retryable"]) == ("resource", False)
        assert error["error_id"] == load["error_id"]
    failure = diagnose(stopped.value, "shop.stores")
    assert (failure.failure_class, failure.error.retryable) == (FailureClass.RESOURCE, False)
    assert "2 hours" in failure.error.what
