"""Readers and chunks: recommended from measured reads, set for one table, and taken back if they do not help."""

from datetime import timedelta

import pytest

from flows.access.addresses import connect
from flows.declare import Merge, Timestamp
from flows.kinds.postgres import Table
from flows.kinds.postgres.plan import plan_table
from flows.state.tunings import find_tuning
from tests.kinds.loading import setting
from tests.operations.tuning.tuned import HOUR, NOW, Tuned

TICKETS = Table("tickets", key="id", load=Merge(), cursor=Timestamp("updated_at"))
OTHER = Table("tickets", key="id", load=Merge(), cursor=Timestamp("created_at"))
LATER = NOW + timedelta(days=9)


def chunks(ends: Tuned, readers: int, seconds: float = 10.0, status: str = "published") -> None:
    """Of each load of the ledger six chunks of 10 MB, so many at once."""
    ends.raw(
        "insert into ops.reads (batch_id, strategy, grid, read_window, landing) "
        "select batch_id, 'merge', '{}', '{}', 0 from ops.loads on conflict do nothing"
    )
    ends.raw(
        "insert into ops.chunks (batch_id, lower_step, upper_step, attempt, rows, bytes, seconds, memory_bytes, "
        "size_bytes, size_reason, worker, committed_at) "
        "select batch_id, n, n + 1, 1, 100, 10000000, %s, 0, 0, 'steady', 'here:1', "
        "started_at + %s * (1 + n / %s) * interval '1 second' "
        "from ops.loads, generate_series(0, 5) as n where status = 'published' on conflict do nothing",
        [seconds, seconds, readers],
    )


async def plan_of(ends: Tuned, table: Table = TICKETS) -> str:
    async with (
        connect(ends.warehouse_address, side="warehouse") as warehouse,
        connect(ends.shop_address, side="source") as origin,
    ):
        return str((await plan_table(warehouse, origin, ends.declared(table), table)).plan.reading)


async def test_more_readers_are_set_for_the_table_and_taken_back_if_loads_take_as_long(ends: Tuned) -> None:
    ends.ledger("tickets", 24, seconds=64, size=60 * 10**6)
    chunks(ends, readers=1)
    found = (await ends.recommended(TICKETS, now=NOW + HOUR))["readers"]
    assert found.settings == {"load_readers": 2, "large_load_mb": 30.0}
    assert "one reader reads 1.0 MB/s" in found.basis
    with setting(chunk_min_mb="0.04", chunk_max_mb="0.1"):
        before = await plan_of(ends)
        applied = await ends.apply(found, now=NOW + HOUR)
        assert before.startswith("small"), before
        # Of this table, 1.6 MB are large enough.
        ends.raw("update ops.tunings set settings = settings || '{\"large_load_mb\": 0.3}'")
        assert (await plan_of(ends)).startswith("large, about 2 MB: 2 readers")
    ends.raw("update ops.tunings set applied_at = %s", [NOW + 2 * HOUR])
    ends.ledger("tickets", 24, seconds=63, ending=NOW + 26 * HOUR)
    (tuning,) = await ends.evaluated(now=LATER)
    assert (tuning.tuning_id, tuning.verdict, tuning.reverted_by) == (
        applied.tuning_id, "no difference", "automatically"
    )  # fmt: skip
    assert (await plan_of(ends)).startswith("small"), "the settings are those of all tables again"


async def test_readers_that_help_or_are_kept_stay(ends: Tuned) -> None:
    ends.ledger("tickets", 24, seconds=64, size=60 * 10**6)
    chunks(ends, readers=1)
    found = (await ends.recommended(TICKETS, now=NOW + HOUR))["readers"]
    for keep, seconds, verdict in ((False, 36, "helped"), (True, 64, "no difference")):
        applied = await ends.apply(found, now=NOW + HOUR, keep=keep)
        ends.raw("update ops.tunings set applied_at = %s", [NOW + 2 * HOUR])
        ends.ledger("tickets", 24, seconds=seconds, ending=NOW + 26 * HOUR)
        newest = (await ends.evaluated(now=LATER))[0]
        assert (newest.tuning_id, newest.verdict, newest.reverted_at) == (applied.tuning_id, verdict, None)
        ends.raw("delete from ops.tunings")
        ends.raw("delete from ops.loads where started_at > %s", [NOW])


async def test_more_readers_are_not_recommended_if_they_were_no_faster_before(ends: Tuned) -> None:
    ends.ledger("tickets", 12, seconds=64, size=60 * 10**6, ending=NOW - 24 * HOUR)
    chunks(ends, readers=1, seconds=10)
    ends.ledger("tickets", 24, seconds=64, size=60 * 10**6)
    chunks(ends, readers=2, seconds=20)  # two read half as fast each
    assert "readers" not in await ends.recommended(TICKETS, now=NOW + HOUR)


async def test_reads_that_are_not_cut_into_chunks_say_nothing_of_readers(ends: Tuned) -> None:
    ends.ledger("tickets", 24, seconds=64, size=60 * 10**6)
    assert "readers" not in await ends.recommended(TICKETS, now=NOW + HOUR)


@pytest.mark.parametrize(
    ("failed_after", "times", "size", "expected"), [(500, 5, 10**9, True), (3, 5, 10**9, False), (500, 2, 10**9, False),
                                                    (500, 5, 10**6, False)]
)  # fmt: skip
async def test_long_loads_that_fail_and_start_over_are_read_in_chunks(
    ends: Tuned, failed_after: float, times: int, size: int, expected: bool
) -> None:
    ends.ledger("tickets", 24, seconds=600, size=size)
    ends.ledger("tickets", times, seconds=failed_after, status="failed", ending=NOW - HOUR / 2)
    found = (await ends.recommended(TICKETS, now=NOW + HOUR)).get("chunks")
    assert (found is not None) == expected
    if found is not None:
        assert found.settings == {"medium_load_mb": size / 4e6}
        await ends.apply(found, now=NOW + HOUR)
        assert (await find_settings(ends)) == found.settings


async def find_settings(ends: Tuned) -> object:
    async with connect(ends.warehouse_address, side="warehouse") as connection:
        tuning = await find_tuning(connection, 1)
        return None if tuning is None else tuning.settings
