"""What each way of loading makes of raw: merge, append, replace with and without a key."""

import asyncio
from dataclasses import replace

import pytest

from flows.declare import Append, Merge, Replace, Timestamp
from flows.kinds.postgres import Table
from flows.landing.table import Target
from flows.values.errors import DataRefused, MedallionError, SourceError
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

PRICES = Table("prices", key="id", load=Merge(), deletes=True)
LIST = Table("prices", load=Replace())


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table prices (id int, price numeric, updated_at timestamptz default now());"
        "insert into prices select i, i, now() - interval '1 day' from generate_series(1, 10) as i"
    )
    return two


def raw_image(ends: TwoEnds) -> object:
    """Raw to the last detail, down to the physical rows: equal only when nothing was written."""
    return ends.raw("select r.ctid::text, r.xmin::text, r::text from raw_shop.prices as r order by r::text")


async def test_a_first_load_becomes_the_raw_table_with_its_key(ends: TwoEnds) -> None:
    result = await ends.load(PRICES)
    assert (result.strategy, result.counts.rows_inserted, result.counts.reconciliation) == ("initial", 10, "match")
    assert ends.raw(
        "select pg_get_constraintdef(oid) from pg_constraint "
        "where conrelid = 'raw_shop.prices'::regclass and contype = 'p'"
    ) == [("PRIMARY KEY (id)",)]
    assert ends.raw("select relpersistence::text from pg_class where oid = 'raw_shop.prices'::regclass") == [("p",)]
    assert ends.raw("select count(*) from pg_class where relnamespace = 'landing'::regnamespace") == [(0,)]


async def test_every_row_says_when_whence_and_with_which_load_it_came(ends: TwoEnds) -> None:
    first = await ends.load(PRICES)
    ends.source("update prices set price = 100 where id = 1")
    second = await ends.load(PRICES)
    rows = ends.raw("select _batch_id, _source_system, count(*) from raw_shop.prices group by 1, 2 order by 1")
    assert rows == [(first.batch_id, "shop", 9), (second.batch_id, "shop", 1)]
    assert ends.raw(
        "select bool_and(_extracted_at between l.started_at and l.finished_at) from raw_shop.prices as r "
        "inner join ops.loads as l on r._batch_id = l.batch_id"
    ) == [(True,)]


@pytest.mark.parametrize("table", [PRICES, LIST, Table("prices", key="id", load=Replace())], ids=repr)
async def test_loading_again_writes_nothing(ends: TwoEnds, table: Table) -> None:
    await ends.load(table)
    before = raw_image(ends)
    result = await ends.load(table)
    assert raw_image(ends) == before
    assert (result.counts.changed, result.counts.rows_unchanged) == (0, 10)


async def test_a_merge_writes_only_what_differs(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("update prices set price = -1 where id <= 3; insert into prices values (11, 11)")
    counts = (await ends.load(PRICES)).counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_unchanged) == (1, 3, 7)
    assert ends.same("prices", "id, price, updated_at")


