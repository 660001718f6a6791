"""The shop at day one and after day two. Most tests look at the first 60 households: 35,000 real lines."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from demo.dataset import read_array
from demo.day_two import (
    DELETED_PRODUCT,
    FIRST_BROKEN_LINE,
    IMPOSSIBLE_DATES,
    MALFORMED_EMAILS,
    MOVED_HOUSEHOLD,
    RENAMED_PRODUCT,
    UNKNOWN_PRODUCT,
    apply_day_two,
)
from demo.sales import LAST_DAY_US, read_sales
from demo.shop import load_day_one
from flows.values.errors import ConfigurationError
from tests.conftest import TestCluster, TestDatabase, copy_of, fresh_shop

# One worker: the small shops are made once for each worker that asks.
pytestmark = pytest.mark.xdist_group("shop")

HOUSEHOLDS = 60
TABLES = ("households", "household_events", "stores", "products", "baskets", "basket_items")
KEYS = {
    "households": "household_id",
    "stores": "store_id",
    "products": "product_id",
    "baskets": "basket_id",
    "basket_items": "basket_item_id",
}


@dataclass(frozen=True)
class Loaded:
    """A shop of 60 households, and what loading it told."""

    shop: TestDatabase
    counts: Mapping[str, int]


@pytest.fixture(scope="module")
def at_day_one(cluster: TestCluster) -> Iterator[Loaded]:
    """Tests look, they do not touch; who touches takes `day_one`."""
    with fresh_shop(cluster) as shop:
        yield Loaded(shop, load_day_one(shop.url("app"), households=HOUSEHOLDS))


@pytest.fixture
def day_one(at_day_one: Loaded) -> Iterator[TestDatabase]:
    """The shop at day one, of this test's own."""
    with copy_of(at_day_one.shop) as shop:
        yield shop


@pytest.fixture(scope="module")
def after_day_two(at_day_one: Loaded) -> Iterator[TestDatabase]:
    """The shop after day two. Tests look, they do not touch."""
    with copy_of(at_day_one.shop) as shop:
        apply_day_two(shop.url("app"), shop.url("admin"))
        yield shop


def test_the_whole_shop_holds_the_real_data_to_the_cent_on_both_days(shop: TestDatabase) -> None:
    """The only test that loads all 1.47 million lines."""
    counts = load_day_one(shop.url("app"))
    cents = np.rint(read_array("transactions", "sales_value") * 100).astype(int)
    before_last_day = read_array("transactions", "transaction_timestamp") < LAST_DAY_US
    late = read_sales()
    late = late.where(late.arriving_late())
    with psycopg.connect(shop.url("extractor"), autocommit=True) as extractor:
        lines, total = _totals(extractor)
        assert lines == counts["basket_items"] == before_last_day.sum() - len(late)
        assert total == Decimal(int(cents[before_last_day].sum() - late.sales_value.sum())) / 100
        held = [extractor.execute(f"select count(*) from {table}".encode()).fetchone() for table in TABLES]
        assert held == [(counts[table],) for table in TABLES]
        unknown = extractor.execute("select count(*) from products where department = 'UNKNOWN'").fetchone()
        assert unknown == (17,)

        day_one = _lines(extractor)
        changes = apply_day_two(shop.url("app"), shop.url("admin"))
        day_two = _lines(extractor)
        removed = {line: amount for line, amount in day_one.items() if line not in day_two}
        told = Counter[tuple[str, str]]()
        for change in changes:
            told[change.what, change.table] += change.rows
        lines, total = _totals(extractor)

    assert told["deleted", "basket_items"] == len(removed) > 25
    assert told["price corrected", "basket_items"] == 40
    assert told["sold on the last day", "basket_items"] == 6080
    assert told["stamped in the past", "basket_items"] == 5
    broken = 3 * Decimal("1.00") + 2 * Decimal("2.50") + 2 * Decimal("3.99")
    corrections = Decimal("0.10") * 40
    # No line is both corrected and deleted in the whole shop, so the deleted ones still have their real prices.
    assert total == Decimal(int(cents.sum())) / 100 - sum(removed.values()) + corrections + broken
    assert lines == len(cents) - len(removed) + 7


