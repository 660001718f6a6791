"""A warehouse that holds household 5 in every layer, at the doors, and in what operations remember."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from flows.privacy.erase import find_subject
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.kinds.loading import addresses, change, load

HOUSEHOLD = find_subject("household")
WORDS = ("Zqquark O'Neil", "zqquark.zero@example.com", "(513) 555-0177", "+15135550177")
KEY = "5"

# What dbt makes of raw: keys under another name, words in another form, versions, lines that know only their basket.
BUILT = """
create schema if not exists dev_ann__silver;
create table silver.household as
    select household_id, md5(household_id::text)::uuid as household_key, full_name, email,
        case when phone is not null then '+1' || regexp_replace(phone, '\\D', '', 'g') end as phone
    from raw_shop.households;
create table dev_ann__silver.household as select * from silver.household;
create table snapshots.households_snapshot as select *, full_name || ' (once)' as former from raw_shop.households;
create table silver.basket_line as select * from raw_shop.basket_items;
create table gold.dim_household as select household_key, array[full_name, 'x'] as names from silver.household;
create table gold.fct_baskets as
    select b.basket_id, h.household_key from raw_shop.baskets as b join silver.household as h using (household_id);
create table gold.agg_daily_sales as select count(*) as n from raw_shop.baskets;
create table test_failures_rows as select 1 as n;
"""


@contextmanager
def known_as(
    full_name: str, warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestDatabase]:
    """Household 5 under that name, with the other words of WORDS."""
    fill(full_name, warehouse, shop)
    with reached(warehouse, shop, monkeypatch):
        yield warehouse


def fill(full_name: str, warehouse: TestDatabase, shop: TestDatabase) -> None:
    """Load the shop, in which household 5 has that name, and put the household wherever else it may be."""
    name = full_name.replace("'", "''")
    change(
        shop,
        f"update households set full_name = '{name}', email = '{WORDS[1]}', phone = '{WORDS[2]}', updated_at = now() "
        "where household_id = 5",
        "update baskets set household_id = 5 where basket_id in (select min(basket_id) from baskets)",
    )
    for table in ("households", "household_events", "baskets", "basket_items"):
        asyncio.run(load(warehouse, shop, table))
    with psycopg.connect(warehouse.url("transformer"), autocommit=True) as transformer:
        transformer.execute("set search_path = silver")
        for statement in BUILT.split(";")[:-1]:
            transformer.execute(statement.encode())
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as loader:
        loader.execute("create schema raw_marketing")
        loader.execute("create table raw_marketing.targets (target_id text, payload jsonb, _batch_id bigint)")
        loader.execute(
            "insert into raw_marketing.targets values ('a', '{\"household_id\": 5, \"campaign\": 1}', 1), "
            "('b', '{\"household_id\": 55, \"campaign\": 1}', 1)"
        )
        loader.execute("create table landing.marketing__targets as select * from raw_marketing.targets")
        for data in ({"household_id": 5, "v": 1}, {"contact": WORDS[1]}, {"household_id": 6, "phone": WORDS[2]}):
            loader.execute(
                "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) "
                "values (1, 'shop', 'x', null, 'r', %s, %s)",
                [json.dumps(data), json.dumps(data)],
            )
        loader.execute(
            "insert into ops.errors (error_id, failure_class, severity, strategy, location, what, fix, retryable)"
            " values ('E-1', 'data', 'error', 'ask', 'x', %s, 'y', false)",
            [f"the row of {WORDS[1]} is bad"],
        )
        loader.execute(
            "insert into ops.reconciliations (source_system, table_name, method, result, buckets, drilled, missing, "
            "extra, different, quarantined, pending, repaired, seconds, keys) values ('shop', 'households', "
            "'content', 'different', 1, 1, 1, 0, 0, 0, 0, 0, 1, %s)",
            ['{"missing": [["5"], ["7"]]}'],
        )


@contextmanager
def reached(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The platform is pointed at both, and has a key for hashes of persons."""
    for variable, value in addresses(warehouse, shop).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("MEDALLION_ERASURE_KEY", "a-secret-of-the-tests")
    settings.cache_clear()
    yield
    settings.cache_clear()
