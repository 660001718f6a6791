"""Running again changes nothing: not a row, not a time, not a batch number."""

import pytest

from flows.sources.shop import shop as declared_shop
from flows.values.errors import DataRefused
from tests.conftest import TestDatabase
from tests.kinds.loading import CHANGES, change, landing_tables, load, open_quarantine, raw_content, raw_rows, rows

TABLES = [table.name for table in declared_shop.tables]


async def test_running_all_tables_again_writes_nothing(warehouse: TestDatabase, shop: TestDatabase) -> None:
    for table in TABLES:
        await load(warehouse, shop, table)
    change(shop, *CHANGES)
    for table in TABLES:
        await load(warehouse, shop, table)
    before = {table: raw_rows(warehouse, table) for table in TABLES}

    again = [await load(warehouse, shop, table) for table in TABLES]

    assert {table: raw_rows(warehouse, table) for table in TABLES} == before
    assert [result.counts.changed for result in again] == [0] * len(TABLES)
    assert {result.counts.reconciliation for result in again} == {"match"}
    assert landing_tables(warehouse) == []


async def test_everything_the_source_holds_is_in_raw_or_in_quarantine(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """Rows gone from the source are marked and keep their last values; a bad version never replaces a good one."""
    await load(warehouse, shop, "basket_items")
    change(shop, *CHANGES)

    result = await load(warehouse, shop, "basket_items")

    counts = result.counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_deleted) == (60, 150, 150)
    assert counts.rows_quarantined == 2
    assert counts.source_rows == 450 + 61 - 150 == (counts.raw_rows or 0) + (counts.quarantine_rows or 0)
    assert counts.quarantine_rows == 1  # of line 22 an older, good version stays in raw
    live = {row["id"] for row in rows(warehouse, "select basket_item_id as id from raw_shop.basket_items "
            "where _deleted_at is null")}  # fmt: skip
    held = {row["id"] for row in rows(shop, "select basket_item_id as id from basket_items")}
    quarantined = {row["row_key"]["basket_item_id"] for row in open_quarantine(warehouse)}
    assert live | quarantined == held
    assert quarantined == {22, 99999}
    assert not [row for row in raw_content(warehouse, "basket_items") if '"quantity": -' in row]


async def test_rows_already_in_quarantine_do_not_count_against_the_threshold_again(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """When the overlap of two reads holds the bad rows and few others, their share of the read is large."""
    await load(warehouse, shop, "basket_items")
    change(shop, "update basket_items set updated_at = now() - interval '9 minutes' where basket_item_id > 40")
    change(shop, "update basket_items set quantity = -1, updated_at = now() where basket_item_id in (41, 42, 43)")
    first = await load(warehouse, shop, "basket_items")
    assert first.counts.rows_quarantined == 3
    before = raw_rows(warehouse, "basket_items"), open_quarantine(warehouse)
    change(shop, "update basket_items set updated_at = '2017-06-01' where quantity >= 0")

    second = await load(warehouse, shop, "basket_items")

    assert second.counts.rows_read == 3
    assert (raw_rows(warehouse, "basket_items"), open_quarantine(warehouse)) == before


async def test_new_bad_rows_above_the_threshold_still_stop_the_load(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "basket_items")
    before = raw_rows(warehouse, "basket_items")
    change(shop, "update basket_items set quantity = -1, updated_at = now() where basket_item_id in (41, 42)")
    change(shop, "update basket_items set sales_value = 1, updated_at = now() where basket_item_id in (51, 52)")

    with pytest.raises(DataRefused, match=r"2 of 4 rows break a rule \(quantity_not_negative: 2\), 1 are tolerated"):
        await load(warehouse, shop, "basket_items")

    assert raw_rows(warehouse, "basket_items") == before
    assert open_quarantine(warehouse) == []
    change(shop, "update basket_items set quantity = 1, updated_at = now() where quantity < 0")
    assert (await load(warehouse, shop, "basket_items")).counts.rows_updated == 4
    assert landing_tables(warehouse) == []


async def test_a_mended_row_leaves_quarantine_and_a_deleted_one_too(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "basket_items")
    change(shop, *CHANGES)
    await load(warehouse, shop, "basket_items")
    change(shop, "update basket_items set quantity = 2, updated_at = now() where basket_item_id = 22")
    change(shop, "delete from basket_items where basket_item_id = 99999")

    result = await load(warehouse, shop, "basket_items")

    assert open_quarantine(warehouse) == []
    assert result.counts.reconciliation == "match"
    ended = rows(warehouse, "select row_key ->> 'basket_item_id' as id, resolution from quarantine.rows order by 1")
    assert ended == [
        {"id": "22", "resolution": "fixed at the source"},
        {"id": "99999", "resolution": "deleted at the source"},
    ]