def test_day_two_touches_the_rows_it_tells_of_and_no_others(day_one: TestDatabase) -> None:
    with psycopg.connect(day_one.url("admin"), autocommit=True) as admin:
        before = _contents(admin)
        changes = apply_day_two(day_one.url("app"), day_one.url("admin"))
        after = _contents(admin)

    told: Counter[tuple[str, str]] = Counter()
    for change in changes:
        told[change.what, change.table] += change.rows
    appeared, vanished = Counter[str](), Counter[str]()
    changed: dict[str, dict[int, set[str]]] = {table: {} for table in KEYS}
    for table in KEYS:
        appeared[table] = len(after[table].keys() - before[table].keys())
        vanished[table] = len(before[table].keys() - after[table].keys())
        for key in before[table].keys() & after[table].keys():
            new, old = after[table][key], before[table][key]
            if fields := {field for field in old if new[field] != old[field]}:
                changed[table][key] = fields

    assert vanished == Counter(
        {table: told["deleted", table] for table in ("baskets", "basket_items", "products") if told["deleted", table]}
    )
    assert appeared["basket_items"] == sum(
        told[what, "basket_items"]
        for what in (
            "sold on the last day", "arrived late", "stamped in the past", "broken: negative quantity",
            "broken: unknown product", "broken: impossible date",
        )
    )  # fmt: skip
    assert appeared["baskets"] == sum(
        told[what, "baskets"] for what in ("sold on the last day", "arrived late", "broken: impossible date")
    )
    assert appeared["households"] == appeared["products"] == 0
    assert len(changed["basket_items"]) == told["price corrected", "basket_items"] == 40
    assert all(fields == {"sales_value", "updated_at"} for fields in changed["basket_items"].values())
    assert changed["products"] == {RENAMED_PRODUCT: {"product_type", "updated_at"}}
    assert changed["households"] == {
        MOVED_HOUSEHOLD: {"income_band", "updated_at"},
        **{number: {"email", "updated_at"} for number in MALFORMED_EMAILS},
    }
    assert changed["baskets"] == changed["stores"] == {}

    assert before["households"][MOVED_HOUSEHOLD]["income_band"] == "35-49K"
    assert after["households"][MOVED_HOUSEHOLD]["income_band"] == "75-99K"
    assert after["products"][RENAMED_PRODUCT]["product_type"] == "BANANAS - LOOSE"
    assert DELETED_PRODUCT in before["products"]
    assert {number: after["households"][number]["email"] for number in MALFORMED_EMAILS} == MALFORMED_EMAILS


def test_day_two_breaks_records_in_the_ways_it_tells_of(after_day_two: TestDatabase) -> None:
    with psycopg.connect(after_day_two.url("extractor"), autocommit=True) as extractor:
        negative = extractor.execute("select count(*) from basket_items where quantity < 0").fetchone()
        orphans = extractor.execute("""
            select count(*), min(product_id) from basket_items where product_id not in (select product_id from products)
        """).fetchone()
        impossible = extractor.execute("""
            select basket.basket_id, basket.sold_at::text, count(*)
            from baskets as basket inner join basket_items using (basket_id)
            where basket.sold_at >= '2100-01-01'
            group by basket.basket_id order by basket.basket_id
        """).fetchall()
        twice = extractor.execute("""
            select count(*) from (select from basket_items group by basket_id, product_id having count(*) > 1) as twice
        """).fetchone()

    assert negative == (3,)
    assert orphans == (2, UNKNOWN_PRODUCT)
    assert [(basket, lines) for basket, _, lines in impossible] == [(basket, 1) for basket in IMPOSSIBLE_DATES]
    assert impossible[0][1] == "infinity"
    assert twice == (0,)


def test_five_lines_of_day_two_are_stamped_below_what_was_already_read(day_one: TestDatabase) -> None:
    """A cursor without a lag would never see them."""
    apply_day_two(day_one.url("app"), day_one.url("admin"))
    with psycopg.connect(day_one.url("extractor"), autocommit=True) as extractor:
        stamped = extractor.execute("""
            select count(*) from basket_items
            where updated_at between now() - interval '6 minutes' and now() - interval '5 minutes'
        """).fetchone()

    assert stamped == (5,)


def test_the_new_column_is_filled_without_a_new_updated_at(after_day_two: TestDatabase) -> None:
    with psycopg.connect(after_day_two.url("extractor"), autocommit=True) as extractor:
        tiers = extractor.execute("""
            select loyalty_tier, count(*), max(updated_at) < '2018-01-01' from households
            where loyalty_tier is not null group by loyalty_tier order by loyalty_tier
        """).fetchall()

    assert tiers == [("gold", 1, True), ("silver", 5, True)]


def test_loading_day_one_again_takes_day_two_back(at_day_one: Loaded, day_one: TestDatabase) -> None:
    with psycopg.connect(day_one.url("extractor"), autocommit=True) as extractor:
        before, keys = _fingerprints(extractor), _keys(extractor)
        apply_day_two(day_one.url("app"), day_one.url("admin"))
        assert _fingerprints(extractor) != before
        again = load_day_one(day_one.url("app"), households=HOUSEHOLDS)
        after, keys_after = _fingerprints(extractor), _keys(extractor)

    assert again == at_day_one.counts
    assert after == before
    assert keys_after == keys


