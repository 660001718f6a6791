"""Partition overwrite: raw's rows of the last partitions are the source's, whatever happened to them there."""

from datetime import date

import pytest

from flows.declare import Overwrite, Rule, Timestamp
from flows.declare.partition import first_day_of_last
from flows.kinds.postgres import Database, Table
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DataRefused, SourceError
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds

MONTHS = Overwrite(by="sold_at", every="month", last=2)
SALES = Table("sales", key="id", load=MONTHS, rules=(Rule("not_negative", "v >= 0"),), max_quarantined=1)
KEYLESS = Table("sales", load=MONTHS)
FOLLOWED = Table("sales", load=MONTHS, cursor=Timestamp("updated_at"))
WAYS = {"with a key": SALES, "without a key": KEYLESS}
COLUMNS = "id, sold_at, v, updated_at"
# A year before the last partitions, and within them.
OLD, NEW = "date_trunc('month', now()) - interval '1 year'", "date_trunc('month', now())"


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    """Thirty rows of a month a year ago, thirty of this month and ten of the last."""
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table sales (id int, sold_at timestamptz, v int, updated_at timestamptz default now());"
        f"insert into sales select n, {OLD} + n * interval '1 minute', n, now() - interval '9 d' "
        "from generate_series(1, 30) as n;"
        f"insert into sales select n, {NEW} + n * interval '1 minute', n, now() - interval '9 d' "
        "from generate_series(101, 130) as n;"
        f"insert into sales select n, {NEW} - n * interval '1 minute', n, now() - interval '9 d' "
        "from generate_series(201, 210) as n"
    )
    return two


@pytest.mark.parametrize("way", WAYS)
async def test_only_the_last_partitions_become_the_sources(ends: TwoEnds, way: str) -> None:
    table = WAYS[way]
    first = await ends.load(table)
    assert (first.strategy, first.counts.rows_inserted, first.counts.reconciliation) == ("initial", 70, "match")
    batches = ends.raw("select id, _batch_id from raw_shop.sales where id < 101 or id > 200 order by id")
    # No cursor could see any of it: rows corrected, deleted and inserted, none of them with a new updated_at.
    ends.source("update sales set v = 1000 where id in (1, 101); delete from sales where id in (2, 102, 103)")
    ends.source(f"insert into sales values (131, {NEW} + interval '3 d', 1, '2001-01-01')")

    result = await ends.load(table)

    counts = result.counts
    assert (result.strategy, counts.rows_read, counts.reconciliation) == ("overwrite", 39, "match")
    written = (1, 1, 2, 37) if table.keys else (29, 0, 30, 10)
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_deleted, counts.rows_unchanged) == written
    recent = f"select id, v from {{}} where sold_at >= {NEW} - interval '1 month' order by id"
    assert ends.raw(recent.format("raw_shop.sales")) == ends.source(recent.format("sales"))
    assert ends.raw("select id, v from raw_shop.sales where id < 3 order by id") == [(1, 1), (2, 2)]
    assert ends.raw("select id, _batch_id from raw_shop.sales where id < 101 or id > 200 order by id") == batches
    assert (await ends.load(table)).counts.changed == 0


async def test_a_row_that_moves_between_partitions_is_neither_lost_nor_doubled(ends: TwoEnds) -> None:
    """Into the partitions that are read, out of them, and out of them into quarantine and back."""
    await ends.load(SALES)
    ends.source(f"update sales set sold_at = {NEW} where id = 1; update sales set sold_at = {OLD} where id = 101")
    ends.source(f"update sales set sold_at = {OLD}, v = -1 where id = 102")

    moved = await ends.load(SALES)

    assert (moved.counts.rows_updated, moved.counts.rows_deleted, moved.counts.rows_quarantined) == (2, 0, 1)
    assert ends.raw("select count(*), count(distinct id) from raw_shop.sales") == [(70, 70)]
    ends.source("update sales set v = 5 where id = 102; delete from sales where id = 103")
    again = await ends.load(SALES)
    assert (again.counts.rows_deleted, again.counts.reconciliation) == (1, "match")
    assert ends.same("sales", COLUMNS)
    assert ends.raw("select resolution from quarantine.rows") == [("fixed at the source",)]


async def test_with_a_cursor_earlier_partitions_in_which_rows_changed_are_overwritten_too(ends: TwoEnds) -> None:
    """Without a key, and with an old row that moves: it stands in the partition it left no more."""
    await ends.load(FOLLOWED)
    assert (await ends.load(FOLLOWED)).counts.changed == 0
    ends.source("delete from sales where id = 2; update sales set v = 7, updated_at = now() where id in (1, 101)")
    ends.source(f"update sales set sold_at = {OLD} - interval '1 year', updated_at = now() where id = 3")

    planned = "overwrite the last 2 months by sold_at, and 2 earlier in which rows changed"
    assert await ends.reason(FOLLOWED) == planned
    result = await ends.load(FOLLOWED)

    assert (result.counts.rows_read, result.counts.reconciliation) == (69, "match")
    assert result.lower == str(first_day_of_last(date.today(), "month", 25))
    assert ends.same("sales", COLUMNS)


