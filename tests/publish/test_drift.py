"""`on_drift="quarantine"`: raw keeps its columns, what fits them goes on, and what does not waits whole."""

from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from datetime import date
from typing import Any

import psycopg
import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.declare.partition import Partition
from flows.kinds.answers import Ends
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.backfill import backfill_partition
from flows.landing.drift import exact
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DataRefused, SchemaDrift
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.nightly import chosen
from tests.publish.two_ends import TwoEnds

PRICES = Table(
    "prices",
    key="id",
    cursor=Timestamp("updated_at"),
    load=Merge(),
    rules=(Rule("not_negative", "price >= 0"),),
    max_quarantined=1,
    on_drift="quarantine",
)
BY_DAY = Overwrite(by="updated_at", every="day", last=3)
WAYS = {
    "merge": PRICES,
    "merge with deletes": replace(PRICES, deletes=True),
    "merge without a cursor": replace(PRICES, cursor=None),
    "append": replace(PRICES, cursor=Sequence("id"), load=Append()),
    "replace": replace(PRICES, cursor=None, load=Replace()),
    "replace without a key": replace(PRICES, key=(), cursor=None, load=Replace()),
    "overwrite": replace(PRICES, cursor=None, load=BY_DAY),
    "overwrite without a key": replace(PRICES, key=(), cursor=None, load=BY_DAY),
}


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table prices (id int primary key, price int, updated_at timestamptz default now());"
        "insert into prices select i, i, now() - interval '1 day' from generate_series(1, 10) as i"
    )
    return two


def held(ends: TwoEnds) -> SequenceOf[tuple[Any, ...]]:
    return ends.raw("select column_name, change, new_type, applied from ops.schema_changes order by change_id")


def waiting(ends: TwoEnds) -> SequenceOf[tuple[Any, ...]]:
    return ends.raw(
        "select rule, row_data ->> 'id', row_data ->> 'price', row_data ->> 'note' from quarantine.rows "
        "where resolved_at is null order by (row_data ->> 'id')::int"
    )


def columns(ends: TwoEnds) -> SequenceOf[tuple[Any, ...]]:
    return ends.raw(
        "select column_name, data_type from information_schema.columns where table_schema = 'raw_shop' "
        "and table_name = 'prices' order by 1"
    )


async def reconcile(ends: TwoEnds, table: Table, *, repair: bool = False) -> Reconciliation:
    source = Database("shop", connection="shop", tables=[table])
    return await compare_table(ends.warehouse_address, ends.shop_address, source, table, repair=repair)


# The others of them are in the test below.
@pytest.mark.parametrize(
    "way", chosen(WAYS, "merge with deletes", "merge without a cursor", "append", "replace without a key", "overwrite")
)
async def test_rows_without_a_value_in_a_new_column_load_and_the_others_wait_until_raw_has_it(
    ends: TwoEnds, way: str
) -> None:
    table = WAYS[way]
    await ends.load(table)
    before = columns(ends)
    ends.source("alter table prices add column note text")
    ends.source("insert into prices (id, price, note) values (11, 11, null), (12, 12, 'new'), (13, 13, 'new')")

    for _ in range(2):  # once more: what waits is not counted, kept or recorded twice
        result = await ends.load(table)
        assert result.counts.reconciliation == "match"
        assert result.schema_changes == ("note added, held back",)

    assert "held back from raw: note added" in await ends.reason(table)
    assert columns(ends) == before
    assert ends.raw("select max(id) from raw_shop.prices") == [(11,)]
    assert waiting(ends) == [("drift:note", "12", "12", "new"), ("drift:note", "13", "13", "new")]
    assert held(ends) == [("note", "added", "text", False)]
    assert (await reconcile(ends, table)).result == "match"

    ends.raw("alter table raw_shop.prices add column note text")
    after = await ends.load(table)

    assert (after.counts.rows_inserted >= 2, after.counts.reconciliation) == (True, "match")
    assert waiting(ends) == []
    assert ends.same("prices", "id, price, note")
    assert (await ends.load(table)).counts.changed == 0