async def test_a_key_that_changes_is_a_delete_and_an_insert(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("update prices set id = 99 where id = 5")
    counts = (await ends.load(PRICES)).counts
    assert (counts.rows_inserted, counts.rows_deleted) == (1, 1)
    assert ends.same("prices", "id, price")


async def test_a_deleted_row_keeps_its_last_values_and_is_marked_once(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("delete from prices where id in (3, 4)")
    result = await ends.load(PRICES)
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (2, "match")
    query = "select id, price, _deleted_at, _batch_id from raw_shop.prices where _deleted_at is not null order by id"
    marked = ends.raw(query)
    assert [(row[0], row[1], row[3]) for row in marked] == [(3, 3, result.batch_id), (4, 4, result.batch_id)]
    assert (await ends.load(PRICES)).counts.rows_deleted == 0
    assert ends.raw(query) == marked


async def test_a_row_that_comes_back_is_alive_again(ends: TwoEnds) -> None:
    """Restored from a backup it may be the very same row, of the very same time."""
    await ends.load(PRICES)
    ends.source("create table kept as select * from prices where id = 3; delete from prices where id = 3")
    await ends.load(PRICES)
    ends.source("insert into prices select * from kept")
    result = await ends.load(PRICES)
    assert (result.counts.rows_updated, result.counts.reconciliation) == (1, "match")
    assert ends.same("prices", "id, price")


async def test_a_row_restored_with_its_old_time_is_found_though_the_cursor_has_passed_it(ends: TwoEnds) -> None:
    table = Table("prices", key="id", cursor=Timestamp("updated_at"), load=Merge(), deletes=True)
    await ends.load(table)
    ends.source("create table kept as select * from prices where id = 3; delete from prices where id = 3")
    await ends.load(table)
    ends.source("insert into prices select * from kept")
    assert (await ends.load(table)).counts.reconciliation == "missing"
    result = await ends.load(table)
    assert (result.strategy, result.counts.reconciliation) == ("reload", "match")
    assert ends.same("prices", "id, price")


async def test_deletes_are_found_in_a_table_emptied_at_the_source(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("truncate prices")
    assert (await ends.load(PRICES)).counts.rows_deleted == 10


async def test_deletes_of_most_of_a_table_are_refused(ends: TwoEnds) -> None:
    """A source restored halfway looks like one whose rows were deleted."""
    ends.source("insert into prices select i, i from generate_series(11, 200) as i")
    await ends.load(PRICES)
    before = raw_image(ends)
    ends.source("create table elsewhere as select * from prices; truncate prices")
    with pytest.raises(DataRefused, match=r"200 of 200 rows of raw were deleted .* share of 0\.5") as refusal:
        await ends.load(PRICES)
    assert "max_deleted" in refusal.value.fix
    assert raw_image(ends) == before
    ends.source("insert into prices select * from elsewhere where id <= 99")
    with pytest.raises(DataRefused, match="101 of 200 rows"):
        await ends.load(PRICES)
    assert (await ends.load(replace(PRICES, max_deleted=0.505))).counts.rows_deleted == 101
    # With fewer than a hundred rows left, any share may go.
    ends.source("truncate prices")
    assert (await ends.load(PRICES)).counts.rows_deleted == 99


async def test_a_merge_without_deletes_keeps_what_the_source_dropped(ends: TwoEnds) -> None:
    table = Table("prices", key="id", load=Merge())
    await ends.load(table)
    ends.source("delete from prices where id = 3")
    result = await ends.load(table)
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "extra")


async def test_an_append_leaves_alone_what_is_there(ends: TwoEnds) -> None:
    table = Table("prices", key="id", cursor=Timestamp("updated_at", lag="2 days"), load=Append())
    await ends.load(table)
    ends.source("update prices set price = -1; insert into prices values (11, 11)")
    counts = (await ends.load(table)).counts
    assert (counts.rows_inserted, counts.rows_unchanged) == (1, 10)
    assert ends.raw("select count(*) from raw_shop.prices where price = -1") == [(0,)]


async def test_a_replace_writes_the_difference_and_drops_what_is_gone(ends: TwoEnds) -> None:
    table = Table("prices", key="id", load=Replace())
    await ends.load(table)
    ends.source(
        "delete from prices where id = 1; update prices set price = 0 where id = 2; insert into prices values (11)"
    )
    counts = (await ends.load(table)).counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_unchanged, counts.rows_deleted) == (1, 1, 8, 1)
    assert ends.raw("select count(*) from raw_shop.prices where _deleted_at is not null") == [(0,)]
    assert ends.same("prices", "id, price")


@pytest.mark.parametrize(
    "change",
    [
        "insert into prices select * from prices where id = 1",
        "delete from prices where id = 1",
        "update prices set price = 1.0 where id = 1",
        "update prices set price = null where id = 1",
        "update prices set price = 11 - price",
    ],
)
async def test_a_replace_without_a_key_sees_every_difference(ends: TwoEnds, change: str) -> None:
    """Rows may stand there twice; only how often each one stands there can be compared."""
    ends.source("insert into prices select * from prices where id = 2")
    await ends.load(LIST)
    ends.source(change)
    result = await ends.load(LIST)
    assert result.counts.changed > 0
    assert result.counts.reconciliation == "match"
    assert ends.same("prices", "id, price, updated_at")


@pytest.mark.parametrize("key", ["id", ()])
async def test_a_replace_refuses_a_source_that_shrank(ends: TwoEnds, key: str | tuple[str, ...]) -> None:
    table = Table("prices", key=key, load=Replace(min_share=0.5))
    await ends.load(table)
    before = raw_image(ends)
    ends.source("delete from prices where id > 4")
    with pytest.raises(DataRefused, match=r"4 rows arrived and raw has 10: fewer than the declared share of 0\.5"):
        await ends.load(table)
    assert raw_image(ends) == before
    assert ends.raw("select status from ops.loads order by batch_id") == [("published",), ("refused",)]
    ends.source("insert into prices values (5, 5)")
    await ends.load(table)
    assert ends.same("prices", "id, price")


async def test_a_replace_that_may_shrink_to_nothing_does(ends: TwoEnds) -> None:
    table = Table("prices", key="id", load=Replace(min_share=0))
    await ends.load(table)
    ends.source("delete from prices")
    assert (await ends.load(table)).counts.rows_deleted == 10


async def test_a_reader_sees_yesterdays_table_or_todays(ends: TwoEnds) -> None:
    """A replace never truncates: a query that runs through the publishing finds all rows of one version."""
    table = Table("prices", load=Replace())
    await ends.load(table)
    seen: set[tuple[int, int]] = set()

    async def read() -> None:
        for _ in range(200):
            seen.add(
                await asyncio.to_thread(lambda: ends.raw("select count(*), min(price)::int from raw_shop.prices")[0])
            )
            if (10, 101) in seen:
                return

    ends.source("update prices set price = price + 100")
    await asyncio.gather(read(), ends.load(table))
    assert seen <= {(10, 1), (10, 101)}


async def test_an_empty_table_is_loaded_as_an_empty_table(ends: TwoEnds) -> None:
    ends.source("delete from prices")
    assert (await ends.load(PRICES)).counts.reconciliation == "match"
    ends.source("insert into prices values (1, 1)")
    await ends.load(PRICES)
    assert ends.same("prices", "id, price")


async def test_a_row_without_its_key_is_refused(ends: TwoEnds) -> None:
    ends.source("insert into prices values (null, 1)")
    with pytest.raises(DataRefused, match=r"1 of 11 rows break a rule \(key_present: 1\)"):
        await ends.load(PRICES)
    assert ends.raw("select to_regclass('raw_shop.prices')") == [(None,)]


async def test_tables_of_one_source_loaded_side_by_side_share_schema_and_enums(ends: TwoEnds) -> None:
    """The very first loads all find nothing there, and would create the same things at the same time."""
    ends.source("create type mood as enum ('sad', 'happy')")
    tables = [Table(f"mood_{n}", key="id", load=Replace()) for n in range(4)]
    for table in tables:
        ends.source(
            f"create table {table.name} (id int primary key, m mood); insert into {table.name} values (1, 'sad')"
        )
    for attempt in range(3):
        await asyncio.gather(*(ends.load(table, source=f"s{attempt}") for table in tables))
    ends.source("alter type mood add value 'so so' before 'happy'")
    await asyncio.gather(*(ends.load(table, source="s0") for table in tables))
    assert ends.raw("select enum_range(null::raw_s0.mood)::text") == [('{sad,"so so",happy}',)]


async def test_no_two_tables_share_a_landing_table(ends: TwoEnds) -> None:
    """They have a lock each, so nothing else would keep one load from dropping the other's rows."""
    ends.source("create table b__c as select 1 as id; create table c as select 2 as id")
    for _ in range(3):
        await asyncio.gather(
            ends.load(Table("b__c", key="id", load=Replace()), source="a"),
            ends.load(Table("c", key="id", load=Replace()), source="a__b"),
        )
    assert ends.raw("select b.id, c.id from raw_a.b__c as b, raw_a__b.c as c") == [(1, 2)]


def test_landing_names_differ_and_fit() -> None:
    names = ["a", "b", "a_", "a__b", "b__c", "c", "b__k", "x" * 40, "x" * 39 + "y", "x" * 20 + "_" + "y" * 19]
    targets = [Target(source, table, f"raw_{source}") for source in names for table in names]
    landing = [target.landing_name for target in targets]
    beside = [name + ending for name in landing for ending in ("__k", "__p")]
    assert len({*landing, *beside}) == 3 * len(targets)
    assert max(map(len, beside)) <= 63
    assert Target("shop", "basket_items", "raw_shop").landing_name == "shop__basket_items"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table("nowhere", load=Replace()), "table public.nowhere does not exist"),
        (Table("prices", key="code", load=Merge()), "key or cursor column code is not in the table"),
        (Table("prices", key="id", cursor=Timestamp("changed"), load=Merge()), "column changed is not in the table"),
    ],
    ids=["table", "key", "cursor"],
)
async def test_what_is_declared_and_not_there_is_named(ends: TwoEnds, table: Table, words: str) -> None:
    with pytest.raises(SourceError) as failure:
        await ends.load(table)
    assert words in str(failure.value)
    assert "flows/sources" in failure.value.fix


async def test_a_table_we_may_not_read_is_named_with_the_reason(ends: TwoEnds) -> None:
    ends.source("revoke select on prices from medallion_extractor")
    with pytest.raises(SourceError, match="permission denied for table prices"):
        await ends.load(PRICES)


async def test_a_source_column_named_like_our_metadata_is_refused_with_the_next_move(ends: TwoEnds) -> None:
    ends.source("alter table prices add column _batch_id int")
    with pytest.raises(MedallionError) as failure:
        await ends.load(PRICES)
    assert "_batch_id" in failure.value.what
    assert "view" in failure.value.fix