@pytest.mark.parametrize("way", WAYS)
async def test_a_partition_that_shrinks_below_the_declared_share_is_refused(ends: TwoEnds, way: str) -> None:
    """Last month lost most of its rows; together both partitions lost few."""
    ends.source(f"insert into sales select n, {NEW} - interval '1 h', n from generate_series(1001, 1100) as n")
    ends.source(f"insert into sales select n, {NEW} + interval '1 h', n from generate_series(2001, 3000) as n")
    await ends.load(WAYS[way])
    ends.source("delete from sales where id between 1001 and 1070")

    with pytest.raises(DataRefused, match=r"the month of \d{4}-\d\d-01: 40 rows arrived and raw has 110"):
        await ends.load(WAYS[way])

    assert ends.raw("select count(*) from raw_shop.sales") == [(1170,)]


async def test_rows_in_no_partition_and_beyond_the_last_one_are_read_by_every_load(ends: TwoEnds) -> None:
    odd = "(301, null, 1), (302, 'infinity', 1), (303, '-infinity', 1), (304, now() + interval '3 years', 1)"
    ends.source(f"insert into sales (id, sold_at, v) values {odd}")
    for way in WAYS.values():
        await ends.load(way)
        ends.source("update sales set v = v + 1 where id > 300; delete from sales where id = 301")
        assert (await ends.load(way)).counts.reconciliation == "match"
        assert ends.same("sales", COLUMNS)
        ends.source("insert into sales (id, v) values (301, 5)")
        ends.raw("drop table raw_shop.sales")


async def test_broken_rows_wait_in_quarantine_and_leave_it_with_their_partition(ends: TwoEnds) -> None:
    ends.source("update sales set v = -1 where id in (1, 101, 102, 103)")
    assert (await ends.load(SALES)).counts.rows_quarantined == 4
    ends.source("update sales set v = 1 where id in (1, 101); delete from sales where id = 102")

    result = await ends.load(SALES)

    assert (result.counts.rows_quarantined, result.counts.quarantine_rows) == (1, 1)
    assert result.counts.reconciliation == "match"
    assert ends.raw("select row_key ->> 'id', resolution from quarantine.rows order by 1") == [
        ("1", None), ("101", "fixed at the source"), ("102", "deleted at the source"), ("103", None)
    ]  # fmt: skip


async def test_a_row_counts_where_its_newest_version_lies_while_raw_keeps_its_last_good_one(ends: TwoEnds) -> None:
    """Rows move into the window and out of it, and break a rule as they do."""
    await ends.load(SALES)
    ends.source(f"update sales set v = -1, sold_at = {OLD} where id in (101, 201)")
    ends.source(f"update sales set v = -1, sold_at = {NEW} where id in (1, 2, 3)")

    for _ in range(2):
        result = await ends.load(SALES)
        assert (result.counts.source_rows, result.counts.reconciliation) == (41, "match")
    assert len(ends.raw("select id from raw_shop.sales where _deleted_at is null")) == 70
    ends.source("update sales set v = 1 where v < 0")
    result = await ends.load(SALES)
    assert (result.counts.reconciliation, result.counts.quarantine_rows) == ("match", 0)


@pytest.mark.parametrize("way", WAYS)
async def test_a_new_column_reaches_the_partitions_that_are_not_read(ends: TwoEnds, way: str) -> None:
    await ends.load(WAYS[way])
    ends.source("alter table sales add column currency text default 'USD'")

    result = await ends.load(WAYS[way])

    assert (result.strategy, result.counts.reconciliation) == ("reload", "match")
    assert ends.same("sales", "id, v, currency")
    assert (await ends.load(WAYS[way])).strategy == "overwrite"


async def test_a_large_read_of_partitions_is_shared_among_readers(ends: TwoEnds) -> None:
    await ends.load(SALES)
    ends.source(f"update sales set sold_at = {OLD} where id = 101; analyze sales")
    with setting(medium_load_mb=0, large_load_mb=0, chunk_min_mb=0.001, chunk_max_mb=0.001):
        result = await ends.load(SALES)
    assert (result.volume, result.counts.rows_read, result.counts.reconciliation) == ("large", 40, "match")
    assert ends.same("sales", COLUMNS)


@pytest.mark.parametrize("way", WAYS)
async def test_a_comparison_tells_what_the_next_load_brings_from_what_none_will(ends: TwoEnds, way: str) -> None:
    table = WAYS[way]
    await ends.load(table)
    assert (await reconcile(ends, table)).result == "match"
    ends.source("update sales set v = 7 where id = 101")
    waits = await reconcile(ends, table)
    assert (waits.result, waits.pending) == ("match", 1 if table.keys else 40)
    ends.source("update sales set v = 7 where id = 1; delete from sales where id = 2")

    found = await reconcile(ends, table)

    assert (found.result, found.source_rows, found.raw_rows) == ("different", 69, 70)
    if table.keys:
        assert (found.different, found.extra, found.pending) == (1, 1, 1)
        await reconcile(ends, table, repair=True)
        await ends.load(table)
        assert ends.same("sales", COLUMNS)


async def reconcile(ends: TwoEnds, table: Table, *, repair: bool = False) -> Reconciliation:
    source = Database("shop", connection="shop", tables=[table])
    return await compare_table(ends.warehouse_address, ends.shop_address, source, table, repair=repair)


async def test_a_column_that_has_no_days_is_refused(ends: TwoEnds) -> None:
    with pytest.raises(SourceError, match="has type integer, which cannot be partitioned by day"):
        await ends.load(Table("sales", load=Overwrite(by="v", every="day")))
    with pytest.raises(SourceError, match="partition column nowhere is not in the table"):
        await ends.load(Table("sales", load=Overwrite(by="nowhere", every="day")))
