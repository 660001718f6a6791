"""Loads that a warehouse does not know have emptied the change table: noticed, and the table is read in full."""

import asyncio
from collections.abc import Iterator

import pytest

from flows.kinds.captured import load as loading
from flows.kinds.postgres import stage
from flows.values.errors import SourceUnavailable
from tests.conftest import TestCluster, copy_of, fresh_warehouse
from tests.eventually import eventually
from tests.kinds.captured.captured_ends import CapturedEnds
from tests.sessions import forget


@pytest.fixture
def other(cluster: TestCluster, ends: CapturedEnds) -> Iterator[CapturedEnds]:
    """The same declared source, read by a second warehouse."""
    with fresh_warehouse(cluster) as warehouse:
        yield CapturedEnds(warehouse, ends.shop)


async def start(ends: CapturedEnds, other: CapturedEnds) -> None:
    other.tables = [await ends.create("id bigint primary key, name text")]
    ends.source("insert into items select n, 'x' from generate_series(1, 20) as n")
    await ends.load()


async def test_two_warehouses_do_not_take_each_others_changes(ends: CapturedEnds, other: CapturedEnds) -> None:
    await start(ends, other)
    await other.load()
    ends.source("update items set name = 'changed' where id = 1")
    await ends.load()
    result = await other.load()
    assert (other.same(), result.strategy) == (True, "reload")
    assert "a second warehouse reads this source" in str(result.warning)
    ends.source("update items set name = 'again' where id = 2")
    await other.load()
    await ends.load()
    assert (ends.same(), other.same()) == (True, True)


async def test_one_that_empties_the_change_table_during_a_load_leaves_nothing_lost(
    ends: CapturedEnds, other: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read, and then both delete."""
    await start(ends, other)
    await other.load()
    await ends.load()
    honest = loading.acknowledge

    async def after_the_other(run: object, planned: object) -> None:
        monkeypatch.setattr(loading, "acknowledge", honest)
        ends.source("update items set name = 'between' where id = 3")
        await other.load()
        await honest(run, planned)  # type: ignore[arg-type]

    ends.source("update items set name = 'first' where id = 1")
    monkeypatch.setattr(loading, "acknowledge", after_the_other)
    await ends.load()
    await ends.load()
    assert (ends.same(), other.same()) == (True, True)


async def test_one_that_empties_it_between_plan_and_read_has_the_load_tried_again(
    ends: CapturedEnds, other: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(ends, other)
    await other.load()
    await ends.load()
    honest = stage.carry_out

    async def late(run: object, planned: object) -> object:
        monkeypatch.setattr(loading, "carry_out", honest)
        ends.source("update items set name = 'between' where id = 3")
        await other.load()
        return await honest(run, planned)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "carry_out", late)
    with pytest.raises(SourceUnavailable, match="another load has emptied") as refused:
        await ends.load()
    assert refused.value.retryable
    assert (await ends.load()).strategy == "reload"
    assert ends.same()


def sessions(ends: CapturedEnds) -> list[tuple[int]]:
    forget(ends.warehouse.name)
    query = "select pid from pg_stat_activity where datname = %s"
    return ends.warehouse.cluster.connection.execute(query, [ends.warehouse.name]).fetchall()


async def test_a_warehouse_restored_to_an_earlier_state_reads_what_it_had_loaded_since(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 20) as n")
    # In tasks of their own, with which their sessions end: a database with sessions cannot be copied.
    await asyncio.create_task(ends.load())
    ends.source("update items set name = 'before' where id = 1")
    await asyncio.create_task(ends.load())
    await asyncio.to_thread(eventually, lambda: not sessions(ends), 10)
    with copy_of(ends.warehouse) as backup:
        ends.source("update items set name = 'after' where id = 2")
        ends.source("delete from items where id = 3")
        await ends.load()
        restored = CapturedEnds(backup, ends.shop, ends.tables)
        assert not restored.same()
        result = await restored.load()
        assert (restored.same(), result.strategy) == (True, "reload")
        assert "it was restored" in str(result.warning)
        assert (await restored.load()).strategy == "merge"


async def test_a_load_that_could_not_empty_it_goes_on_by_what_was_recorded(
    ends: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the own load before is no other one, whether it has deleted what it read or not."""
    await ends.create("id bigint primary key, name text")
    await ends.load()

    async def nothing(run: object, planned: object) -> None:
        """The way to the source is lost."""

    for number in range(3):
        ends.source(f"insert into items values ({number}, 'a')")
        with monkeypatch.context() as patched:
            if number != 1:
                patched.setattr(loading, "acknowledge", nothing)
            assert (await ends.load()).strategy == "merge"
        assert ends.same()
