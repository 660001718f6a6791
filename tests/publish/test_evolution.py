"""The source's tables change shape: raw follows where nothing is guessed, and stops where a person must look."""

from collections.abc import Sequence as SequenceOf
from typing import Any

import psycopg
import pytest

from flows.declare import Append, Merge, Replace, Sequence, Timestamp
from flows.kinds.postgres import Table
from flows.values.errors import SchemaDrift
from tests.conftest import TestDatabase
from tests.nightly import chosen
from tests.publish.two_ends import TwoEnds

PRICES = Table("prices", key="id", cursor=Timestamp("updated_at"), load=Merge())
WAYS = {
    "merge": PRICES,
    "merge without a cursor": Table("prices", key="id", load=Merge()),
    "replace": Table("prices", key="id", load=Replace()),
    "replace without a key": Table("prices", load=Replace()),
    "append": Table("prices", key="id", cursor=Sequence("id"), load=Append()),
    "append by time": Table("prices", key="id", cursor=Timestamp("updated_at"), load=Append()),
}


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create type mood as enum ('sad', 'happy');"
        "create table prices (id int primary key, price int, mood mood, updated_at timestamptz default now());"
        "insert into prices select i, i, 'sad', now() - interval '1 day' from generate_series(1, 10) as i"
    )
    return two


def changes(ends: TwoEnds) -> SequenceOf[tuple[Any, ...]]:
    return ends.raw("select column_name, change, old_type, new_type from ops.schema_changes order by change_id")


@pytest.mark.parametrize("way", chosen(WAYS, "merge", "replace without a key", "append"))
async def test_a_new_column_reaches_raw_with_its_values(ends: TwoEnds, way: str) -> None:
    """Added with a default, it has a value in every row, also in those that the cursor passed long ago."""
    await ends.load(WAYS[way])
    ends.source("alter table prices add column currency char(3) not null default 'USD'")
    result = await ends.load(WAYS[way])
    assert result.schema_changes == ("currency added",)
    assert changes(ends) == [("currency", "added", None, "character(3)")]
    assert ends.same("prices", "id, price, currency")
    assert (await ends.load(WAYS[way])).counts.changed == 0
    assert len(changes(ends)) == 1


