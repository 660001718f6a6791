"""Sources that replicate: a table that a subscription writes, and a standby."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from flows.values.errors import ConfigurationError
from tests.conftest import TestDatabase
from tests.eventually import eventually
from tests.kinds.captured.captured_ends import CapturedEnds
from tests.kinds.changelog.log_ends import log_source
from tests.private_cluster import private_cluster
from tests.publish.two_ends import run_sql


@pytest.fixture
def publisher() -> Iterator[TestDatabase]:
    with log_source() as database:
        run_sql(database.url("admin"), "create table items (id bigint primary key, name text)")
        run_sql(database.url("admin"), "insert into items values (1, 'copied')")
        run_sql(database.url("admin"), "create publication everything for table items")
        run_sql(database.url("admin"), "select pg_create_logical_replication_slot('told', 'pgoutput')")
        yield database


@pytest.fixture
def ends(warehouse: TestDatabase, publisher: TestDatabase) -> Iterator[CapturedEnds]:
    """The subscriber is in the publisher's cluster: its slot is made beforehand, or it would wait for itself."""
    with log_source() as shop:
        subscribed = CapturedEnds(warehouse, shop)
        yield subscribed
        with closing(psycopg.connect(shop.url("admin"), autocommit=True)) as admin:
            admin.execute("alter subscription told disable")
            admin.execute("alter subscription told set (slot_name = none)")
            admin.execute("drop subscription told")


async def test_rows_that_a_subscription_writes_are_recorded(ends: CapturedEnds, publisher: TestDatabase) -> None:
    """The worker of a subscription fires row triggers only."""
    await ends.create("id bigint primary key, name text")
    url = publisher.url("admin").replace("'", "''")
    ends.admin(
        f"create subscription told connection '{url}' publication everything "
        "with (create_slot = false, slot_name = told)"
    )

    def has(*names: str) -> None:
        eventually(lambda: ends.source("select name from items order by id") == [(name,) for name in names], 60)

    await asyncio.to_thread(has, "copied")
    await ends.set_up()  # it is subscribed now
    await ends.load()
    run_sql(
        publisher.url("admin"), "insert into items values (2, 'new'); update items set name = 'changed' where id = 1"
    )
    await asyncio.to_thread(has, "changed", "new")
    counts = (await ends.load()).counts
    assert (counts.rows_read, ends.same()) == (2, True)


async def test_a_standby_is_refused_where_nothing_could_be_deleted(warehouse: TestDatabase) -> None:
    """Changes would be read again with each load, until the change table is full."""
    with private_cluster() as private:
        primary = CapturedEnds(warehouse, private.shop("shop_replicated"))
        await primary.create("id bigint primary key, name text")
        primary.source("insert into items values (1, 'a')")
        cluster = private.standby({}).cluster
        standby = CapturedEnds(warehouse, replace(primary.shop, cluster=cluster), primary.tables)
        with pytest.raises(ConfigurationError, match="leads to a standby") as refused:
            await standby.load()
        assert not refused.value.retryable
        assert (await primary.load()).strategy == "initial"
