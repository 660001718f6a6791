"""Small, medium and large: which reads are cut, along what, and who can go on after a kill."""

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Merge, Replace, Sequence, Timestamp
from flows.kinds.postgres import Table
from flows.kinds.postgres.large.chunk_size import ChunkSize
from flows.kinds.postgres.large.sizing import choose
from flows.kinds.postgres.large.volume import Volume
from flows.kinds.postgres.plan import plan_table
from flows.state import ledger
from flows.values.plan import Window
from flows.values.settings import Settings
from flows.values.shape import Column, Shape
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.kinds.postgres.chunked import MEDIUM, SOURCE, create
from tests.publish.two_ends import TwoEnds

LIMITS = Settings(medium_load_mb=100, large_load_mb=1000, load_readers=3)
SHAPE = Shape((Column("id", "bigint", "id", nullable=False), Column("at", "timestamp with time zone", "at")))
MERGED = Table("t", key="id", cursor=Timestamp("at"), load=Merge())
NUMBERED = Table("t", cursor=Sequence("id"), load=Append())
WHOLE = Table("t", key="id", load=Replace())
KEYLESS = Table("t", load=Replace())
SINCE = Window(lower="2026-01-01", upper="2026-02-01")


def volume(megabytes: int, *indexes: tuple[str, ...], has_pages: bool = True) -> Volume:
    return Volume(1000, megabytes * 1_000_000, has_pages, 1000, 1, indexes)


@pytest.mark.parametrize(
    ("table", "window", "path", "held", "expected"),
    [
        (MERGED, Window(), "initial", volume(99), ("small", "whole", "", 1, False)),
        (MERGED, Window(), "initial", volume(101), ("medium", "chunks", "page", 1, True)),
        (MERGED, Window(), "initial", volume(1001), ("large", "chunks", "page", 3, True)),
        # Without ranges of pages: a view, a partitioned table, PostgreSQL 13.
        (MERGED, Window(), "initial", volume(1001, ("id",), has_pages=False), ("large", "chunks", "key", 3, True)),
        (MERGED, Window(), "initial", volume(1001, has_pages=False), ("large", "whole", "", 1, False)),
        # No cursor would bring rows that moved between two attempts.
        (WHOLE, Window(), "replace", volume(101, ("id", "x")), ("medium", "chunks", "key", 1, True)),
        (WHOLE, Window(), "replace", volume(101, ("x", "id")), ("medium", "whole", "", 1, False)),
        (WHOLE, Window(), "replace", volume(1001), ("large", "chunks", "page", 3, False)),
        (KEYLESS, Window(), "replace", volume(101), ("medium", "whole", "", 1, False)),
        (NUMBERED, Window(), "initial", volume(101, ("id",)), ("medium", "chunks", "key", 1, True)),
        (MERGED, SINCE, "merge", volume(1001, ("at", "x")), ("large", "windows", "cursor", 1, True)),
        (MERGED, SINCE, "merge", volume(1001, ("id",)), ("large", "chunks", "page", 3, True)),
        (MERGED, SINCE, "reload", volume(1001, ("at",)), ("large", "chunks", "page", 3, True)),
        (NUMBERED, SINCE, "append", volume(101, ("id",)), ("medium", "windows", "cursor", 1, True)),
        (MERGED, Window(lower="2026-01-01"), "merge", volume(101, ("at",)), ("medium", "chunks", "page", 1, True)),
    ],
)  # fmt: skip
def test_the_reading_follows_the_volume_the_cursor_and_the_indexes(
    table: Table, window: Window, path: str, held: Volume, expected: tuple[object, ...]
) -> None:
    chosen = choose(table, SHAPE, window, path, held, LIMITS)

    assert (chosen.volume, chosen.how, chosen.by, chosen.readers, chosen.restarts) == expected


def test_a_key_that_may_be_null_is_no_order_to_cut_by() -> None:
    shape = Shape((Column("id", "bigint", "id", nullable=True),))

    assert choose(WHOLE, shape, Window(), "replace", volume(101, ("id",)), LIMITS).how == "whole"


@pytest.mark.parametrize("table", ["orders", "prices", "events"])
async def test_the_plan_says_how_much_there_is_and_how_it_will_be_read(
    warehouse: TestDatabase, shop: TestDatabase, table: str
) -> None:
    ends = TwoEnds(warehouse, shop)
    create(ends)
    sizes = {name.removeprefix("MEDALLION_").lower(): value for name, value in MEDIUM.items()}

    async with connect(ends.warehouse_address, side="warehouse") as ours:
        await ledger.ensure_schema(ours)
        async with connect(ends.shop_address, side="source") as origin:
            with setting(**sizes):
                reason = (await plan_table(ours, origin, SOURCE, SOURCE.table(table))).plan.reason

    by = "page" if table == "orders" else "key"
    assert "medium, about 1 MB" in reason
    assert f"chunks by {by}, a restart resumes from the last one" in reason


# -- the size of chunks


def sized() -> ChunkSize:
    limits = Settings(chunk_min_mb=1, chunk_max_mb=100, chunk_seconds=10, chunk_memory_mb=50)
    return ChunkSize.within(limits, 1_000_000_000, 1000)


def test_chunks_grow_by_at_most_double_until_they_take_as_long_as_they_may() -> None:
    size = sized()
    aims = []
    for _ in range(8):
        aims.append(size.aim)
        size.learn(size.steps, size.aim, size.aim / 5_000_000, 0)  # 5 MB/s: 50 MB take 10 s

    assert aims[:4] == [4_000_000, 8_000_000, 16_000_000, 32_000_000]
    assert aims[-1] == 50_000_000


def test_chunks_stay_within_their_declared_limits() -> None:
    size = sized()
    for _ in range(9):
        size.learn(size.steps, size.aim, 0.01, 0)
    assert (size.aim, size.reason) == (100_000_000, "limit")
    for _ in range(12):
        size.learn(size.steps, size.aim, 1000, 0)
    assert size.aim == 1_000_000


def test_chunks_are_halved_when_memory_grows() -> None:
    size = sized()

    size.learn(size.steps, size.aim, 1, 60_000_000)

    assert (size.aim, size.reason) == (2_000_000, "memory")


def test_a_larger_chunk_that_is_slower_is_taken_back() -> None:
    size = sized()
    size.learn(size.steps, 4_000_000, 1, 0)
    assert size.aim == 8_000_000

    size.learn(size.steps, 8_000_000, 4, 0)

    assert size.reason == "slower"
    assert size.aim < 8_000_000


def test_steps_follow_what_a_step_was_found_to_hold() -> None:
    size = sized()
    before = size.steps

    size.learn(before, 8_000_000, 10, 0)  # twice the bytes that were expected

    assert size.bytes_per_step == 1_500_000
