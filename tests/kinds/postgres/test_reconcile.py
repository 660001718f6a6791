"""Both ends compared by content: every kind of difference injected, told apart, repaired, and nothing else touched."""

from typing import Any

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Merge, Replace, Rule, Sequence
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.compare import both_ends
from flows.kinds.postgres.table import describe as describe_source
from flows.sources.shop import shop as declared_shop
from flows.state.overview import read_overview
from flows.state.reconciliations import Reconciliation
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.kinds.loading import at, change, cursor, load, loads, raw_rows, rows


async def reconcile(
    warehouse: TestDatabase,
    shop: TestDatabase,
    table: str | Table,
    *,
    repair: bool = False,
    source: Database = declared_shop,
) -> Reconciliation:
    declared = source.table(table) if isinstance(table, str) else table
    return await compare_table(at(warehouse, "loader"), at(shop, "extractor"), source, declared, repair=repair)


def kinds(result: Reconciliation) -> dict[str, int]:
    """The categories that hold any row."""
    names = ("missing", "extra", "different", "duplicate", "quarantined", "pending")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


def in_raw(warehouse: TestDatabase, *statements: str) -> None:
    """Damage raw, which the platform itself never does."""
    change(warehouse, *statements, role="loader")


def batches(warehouse: TestDatabase, table: str, key: str) -> dict[Any, int]:
    found = rows(warehouse, f"select {key} as key, _batch_id from raw_shop.{table}")
    return {row["key"]: row["_batch_id"] for row in found}


@pytest.mark.parametrize("table", ["households", "household_events", "stores", "products", "baskets", "basket_items"])
async def test_a_table_just_loaded_is_equal(warehouse: TestDatabase, shop: TestDatabase, table: str) -> None:
    loaded = await load(warehouse, shop, table)
    result = await reconcile(warehouse, shop, table)
    assert (result.result, result.differences, result.method) == ("match", 0, "content")
    assert result.source_rows == result.raw_rows == loaded.counts.rows_read


async def test_every_kind_of_damage_is_found_and_mended_and_no_other_row_is_touched(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "basket_items")
    before = batches(warehouse, "basket_items", "basket_item_id")
    moved_to = cursor(warehouse, "basket_items")
    in_raw(
        warehouse,
        "delete from raw_shop.basket_items where basket_item_id in (11, 12)",
        "update raw_shop.basket_items set sales_value = sales_value + 0.01 where basket_item_id = 13",
        "update raw_shop.basket_items set coupon_disc = null where basket_item_id = 21",
        "update raw_shop.basket_items set _deleted_at = now() where basket_item_id = 22",
        "insert into raw_shop.basket_items select 7777, basket_id, product_id, quantity, sales_value, retail_disc, "
        "coupon_disc, coupon_match_disc, updated_at, _extracted_at, _source_system, _batch_id "
        "from raw_shop.basket_items where basket_item_id = 23",
    )
    damaged = raw_rows(warehouse, "basket_items")

    found = await reconcile(warehouse, shop, "basket_items")

    assert kinds(found) == {"missing": 3, "extra": 1, "different": 2}
    assert found.result == "different"
    assert {kind: sorted(keys) for kind, keys in found.keys.items()} == {
        "missing": [["11"], ["12"], ["22"]],
        "extra": [["7777"]],
        "different": [["13"], ["21"]],
    }
    assert raw_rows(warehouse, "basket_items") == damaged, "without repair nothing is written"
    assert len(loads(warehouse)) == 1

    mended = await reconcile(warehouse, shop, "basket_items", repair=True)

    assert (mended.result, kinds(mended), mended.repaired) == ("match", {}, 6)
    after = batches(warehouse, "basket_items", "basket_item_id")
    touched = {key for key in after if after[key] != before.get(key)}
    assert touched == {11, 12, 13, 21, 22, 7777}
    (tombstone,) = rows(warehouse, "select basket_item_id from raw_shop.basket_items where _deleted_at is not null")
    assert tombstone["basket_item_id"] == 7777
    assert cursor(warehouse, "basket_items") == moved_to, "a repair moves no cursor"
    repair = loads(warehouse)[-1]
    assert (repair["strategy"], repair["status"], repair["reconciliation"]) == ("repair", "published", "match")
    assert (repair["rows_read"], repair["rows_inserted"], repair["rows_updated"], repair["rows_deleted"]) == (
        5,
        2,
        3,
        1,
    )
    assert (await load(warehouse, shop, "basket_items")).counts.changed == 0
    recorded = rows(warehouse, "select result, repaired, keys from ops.reconciliations order by reconciliation_id")
    assert [(row["result"], row["repaired"]) for row in recorded] == [("different", 0), ("different", 0), ("match", 6)]
    assert recorded[0]["keys"]["extra"] == [["7777"]]


