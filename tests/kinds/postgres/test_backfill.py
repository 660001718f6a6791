"""One partition read again: raw's rows of those days are the source's, and nothing else is touched."""

import asyncio
from datetime import date

import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.declare.partition import Partition
from flows.kinds.answers import Ends
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.backfill import backfill_partition, refuse_unfit
from flows.publish.session import LoadResult
from flows.values.errors import DeclarationError, MedallionError, SourceError
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

SALES = Table(
    "sales",
    key="id",
    cursor=Timestamp("updated_at"),
    load=Merge(),
    deletes=True,
    rules=(Rule("not_negative", "v >= 0"),),
    max_quarantined=1,
)
FEBRUARY = Partition(date(2024, 2, 1), date(2024, 3, 1))


@pytest.fixture
async def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    """Rows of January to March, loaded once."""
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table sales (id int primary key, sold_at timestamptz, v int, updated_at timestamptz default now());"
        "insert into sales select n, timestamptz '2024-01-01 00:00+00' + n * interval '1 day', n, "
        "now() - interval '9 d' from generate_series(0, 90) as n"
    )
    await two.load(SALES)
    return two


async def backfill(
    ends: TwoEnds, partition: Partition = FEBRUARY, table: Table = SALES, by: str = "sold_at"
) -> LoadResult:
    source = Database("shop", connection="shop", tables=[table])
    opened = ends.raw(
        "insert into ops.backfills (source_system, table_name, column_name, every, first_day, last_day) "
        "values ('shop', %s, %s, 'month', '2024-01-01', '2024-12-31') returning backfill_id",
        [table.name, by],
    )
    return await backfill_partition(
        Ends(ends.warehouse_address, ends.shop_address, source, table), by, partition, opened[0][0]
    )


def cursors(ends: TwoEnds) -> object:
    return ends.raw("select * from ops.cursors")


async def test_what_changed_behind_the_cursor_is_brought_and_the_cursor_stays(ends: TwoEnds) -> None:
    """A script repaired old rows and touched no updated_at: no scheduled load would ever see it."""
    ends.source("update sales set v = v + 1000; delete from sales where id in (40, 41, 80)")
    ends.source("insert into sales values (200, '2024-02-29 23:59:59.999999+00', 1, now() - interval '9 d')")
    before = cursors(ends)

    result = await backfill(ends)

    counts = result.counts
    assert (counts.rows_read, counts.rows_updated, counts.rows_inserted, counts.rows_deleted) == (28, 27, 1, 2)
    assert (result.strategy, counts.reconciliation) == ("backfill", "match")
    assert cursors(ends) == before
    within = "sold_at >= '2024-02-01' and sold_at < '2024-03-01'"
    assert ends.raw(
        f"select id, v from raw_shop.sales where {within} and _deleted_at is null order by id"
    ) == ends.source(f"select id, v from sales where {within} order by id")
    untouched = ends.raw(f"select count(*) from raw_shop.sales where not ({within}) and v <> id")
    assert untouched == [(0,)]


async def test_a_row_that_moved_to_another_partition_is_not_taken_for_deleted(ends: TwoEnds) -> None:
    ends.source("update sales set sold_at = '2024-03-15' where id = 45")

    result = await backfill(ends)

    assert result.counts.rows_deleted == 0
    assert result.counts.reconciliation == "extra"
    march = await backfill(ends, Partition(date(2024, 3, 1), date(2024, 4, 1)))
    assert (march.counts.rows_updated, march.counts.reconciliation) == (1, "match")
    assert (await backfill(ends)).counts.reconciliation == "match"


async def test_broken_rows_go_to_quarantine_and_are_counted_there(ends: TwoEnds) -> None:
    ends.source("update sales set v = -1 where id in (50, 51)")
    ends.source("insert into sales values (300, '2024-02-10', -5, now() - interval '9 d')")

    result = await backfill(ends)

    assert (result.counts.rows_quarantined, result.counts.rows_deleted) == (3, 0)
    assert (result.counts.quarantine_rows, result.counts.reconciliation) == (1, "match")


async def test_without_deletes_rows_that_are_gone_stay(ends: TwoEnds) -> None:
    ends.source("delete from sales where id = 40")
    kept = Table("sales", key="id", cursor=Timestamp("updated_at"), load=Merge())

    result = await backfill(ends, table=kept)

    assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "extra")


