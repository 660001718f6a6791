"""What is kept of releases: the way back outlives the builds that come after."""

from collections.abc import AsyncIterator

import pytest
from asyncpg import Connection, Record

from flows.access.addresses import connect
from flows.state import dbt_manifests, releases, runs
from flows.values.connection import DatabaseConnection
from tests.conftest import TestDatabase


@pytest.fixture
async def ops(warehouse: TestDatabase) -> AsyncIterator["Connection[Record]"]:
    async with connect(DatabaseConnection("warehouse", warehouse.url("loader")), side="warehouse") as opened:
        yield opened


async def build(ops: "Connection[Record]") -> int:
    """A whole build with its manifest."""
    run_id = await runs.open_run(ops, "transform", "", None, None)
    await dbt_manifests.keep_manifest(ops, run_id, b"{}")
    return run_id


async def test_the_manifests_of_a_release_and_of_what_it_replaced_outlive_ten_builds(
    ops: "Connection[Record]",
) -> None:
    """Ordinary builds forget all but the last ten; ten hours after a release a rollback must still know its models."""
    long_ago, before, released = [await build(ops) for _ in range(3)]
    number = await releases.record_release(ops, released, "abc", None, before, {})
    await releases.mark_released(ops, number)
    later = [await build(ops) for _ in range(12)]
    kept = [run for run in (long_ago, before, released, *later) if await dbt_manifests.is_kept(ops, run)]
    assert kept == [before, released, *later[2:]]


async def test_a_release_that_readers_never_had_keeps_nothing_and_withdraws_nothing(ops: "Connection[Record]") -> None:
    before, judged = [await build(ops) for _ in range(2)]
    await releases.record_release(ops, judged, "abc", None, before, {})
    for _ in range(10):
        await build(ops)
    assert not await dbt_manifests.is_kept(ops, before)
    assert await releases.withdrawn(ops, "abc") is None


async def test_models_released_again_are_not_withdrawn_any_more(ops: "Connection[Record]") -> None:
    run_id = await build(ops)
    first = await releases.record_release(ops, run_id, "abc", None, None, {})
    await releases.mark_released(ops, first)
    await releases.mark_withdrawn(ops, first, "Ada")
    await releases.mark_withdrawn(ops, first, "an unfinished rollback")
    found = await releases.withdrawn(ops, "abc")
    assert found is not None
    assert (found.release_id, found.by) == (first, "Ada")
    assert await releases.withdrawn(ops, "other") is None
    second = await releases.record_release(ops, run_id, "abc", None, None, {})
    await releases.mark_released(ops, second)
    assert await releases.withdrawn(ops, "abc") is None


async def test_what_the_schemas_tell_is_written_down_once(ops: "Connection[Record]") -> None:
    run_id = await build(ops)
    numbers = [await releases.record_release(ops, run_id, f"models {n}", None, None, {}) for n in (1, 2)]
    await releases.settle(ops, in_force=numbers[0], kept=None)
    await releases.settle(ops, in_force=numbers[1], kept=numbers[0])
    assert await releases.withdrawn(ops, "models 1") is None, "an earlier one was followed, not withdrawn"
    await releases.settle(ops, in_force=numbers[0], kept=numbers[1])
    found = await releases.withdrawn(ops, "models 2")
    assert found is not None
    await releases.settle(ops, in_force=numbers[0], kept=numbers[1])
    again = await releases.withdrawn(ops, "models 2")
    assert again is not None
    assert again.at == found.at