def test_the_bulk_load_leaves_the_keys_and_indexes_that_the_definitions_name(shop: TestDatabase) -> None:
    """The fixture's shop was made from demo/shop.sql alone; the load takes keys off and must put all of them back."""
    with psycopg.connect(shop.url("admin"), autocommit=True) as admin:
        defined = _keys(admin)
        load_day_one(shop.url("app"), households=HOUSEHOLDS)
        assert _keys(admin) == defined
    assert any("FOREIGN KEY (basket_id)" in key for key in defined)


def test_a_line_of_a_basket_that_does_not_exist_is_refused(at_day_one: Loaded) -> None:
    statement = """
        insert into basket_items (basket_item_id, basket_id, product_id, quantity, sales_value)
        values (%s, 5, %s, 1, 1.00)
    """
    with (
        psycopg.connect(at_day_one.shop.url("app")) as app,
        pytest.raises(psycopg.errors.ForeignKeyViolation, match="basket_items_basket_id_fkey"),
    ):
        app.execute(statement, [FIRST_BROKEN_LINE, RENAMED_PRODUCT])


def test_households_date_from_their_first_purchase_and_are_logged(at_day_one: Loaded) -> None:
    with psycopg.connect(at_day_one.shop.url("extractor"), autocommit=True) as extractor:
        odd = extractor.execute("""
            select count(*) from households
            where updated_at <> (select min(sold_at) from baskets where household_id = households.household_id)
        """).fetchone()
        logged = extractor.execute("""
            select count(*), count(distinct household_id)
            from household_events inner join households using (household_id)
            where kind = 'registered' and occurred_at = updated_at
        """).fetchone()

    assert odd == (0,)
    assert logged == (HOUSEHOLDS, HOUSEHOLDS)


def test_the_log_of_households_tells_what_changed_but_never_a_contact(shop: TestDatabase) -> None:
    with psycopg.connect(shop.url("app"), autocommit=True) as app:
        app.execute("update households set email = 'new@example.com', income_band = '250K+' where household_id = 20")
        app.execute("update households set updated_at = now() where household_id = 20")
        details = app.execute("""
            select details from household_events where household_id = 20 and kind = 'changed'
        """).fetchall()

    assert len(details) == 1
    assert details[0][0]["fields"] == ["email", "income_band"]
    assert details[0][0]["new"] == {"income_band": "250K+"}
    assert details[0][0]["old"].keys() == {"income_band"}


def test_day_two_is_refused_a_second_time(after_day_two: TestDatabase) -> None:
    with pytest.raises(ConfigurationError, match=r"already applied.*load day one first"):
        apply_day_two(after_day_two.url("app"), after_day_two.url("admin"))


def test_day_two_is_refused_on_an_empty_shop(shop: TestDatabase) -> None:
    with psycopg.connect(shop.url("app"), autocommit=True) as app:
        app.execute("truncate households cascade")

    with pytest.raises(ConfigurationError, match="the shop is empty"):
        apply_day_two(shop.url("app"), shop.url("admin"))


def _totals(connection: psycopg.Connection[Any]) -> tuple[int, Decimal]:
    lines, total = connection.execute("select count(*), sum(sales_value) from basket_items").fetchall()[0]
    return lines, total


def _lines(connection: psycopg.Connection[Any]) -> dict[int, Decimal]:
    return dict(connection.execute("select basket_item_id, sales_value from basket_items").fetchall())


def _contents(connection: psycopg.Connection[Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Every row of every table with a key of its own, by key. As JSON, which can hold an infinite date."""
    contents = {}
    for table, key in KEYS.items():
        rows = connection.execute(sql.SQL("select to_jsonb(held) from {} as held").format(sql.Identifier(table)))
        contents[table] = {row[0][key]: row[0] for row in rows}
    return contents


def _fingerprints(connection: psycopg.Connection[Any]) -> dict[str, tuple[Any, ...]]:
    found = {}
    for table in TABLES:
        statement = "select count(*), sum(hashtextextended(held::text, 0)) from {} as held"
        found[table] = connection.execute(sql.SQL(statement).format(sql.Identifier(table))).fetchall()[0]
    return found


def _keys(connection: psycopg.Connection[Any]) -> set[str]:
    rows = connection.execute("""
        select conrelid::regclass || ': ' || conname || ' ' || pg_get_constraintdef(oid)
        from pg_constraint where connamespace = 'public'::regnamespace
        union all
        select indexdef from pg_indexes where schemaname = 'public'
    """)
    return {row[0] for row in rows}