@pytest.mark.parametrize("way", ["merge", "replace", "overwrite without a key"])
async def test_values_that_are_exactly_of_raws_type_load_and_the_others_wait(ends: TwoEnds, way: str) -> None:
    """The rules of the door still see raw's types, and what they refuse is kept as the source sent it."""
    table = WAYS[way]
    await ends.load(table)
    ends.source("alter table prices alter column price type text")
    ends.source("insert into prices (id, price) values (11, '11'), (12, 'twelve'), (13, '013'), (14, null), (15, '-1')")

    result = await ends.load(table)

    assert (result.counts.rows_quarantined, result.counts.reconciliation) == (3, "match")
    assert ends.raw("select id, price from raw_shop.prices where id > 9 order by id") == [
        (10, 10),
        (11, 11),
        (14, None),
    ]
    assert waiting(ends) == [
        ("drift:price", "12", "twelve", None),
        ("drift:price", "13", "013", None),
        ("not_negative", "15", "-1", None),
    ]
    assert held(ends) == [("price", "retyped", "text", False)]
    assert columns(ends)[-2:] == [("price", "integer"), ("updated_at", "timestamp with time zone")]
    found = await reconcile(ends, table)
    assert (found.result, found.quarantined) == (
        "match",
        3 if table.keys else 0 if found.pending else found.quarantined,
    )
    ends.source("update prices set price = '13', updated_at = now() where id = 13; delete from prices where id = 12")
    ends.source("alter table prices alter column price type int using price::int")
    await ends.load(table)
    assert [row[0] for row in waiting(ends)] == ["not_negative"]
    assert ends.raw("select price from raw_shop.prices where id = 13") == [(13,)]


async def test_the_threshold_of_the_table_holds_for_them(ends: TwoEnds) -> None:
    """A new column with a default has a value in every row: nothing is published, and the change is recorded."""
    table = replace(WAYS["replace"], max_quarantined=0.5)
    await ends.load(table)
    ends.source("alter table prices add column note text default 'x'")

    with pytest.raises(DataRefused, match=r"10 of 10 rows break a rule \(drift:note: 10\), 5 are tolerated"):
        await ends.load(table)

    assert waiting(ends) == []
    assert held(ends) == [("note", "added", "text", False)]


