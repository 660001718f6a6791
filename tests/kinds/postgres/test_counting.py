"""The source counts its keys while the warehouse writes rows, and a failure of either undoes both."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from asyncpg import Connection, Record

from flows.access.addresses import connect
from flows.declare import Merge, Timestamp
from flows.kinds.postgres import Table, stage
from flows.kinds.postgres.table import describe, key_set
from flows.landing.table import Target
from flows.publish import write
from flows.values.errors import SourceUnavailable
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

TABLE = Table("prices", key="id", cursor=Timestamp("updated_at"), load=Merge())
RAW = "select count(*), max(v), max(_batch_id) from raw_shop.prices"


@pytest.fixture
async def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    """A loaded table of which one row has changed since."""
    two = TwoEnds(warehouse, shop)
    two.source("create table prices (id integer primary key, v integer, updated_at timestamptz)")
    two.source("insert into prices select n, n, now() - interval '1 day' from generate_series(1, 10) as n")
    await two.load(TABLE)
    two.source("update prices set v = 99, updated_at = now() where id = 3")
    return two


async def test_the_source_counts_its_keys_while_rows_are_written(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, counted, counts, merge = asyncio.Event(), asyncio.Event(), key_set, write.merge

    async def count(*arguments: Any) -> Any:
        async with asyncio.timeout(20):
            await written.wait()
        counted.set()
        return await counts(*arguments)

    async def writes(*arguments: Any, **options: Any) -> Any:
        assert not counted.is_set()
        done = await merge(*arguments, **options)
        written.set()
        return done

    monkeypatch.setattr(stage, "key_set", count)
    monkeypatch.setattr(write, "merge", writes)

    result = await ends.load(TABLE)

    assert (result.counts.rows_updated, result.counts.reconciliation) == (1, "match")


async def test_before_a_column_is_added_the_count_is_awaited(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can read raw while its columns change: a slow source must not prolong that."""
    counted, counts, merge = asyncio.Event(), key_set, write.merge

    async def count(*arguments: Any) -> Any:
        keys = await counts(*arguments)
        counted.set()
        return keys

    async def writes(*arguments: Any, **options: Any) -> Any:
        assert counted.is_set()
        return await merge(*arguments, **options)

    monkeypatch.setattr(stage, "key_set", count)
    monkeypatch.setattr(write, "merge", writes)
    ends.source("alter table prices add column note text")

    assert (await ends.load(TABLE)).counts.reconciliation == "match"


async def test_a_source_that_fails_while_it_counts_leaves_nothing_published(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ends.raw(RAW)

    async def fails(*_: Any) -> Any:
        raise ConnectionResetError("the source is gone")

    monkeypatch.setattr(stage, "key_set", fails)
    with pytest.raises(SourceUnavailable):
        await ends.load(TABLE)
    assert ends.raw(RAW) == before
    monkeypatch.undo()

    assert (await ends.load(TABLE)).counts.rows_updated == 1


async def test_a_warehouse_that_fails_does_not_wait_for_the_count(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def counts_forever(*_: Any) -> Any:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    async def fails(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        raise RuntimeError

    monkeypatch.setattr(stage, "key_set", counts_forever)
    monkeypatch.setattr(write, "merge", fails)
    with pytest.raises(Exception, match="RuntimeError"):
        await ends.load(TABLE)

    assert stopped.is_set()


_WORKERS = "select parallel_workers_to_launch from pg_stat_database where datname = current_database()"
_ANY_SIZE = "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0"


async def workers(session: "Connection[Record]", counts: Awaitable[object]) -> int:
    """How many parallel workers the statement wanted."""
    asked = []
    for each in (None, counts):
        if each is not None:
            await each
        await session.execute("select pg_stat_force_next_flush()")
        asked.append(int(await session.fetchval(_WORKERS)))
    return asked[1] - asked[0]


async def test_raw_is_counted_by_parallel_workers_and_the_source_by_one_process(ends: TwoEnds) -> None:
    """Raw is counted last, when nothing else is done; a source's other cores are its applications'."""
    target = Target("shop", "prices", "raw_shop")
    async with connect(ends.warehouse_address, side="warehouse") as session:
        await session.execute(_ANY_SIZE)
        assert await workers(session, write.key_set(session, target, TABLE.keys)) > 0
    async with connect(ends.shop_address, side="source") as session:
        await session.execute(_ANY_SIZE)
        shape = await describe(session, "shop", "raw_shop", TABLE)
        assert await workers(session, key_set(session, TABLE, shape)) == 0