async def test_old_rows_are_read_again_only_when_they_have_values(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("alter table prices add column note text; insert into prices (id, note) values (11, 'new')")
    assert (await ends.load(PRICES)).strategy == "merge"
    assert ends.same("prices", "id, note")


async def test_values_filled_in_without_touching_the_cursor_are_fetched(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("alter table prices add column tier text; update prices set tier = 'gold' where id = 3")
    result = await ends.load(PRICES)
    assert (result.strategy, result.counts.rows_updated) == ("reload", 1)
    assert ends.same("prices", "id, tier")


async def test_without_a_key_old_rows_keep_null_and_the_load_says_so(ends: TwoEnds) -> None:
    """Read again they could not be matched, and would stand there twice."""
    table = Table("prices", cursor=Sequence("id"), load=Append())
    await ends.load(table)
    ends.source("alter table prices add column currency text default 'USD'; insert into prices (id) values (11)")
    result = await ends.load(table)
    assert ends.raw("select currency, count(*) from raw_shop.prices group by 1 order by 1") == [("USD", 1), (None, 10)]
    assert result.warning is not None
    assert "null in new column currency" in result.warning
    assert result.counts.reconciliation == "match"


@pytest.mark.parametrize("way", chosen(WAYS, "merge without a cursor", "replace", "append by time"))
async def test_a_dropped_column_stays_in_raw_and_is_told_once(ends: TwoEnds, way: str) -> None:
    await ends.load(WAYS[way])
    ends.source("alter table prices drop column price; insert into prices (id) values (11)")
    for _ in range(2):
        await ends.load(WAYS[way])
    assert changes(ends) == [("price", "dropped", "integer", None)]
    assert ends.same("prices", "id, mood")
    kept = [] if way == "replace without a key" else [(55,)]  # there all rows are written anew
    assert ends.raw("select sum(price)::int from raw_shop.prices having sum(price) is not null") == kept


@pytest.mark.parametrize("way", chosen(WAYS, "merge", "replace without a key", "append"))
async def test_a_column_that_comes_back_is_told_and_read_again(ends: TwoEnds, way: str) -> None:
    """Raw kept its old values meanwhile; the cursor has long passed the rows."""
    ends.source("update prices set price = null where id = 1")
    await ends.load(WAYS[way])
    for value in (7, 8):
        ends.source("alter table prices drop column price")
        await ends.load(WAYS[way])
        ends.source(f"alter table prices add column price int; update prices set price = {value} where id < 5")
        result = await ends.load(WAYS[way])
        assert result.schema_changes == ("price returned",)
        assert changes(ends)[-1] == ("price", "returned", "integer", "integer")
        assert ends.same("prices", "id, price, mood")
    assert (await ends.load(WAYS[way])).schema_changes == ()
    assert [change[1] for change in changes(ends)] == ["dropped", "returned"] * 2


async def test_a_renamed_column_is_a_drop_and_an_add(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("alter table prices rename column price to amount")
    await ends.load(PRICES)
    assert sorted(changes(ends)) == [("amount", "added", None, "integer"), ("price", "dropped", "integer", None)]
    assert ends.raw("select count(*) from raw_shop.prices where amount = id and price = id") == [(10,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("alter column price type text", "price is now text at the source and integer in raw"),
        ("alter column price type numeric(10,2)", r"price is now numeric\(10,2\) .* and integer in raw"),
        ("alter column mood type text", 'mood is now text at the source and "raw_shop"."mood" in raw'),
        (
            "alter column mood type other using 'x'::other",
            'mood is now "raw_shop"."other" .* and "raw_shop"."mood" in raw',
        ),
        ("alter column price type other using 'x'::other", 'price is now "raw_shop"."other" .* and integer in raw'),
    ],
)
async def test_a_column_of_another_type_stops_the_load(ends: TwoEnds, change: str, words: str) -> None:
    await ends.load(PRICES)
    ends.source(f"create type other as enum ('x'); alter table prices {change}; insert into prices (id) values (11)")
    with pytest.raises(SchemaDrift, match=words) as refusal:
        await ends.load(PRICES)
    assert refusal.value.exit_code == 1
    assert ends.raw("select count(*) from raw_shop.prices") == [(10,)]
    assert ends.raw("select status from ops.loads order by batch_id desc limit 1") == [("refused",)]


async def test_the_way_out_of_a_drift_that_the_message_names_is_open(ends: TwoEnds) -> None:
    """ "medallion reload --recreate": the former table's index and its types are still there."""
    await ends.load(PRICES)
    for kind in ("text", "numeric"):
        ends.source(f"alter table prices alter column price type {kind} using price::{kind}")
        with pytest.raises(SchemaDrift, match="column"):
            await ends.load(PRICES)
        ends.raw(f"alter table raw_shop.prices rename to prices_before_{kind}")
        result = await ends.load(PRICES)
        assert (result.strategy, result.counts.reconciliation) == ("initial", "match")
    assert ends.same("prices", "id, price, mood")


async def test_new_labels_of_an_enum_keep_their_place(ends: TwoEnds) -> None:
    """Labels are ordered, and a query for `mood > 'sad'` must answer the same at both ends."""
    await ends.load(PRICES)
    ends.source("alter type mood add value 'glad' after 'happy'")
    ends.source("alter type mood add value 'awful' before 'sad'; alter type mood add value 'so ''so''' after 'sad'")
    ends.source("insert into prices values (11, 1, 'so ''so''')")
    result = await ends.load(PRICES)
    assert result.schema_changes == ("mood label added",) * 3
    assert ends.raw("select enum_range(null::raw_shop.mood)::text") == [("{awful,sad,\"so 'so'\",happy,glad}",)]
    assert ends.same("prices", "id, mood")
    assert [change[3] for change in changes(ends)] == ["awful", "so 'so'", "glad"]


async def test_a_renamed_label_is_a_new_label(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("alter type mood rename value 'sad' to 'blue'; update prices set updated_at = now()")
    await ends.load(PRICES)
    assert ends.same("prices", "id, mood")


async def test_columns_in_another_order_go_where_they_belong(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source(
        "alter table prices rename to old_prices;"
        "create table prices as select updated_at, mood, id, price from old_prices;"
        "update prices set updated_at = now()"
    )
    assert (await ends.load(PRICES)).counts.rows_updated == 10
    assert ends.same("prices", "id, price, mood, updated_at")
    assert changes(ends) == []


async def test_a_refused_load_leaves_the_shape_of_raw_alone(ends: TwoEnds) -> None:
    """DDL stands in the publishing transaction: what is not published does not change a column either."""
    await ends.load(WAYS["replace"])
    ends.source("alter table prices add column note text; delete from prices where id > 1")
    with pytest.raises(Exception, match="fewer than the declared share"):
        await ends.load(WAYS["replace"])
    assert ends.raw(
        "select count(*) from information_schema.columns where table_name = 'prices' and column_name = 'note'"
        " and table_schema = 'raw_shop'"
    ) == [(0,)]
    assert changes(ends) == []


def refused(ends: TwoEnds) -> SequenceOf[tuple[Any, ...]]:
    return ends.raw(
        "select column_name, change, old_type, new_type from ops.schema_changes where not applied order by change_id"
    )


@pytest.mark.parametrize("way", chosen(WAYS, "merge without a cursor", "replace", "append by time"))
async def test_a_wider_type_reaches_raw_with_its_rows(ends: TwoEnds, way: str) -> None:
    await ends.load(WAYS[way])
    ends.source("alter table prices alter column price type bigint; insert into prices values (11, 3000000000)")

    result = await ends.load(WAYS[way])

    assert result.schema_changes == ("price retyped",)
    assert changes(ends) == [("price", "retyped", "integer", "bigint")]
    assert ends.same("prices", "id, price")
    assert (await ends.load(WAYS[way])).counts.changed == 0


async def test_a_wider_type_that_views_stand_on_names_them(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.raw("create schema marts; create view marts.prices as select id, price from raw_shop.prices")
    ends.source("alter table prices alter column price type bigint")

    with pytest.raises(SchemaDrift, match=r"views read: .*marts\.prices"):
        await ends.load(PRICES)

    ends.raw("drop view marts.prices")
    await ends.load(PRICES)
    assert ends.same("prices", "id, price")


async def test_a_refused_change_is_recorded_once_and_told_apart_from_one_that_reached_raw(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    ends.source("alter table prices alter column price type text")

    for _ in range(3):
        with pytest.raises(SchemaDrift):
            await ends.load(PRICES)

    assert refused(ends) == changes(ends) == [("price", "retyped", "integer", "text")]
    ends.source("alter table prices alter column price type numeric(9, 2) using price::numeric")
    with pytest.raises(SchemaDrift):
        await ends.load(PRICES)
    assert [change[3] for change in refused(ends)] == ["text", "numeric(9,2)"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("add column note text", ("note", "added")),
        ("drop column price", ("price", "dropped")),
        ("alter column price type bigint", ("price", "retyped")),
    ],
)
async def test_frozen_columns_refuse_every_change(ends: TwoEnds, change: str, told: tuple[str, str]) -> None:
    frozen = Table("prices", key="id", cursor=Timestamp("updated_at"), load=Merge(), on_drift="freeze")
    await ends.load(frozen)
    before = ends.raw("select column_name, data_type from information_schema.columns where table_name = 'prices'")
    ends.source(f"alter table prices {change}")

    with pytest.raises(SchemaDrift, match=f"{told[0]} {told[1]}"):
        await ends.load(frozen)

    after = ends.raw("select column_name, data_type from information_schema.columns where table_name = 'prices'")
    assert after == before
    assert [one[:2] for one in refused(ends)] == [told]
    assert (await ends.load(PRICES)).counts.reconciliation == "match"


async def test_rows_that_an_append_reads_again_get_the_values_of_a_new_column(ends: TwoEnds) -> None:
    """Rows above a cursor that an open transaction holds back are read twice, and left alone the second time."""
    log = Table("log", key="id", cursor=Sequence("id"), load=Append())
    ends.source("create table log (id bigint generated always as identity primary key, v int)")
    with psycopg.connect(ends.shop.url("app")) as late:
        late.execute("insert into log (v) values (1)")
        ends.source("insert into log (v) values (2), (3)")
        await ends.load(log)
    ends.source("alter table log add column c int default 7")
    assert (await ends.load(log)).strategy == "reload", "the cursor stood nowhere yet"
    assert ends.same("log", "id, v, c")

    with psycopg.connect(ends.shop.url("app")) as late:
        late.execute("insert into log (v) values (4)")
        ends.source("insert into log (v) values (5)")
        await ends.load(log)
        late.rollback()
    ends.source(
        "alter table log add column d int; update log set d = 8 where v = 5; insert into log (v, d) values (6, 9)"
    )
    assert (await ends.load(log)).strategy == "reload"
    assert ends.same("log", "id, v, c, d")

    ends.source("alter table log add column e int; insert into log (v, e) values (7, 1)")
    assert (await ends.load(log)).strategy == "append", "only rows that raw does not have hold a value"
    assert ends.same("log", "id, v, c, d, e")