async def test_an_append_adds_what_is_missing_and_leaves_the_rest(warehouse: TestDatabase, shop: TestDatabase) -> None:
    ends = TwoEnds(warehouse, shop)
    ends.source(
        "create table log (id bigint primary key, at date, v int); insert into log values (10, '2024-02-01', 1)"
    )
    log = Table("log", key="id", cursor=Sequence("id"), load=Append())
    await ends.load(log)
    ends.source("update log set v = 2; insert into log values (5, '2024-02-29', 5), (6, '2024-03-01', 6)")

    result = await backfill(ends, table=log, by="at")

    assert (result.counts.rows_inserted, result.counts.rows_unchanged) == (1, 1)
    assert ends.raw("select id, v from raw_shop.log order by id") == [(5, 5), (10, 1)]


@pytest.mark.parametrize("key", ["id", ()])
async def test_an_overwritten_table_is_filled_in_as_its_loads_write_it(ends: TwoEnds, key: str | tuple[()]) -> None:
    """Also without a key: rows gone go, and a row that came to February from elsewhere moves when it has a key."""
    table = Table("sales", key=key, load=Overwrite(by="sold_at", every="month"))
    ends.raw("drop table raw_shop.sales")
    await ends.load(table)
    ends.source("update sales set v = 7 where id = 45; delete from sales where id = 40")
    ends.source("update sales set sold_at = '2024-02-10' where id = 10")
    ends.source("update sales set sold_at = '2024-01-10' where id = 50")

    result = await backfill(ends, table=table)

    written = (0, 3, 1) if key else (28, 0, 29)
    counts = result.counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_deleted, counts.reconciliation) == (
        *written,
        "match",
    )
    await backfill(ends, Partition(date(2024, 1, 1), date(2024, 2, 1)), table=table)
    assert ends.same("sales", "id, sold_at, v")


async def test_an_empty_partition_is_one_that_is_in(ends: TwoEnds) -> None:
    result = await backfill(ends, Partition(date(2030, 1, 1), date(2030, 2, 1)))

    assert (result.counts.rows_read, result.counts.reconciliation) == (0, "match")
    assert ends.raw("select lower_bound from ops.backfill_partitions") == [(date(2030, 1, 1),)]


async def test_scheduled_loads_and_a_backfill_take_turns(ends: TwoEnds) -> None:
    ends.source("update sales set v = v + 1, updated_at = now()")

    results = await asyncio.gather(
        *(backfill(ends, Partition(date(2024, month, 1), date(2024, month + 1, 1))) for month in (1, 2, 3)),
        ends.load(SALES),
        ends.load(SALES),
    )

    assert all(result.counts.reconciliation == "match" for result in results)
    assert ends.same("sales", "id, sold_at, v")
    assert (await ends.load(SALES)).counts.changed == 0


async def test_the_last_load_and_its_verdict_are_still_the_scheduled_ones(ends: TwoEnds) -> None:
    ends.source("delete from sales where id = 89")
    await backfill(ends)

    assert (await ends.load(SALES)).strategy == "merge"


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("v", "has type integer, which cannot be partitioned by day"),
        ("nowhere", "the partition column nowhere does not exist"),
    ],
)
async def test_a_column_that_has_no_days_is_refused(ends: TwoEnds, by: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        await backfill(ends, by=by)


async def test_a_table_that_was_never_loaded_is_told_to_be_run(warehouse: TestDatabase, shop: TestDatabase) -> None:
    ends = TwoEnds(warehouse, shop)
    ends.source("create table sales (id int primary key, sold_at date)")

    with pytest.raises(MedallionError, match="never loaded"):
        await backfill(ends)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Database("s", connection="s", tables=[Table("t", key="id", load=Replace())]), "replace reads the full table"),
        (Database("s", connection="s", tables=[Table("t", cursor=Sequence("id"), load=Append())]), "has no key"),
        (Database("s", connection="s", engine="sqlite", tables=[Table("t", key="id", load=Merge())]), "runs on sqlite"),
        (
            Database("s", connection="s", tables=[Table("t", key="id", load=Merge())]),
            "partition column is not specified",
        ),
        (
            Database("s", connection="s", tables=[Table("t", load=Overwrite(by="sold_at", every="day"))]),
            "partitioned by sold_at",
        ),
    ],
)
def test_tables_that_no_backfill_helps_are_refused(source: Database, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        refuse_unfit(source, source.tables[0], "at" if "sold_at" in words else None)