async def test_rows_the_next_load_will_read_wait_and_are_no_difference(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "basket_items")
    change(
        shop,
        "update basket_items set sales_value = 0.01, updated_at = now() where basket_item_id = 31",
        "insert into basket_items values (90001, 31000001, 25039, 1, 1, 0, 0, 0, now())",
    )
    result = await reconcile(warehouse, shop, "basket_items", repair=True)
    assert (result.result, kinds(result)) == ("match", {"pending": 2})
    assert len(loads(warehouse)) == 1, "what the next load brings is not repaired"
    await load(warehouse, shop, "basket_items")
    assert kinds(await reconcile(warehouse, shop, "basket_items")) == {}


async def test_a_change_that_moves_no_cursor_is_found_and_mended(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """What no load by cursor can see: the reason to compare content and not only keys."""
    await load(warehouse, shop, "basket_items")
    change(shop, "update basket_items set sales_value = 123.45 where basket_item_id = 32")
    assert (await load(warehouse, shop, "basket_items")).counts.reconciliation == "match"
    assert kinds(await reconcile(warehouse, shop, "basket_items")) == {"different": 1}
    assert (await reconcile(warehouse, shop, "basket_items", repair=True)).result == "match"
    (row,) = rows(warehouse, "select sales_value::text as v from raw_shop.basket_items where basket_item_id = 32")
    assert row["v"] == "123.45"


async def test_rows_in_quarantine_are_no_difference_until_they_are_mended_unseen(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "basket_items")
    change(
        shop, "update basket_items set quantity = -1, updated_at = now() - interval '1 day' where basket_item_id = 33"
    )
    change(shop, "insert into basket_items values (90002, 31000001, 25039, -5, 1, 0, 0, 0, now() - interval '1 day')")
    found = await reconcile(warehouse, shop, "basket_items", repair=True)
    assert kinds(found) == {"quarantined": 2}
    assert found.result == "match"
    (repair,) = loads(warehouse)[1:]
    assert (repair["rows_read"], repair["rows_quarantined"], repair["reconciliation"]) == (2, 2, "match")

    change(shop, "update basket_items set quantity = 5 where basket_item_id = 90002")
    assert kinds(await reconcile(warehouse, shop, "basket_items")) == {"quarantined": 1, "missing": 1}
    assert kinds(await reconcile(warehouse, shop, "basket_items", repair=True)) == {"quarantined": 1}
    closed = rows(warehouse, "select resolution from quarantine.rows where resolved_at is not null")
    assert [row["resolution"] for row in closed] == ["fixed at the source"]


async def test_tombstones_of_rows_that_are_gone_are_no_difference(warehouse: TestDatabase, shop: TestDatabase) -> None:
    await load(warehouse, shop, "basket_items")
    change(shop, "delete from basket_items where basket_item_id in (41, 42)")
    assert kinds(await reconcile(warehouse, shop, "basket_items")) == {"extra": 2}
    await load(warehouse, shop, "basket_items")
    result = await reconcile(warehouse, shop, "basket_items")
    assert (kinds(result), result.raw_rows) == ({}, 448)


async def test_a_replaced_table_loses_what_is_gone_as_a_replace_would(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "products")
    change(shop, "insert into products (product_id) values (1)", "update products set brand = 'Private'")
    in_raw(warehouse, "update raw_shop.products set product_id = 99 where product_id = 25001")
    result = await reconcile(warehouse, shop, "products")
    assert result.extra == 1
    assert result.missing == 2
    assert "without a cursor" in str(result.note)
    assert (await reconcile(warehouse, shop, "products", repair=True)).result == "match"
    assert rows(warehouse, "select from raw_shop.products where product_id = 99") == []


async def test_an_appended_row_that_changed_is_a_difference_since_no_load_would_write_it_again(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "household_events")
    in_raw(warehouse, "update raw_shop.household_events set kind = 'lost' where event_id in (1, 2)")
    change(shop, "update households set age_band = 'x' where household_id = (select min(household_id) from households)")
    assert kinds(await reconcile(warehouse, shop, "household_events")) == {"different": 2, "pending": 1}
    assert kinds(await reconcile(warehouse, shop, "household_events", repair=True)) == {"pending": 1}


async def test_a_table_never_loaded_is_not_called_different(warehouse: TestDatabase, shop: TestDatabase) -> None:
    result = await reconcile(warehouse, shop, "stores", repair=True)
    assert (result.result, result.agrees) == ("not_compared", True)


async def test_a_column_that_raw_does_not_have_yet_is_left_to_the_next_load(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """A repair that added it would keep the next load from looking for its values in all other rows."""
    await load(warehouse, shop, "households")
    change(shop, "alter table households add column loyalty_tier text", "update households set loyalty_tier = 'gold'")
    in_raw(warehouse, "update raw_shop.households set email = 'x' where household_id = (select min(household_id) "
           "from raw_shop.households)")  # fmt: skip
    result = await reconcile(warehouse, shop, "households")
    assert kinds(result) == {"different": 1}
    assert "loyalty_tier" in str(result.note)
    assert (await reconcile(warehouse, shop, "households", repair=True)).result == "match"
    assert (await load(warehouse, shop, "households")).strategy == "reload"
    assert rows(warehouse, "select from raw_shop.households where loyalty_tier is null") == []


async def test_a_table_without_a_key_is_compared_as_a_whole(warehouse: TestDatabase, shop: TestDatabase) -> None:
    change(shop, "create table keyless (a int, b text)", "insert into keyless values (1, 'x'), (1, 'x'), (2, null)")
    table = Table("keyless", load=Replace())
    source = Database("shop", connection="shop", tables=[table])
    await load(warehouse, shop, table, source)
    assert (await reconcile(warehouse, shop, table, source=source)).result == "match"
    in_raw(warehouse, "update raw_shop.keyless set b = '' where b is null")
    result = await reconcile(warehouse, shop, table, source=source, repair=True)
    assert (result.result, result.method, result.differences) == ("different", "content without key", 0)
    in_raw(warehouse, "delete from raw_shop.keyless where a = 1")
    assert kinds(await reconcile(warehouse, shop, table, source=source)) == {"missing": 2}


async def test_appends_without_a_key_are_compared_up_to_their_cursor(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    change(shop, "create table log (n bigint, b text)", "insert into log select n, 'x' from generate_series(1, 9) as n")
    table = Table("log", load=Append(), cursor=Sequence("n"))
    source = Database("shop", connection="shop", tables=[table])
    await load(warehouse, shop, table, source)
    change(shop, "insert into log values (10, 'y')")
    result = await reconcile(warehouse, shop, table, source=source)
    assert (result.result, kinds(result)) == ("match", {"pending": 1})


async def test_keys_of_several_columns_with_separators_in_them_are_repaired(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    change(
        shop,
        "create table pairs (a text, b timestamptz, v int, primary key (a, b))",
        "insert into pairs select 'it''s, (' || n || E')\\\\ \\n\"', now() + n * interval '1 h', n "
        "from generate_series(1, 20) as n",
    )
    table = Table("pairs", key=("a", "b"), load=Merge())
    source = Database("shop", connection="shop", tables=[table])
    await load(warehouse, shop, table, source)
    in_raw(warehouse, "delete from raw_shop.pairs where v = 3", "update raw_shop.pairs set v = 0 where v = 4")
    change(shop, "delete from pairs where v = 5")
    assert kinds(await reconcile(warehouse, shop, table, source=source)) == {"missing": 1, "different": 1, "extra": 1}
    assert (await reconcile(warehouse, shop, table, source=source, repair=True)).result == "match"


async def test_rows_without_their_key_stand_in_quarantine(warehouse: TestDatabase, shop: TestDatabase) -> None:
    change(shop, "create table holes (k text, v int)", "insert into holes values (null, 1), ('a', 2), ('', 3)")
    table = Table("holes", key="k", load=Merge(), max_quarantined=1.0)
    source = Database("shop", connection="shop", tables=[table])
    await load(warehouse, shop, table, source)
    assert kinds(await reconcile(warehouse, shop, table, source=source)) == {"quarantined": 1}


async def test_a_key_repeated_at_the_source_never_agrees_whichever_row_was_kept(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    change(shop, "create table twice (k int, v int)", "insert into twice values (1, 1), (1, 2), (2, 3)")
    table = Table("twice", key="k", load=Merge(), max_quarantined=1.0, on_duplicate="newest")
    source = Database("shop", connection="shop", tables=[table])
    await load(warehouse, shop, table, source)
    result = await reconcile(warehouse, shop, table, source=source, repair=True)
    assert (result.result, result.source_rows, result.raw_rows) == ("different", 3, 2)
    assert (kinds(result), result.keys["duplicate"]) == ({"duplicate": 1}, [["1"]])


async def test_a_repair_may_not_fill_quarantine_beyond_what_the_table_tolerates(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    table = Table("basket_items", key="basket_item_id", load=Merge(), rules=(Rule("q", "quantity >= 0"),))
    source = Database("shop", connection="shop", tables=[table])
    await load(warehouse, shop, table, source)
    change(shop, "update basket_items set quantity = -1 where basket_item_id = 43")
    with pytest.raises(Exception, match="1 of 1 rows break a rule"):
        await reconcile(warehouse, shop, table, source=source, repair=True)
    assert loads(warehouse)[-1]["status"] == "refused"


async def test_a_load_that_publishes_between_the_two_snapshots_causes_no_alarm(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing takes no lock. With the snapshots in the other order, raw would hold rows the source does not."""
    await load(warehouse, shop, "basket_items")

    async def describe_after_a_load(*arguments: Any) -> Any:
        change(
            shop,
            "insert into basket_items values (90003, 31000001, 25039, 1, 1, 0, 0, 0, now())",
            "update basket_items set sales_value = 0.02, updated_at = now() where basket_item_id = 51",
        )
        await load(warehouse, shop, "basket_items")
        return await describe_source(*arguments)

    monkeypatch.setattr(both_ends, "describe", describe_after_a_load)
    result = await reconcile(warehouse, shop, "basket_items")
    assert (result.result, kinds(result)) == ("match", {"pending": 2})


async def test_a_repair_does_not_pass_for_a_load_in_the_status(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """It read one row of many: the table is neither fresher for it, nor one row long."""
    await load(warehouse, shop, "basket_items")
    in_raw(warehouse, "delete from raw_shop.basket_items where basket_item_id = 11")
    await reconcile(warehouse, shop, "basket_items", repair=True)
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        (line,) = (await read_overview(connection)).tables
    assert (line["raw_rows"], line["reconciliation"]) == (450, "match")