async def test_evolving_after_all_takes_in_the_column_and_the_rows_that_waited(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("alter table prices add column note text; insert into prices (id, note) values (11, 'x')")
    await ends.load(PRICES)

    await ends.load(replace(PRICES, on_drift="evolve"))

    assert (waiting(ends), ends.same("prices", "id, price, note")) == ([], True)
    assert held(ends) == [("note", "added", "text", False), ("note", "added", "text", True)]


async def test_a_dropped_column_is_null_in_new_rows_and_is_read_again_when_it_returns(ends: TwoEnds) -> None:
    table = replace(PRICES, rules=())
    await ends.load(table)
    ends.source("alter table prices drop column price; insert into prices (id) values (11)")
    for _ in range(2):
        await ends.load(table)
    assert ends.raw("select price from raw_shop.prices where id > 9 order by id") == [(10,), (None,)]
    assert held(ends) == [("price", "dropped", None, False)]
    ends.source("alter table prices add column price int; update prices set price = 5")

    result = await ends.load(table)

    assert (result.strategy, result.schema_changes) == ("reload", ("price returned",))
    assert ends.same("prices", "id, price")
    assert (await ends.load(table)).strategy == "merge"


async def test_a_renamed_column_is_never_guessed(ends: TwoEnds) -> None:
    table = replace(PRICES, rules=())
    await ends.load(table)
    ends.source("alter table prices rename column price to amount; update prices set updated_at = now() where id < 3")

    result = await ends.load(table)

    assert result.counts.rows_quarantined == 2
    assert held(ends) == [("amount", "added", "integer", False), ("price", "dropped", None, False)]
    assert ends.raw("select count(*) from raw_shop.prices where price = id") == [(10,)]


@pytest.mark.parametrize("column", ["id", "updated_at"])
async def test_a_key_or_cursor_of_another_type_stops_the_load(ends: TwoEnds, column: str) -> None:
    """Rows are matched and found by them."""
    await ends.load(PRICES)
    ends.source(f"alter table prices alter column {column} drop default, alter column {column} type text")

    with pytest.raises(SchemaDrift, match=f"column {column} is now text at the source"):
        await ends.load(PRICES)

    assert held(ends) == [(column, "retyped", "text", False)]


async def test_a_backfill_and_a_repair_hold_back_what_a_load_would(ends: TwoEnds) -> None:
    ends.source("update prices set updated_at = '2024-01-15'")
    await ends.load(PRICES)
    ends.source("alter table prices add column note text, alter column price type text")
    ends.source("update prices set price = 'x' where id = 1; update prices set note = 'n', price = 7 where id = 2")
    ends.source("update prices set price = '30' where id = 3")

    found = await reconcile(ends, PRICES)
    assert found.note == "not compared, because missing in raw or of another type there: price, note"
    source = Database("shop", connection="shop", tables=[PRICES])
    opened = ends.raw(
        "insert into ops.backfills (source_system, table_name, column_name, every, first_day, last_day) "
        "values ('shop', 'prices', 'updated_at', 'month', '2024-01-01', '2024-01-31') returning backfill_id"
    )[0][0]
    january = Partition(date(2024, 1, 1), date(2024, 2, 1))
    result = await backfill_partition(
        Ends(ends.warehouse_address, ends.shop_address, source, PRICES), "updated_at", january, opened
    )

    assert (result.counts.rows_quarantined, result.counts.rows_updated) == (2, 1)
    assert ends.raw("select id, price from raw_shop.prices where id < 4 order by id") == [(1, 1), (2, 2), (3, 30)]
    ends.raw("delete from raw_shop.prices where id in (1, 5)")
    ends.source("update prices set price = 'y' where id = 1")
    assert (await reconcile(ends, PRICES, repair=True)).result == "match"
    assert ends.raw("select id, price from raw_shop.prices where id in (1, 5)") == [(5, 5)]
    assert waiting(ends) == [("drift:price", "1", "y", None), ("drift:note", "2", "7", "n")]


# Of a column's new type: values that fit raw's type, and values that do not.
EXACT = {
    ("numeric(12,2)", "integer"): (["12.00", "-3"], ["12.5", "3000000000"]),
    ("bigint", "integer"): (["12"], ["3000000000"]),
    ("numeric", "numeric(6,2)"): (["1.5", "1.50", "9999.99", "NaN"], ["1.005", "10000", "Infinity"]),
    ("double precision", "numeric"): (["0.1", "1e300", "NaN"], []),
    ("double precision", "real"): (["0.5", "Infinity"], ["0.30000000000000004", "1e300", "16777217"]),
    ("numeric", "double precision"): (["0.1"], ["0.12345678901234567890"]),
    ("text", "integer"): (["12", "-1"], ["012", " 12", "+1", "12.0", "x", ""]),
    ("text", "numeric(6,2)"): (["12.5", "12.50"], ["12.500", "012.5", "1e1"]),
    ("text", "boolean"): (["true"], ["t", "yes", "1"]),
    ("text", "date"): (["2024-02-29"], ["2024-02-30", "2024-2-9", "today", "infinity "]),
    ("text", "timestamp with time zone"): (["2024-02-29 10:00:00+00"], ["2024-02-29 10:00:00", "2024-02-29"]),
    ("text", "character varying(3)"): (["abc", "a "], ["abcd", "abc "]),
    ("text", "jsonb"): (['{"a": 1}'], ['{"a":1}', "{"]),
    ("integer", "boolean"): ([], ["1", "2"]),
    ("timestamp without time zone", "date"): (["2024-02-29 00:00:00", "infinity"], ["2024-02-29 10:00:00"]),
    ("date", "timestamp without time zone"): (["2024-02-29", "-infinity"], []),
    ("date", "timestamp with time zone"): ([], ["2024-02-29"]),
    ("timestamp without time zone", "timestamp with time zone"): ([], ["2024-02-29 00:00:00"]),
    ("timestamp(6) with time zone", "timestamp(0) with time zone"): (
        ["2024-02-29 10:00:00+00"],
        ["2024-02-29 10:00:00.5+00"],
    ),
    ("integer[]", "bigint[]"): (["{1,2}"], []),
    ("text[]", "numeric(6,2)[]"): (["{1.50}"], ["{1.5}", "{x}"]),
}  # fmt: skip


def test_only_values_that_lose_nothing_are_taken_for_raws(warehouse: TestDatabase) -> None:
    with psycopg.connect(warehouse.url("loader"), options="-c timezone=UTC") as connection:
        for place, ((new, old), values) in enumerate(EXACT.items()):
            turned, name = exact("v", new, old), f"landing.v{place}"
            connection.execute(f"create table {name} as select null::{new} as v")
            for wanted, texts in zip((True, False), values, strict=True):
                for text in texts:
                    connection.execute(f"update {name} set v = %s", [text])
                    (fits,) = connection.execute(f"select {turned.fits} from {name}").fetchone() or (None,)
                    assert fits is wanted, (new, old, text)
                    connection.execute(f"select case when {turned.fits} then {turned.value} end from {name}")
            connection.execute(f"update {name} set v = null")
            assert connection.execute(f"select {turned.fits}, {turned.value} from {name}").fetchone() == (True, None)
