"""A load leaves a profile of its rows, which tells of no single row, costs no scan of raw, and never fails a load."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from flows.access.addresses import connect
from flows.declare import Hashed, Merge, Replace, Timestamp
from flows.kinds.postgres import Table
from flows.quality.profile import Profiling, write_profile
from flows.values.connection import DatabaseConnection
from flows.values.settings import settings
from flows.values.shape import Column, Shape
from tests.conftest import TestCluster, TestDatabase, fresh_shop, fresh_warehouse
from tests.publish.two_ends import TwoEnds, run_sql

ORDERS = Table(
    "orders", key="id", cursor=Timestamp("updated_at"), load=Merge(), masked={"iban": Hashed()}, exclude=("secret",)
)
_CREATE = """
create type place as enum ('here', 'there');
create table orders (
    id bigint primary key, amount numeric, status text, note text, at timestamptz, placed place, flag boolean,
    email text, iban text, tags text[], document jsonb, secret text, updated_at timestamptz not null default now()
);
insert into orders
select
    n, n * 1.2345, (array['new', 'paid', 'sent'])[1 + (n % 10 > 4)::int + (n % 10 > 7)::int],
    case when n % 4 > 0 then repeat('x', n % 7) end, now() - n * interval '1 hour', 'here', true,
    'zq' || n || '@example.com', 'DE' || n, array['a'], jsonb_build_object('n', n), 'zq', now() - interval '1 day'
from generate_series(1, 1000) as n
"""


@pytest.fixture(scope="module")
def profiled(cluster: TestCluster) -> Iterator[TwoEnds]:
    """The orders, loaded once."""
    with pytest.MonkeyPatch.context() as patch, fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop:
        patch.setenv("MEDALLION_MASK_KEY", "k" * 32)
        settings.cache_clear()
        ends = TwoEnds(warehouse, shop)
        ends.source(_CREATE)
        asyncio.run(ends.load(ORDERS))
        yield ends
    settings.cache_clear()


def in_warehouse(warehouse: TestDatabase, *statements: str) -> DatabaseConnection:
    """The warehouse after these statements."""
    for statement in statements:
        run_sql(warehouse.url("loader"), statement)
    return DatabaseConnection("warehouse", warehouse.url("loader"))


def column(ends: TwoEnds, name: str, table: str = "orders") -> dict[str, Any]:
    """The newest profile of a column."""
    names = ("kind", "rows", "sampled", "null_share", "distinct_values", "quantiles", "shares")
    ((*values,),) = ends.raw(
        f"select {', '.join(names)} from ops.profiles where table_name = %s and column_name = %s "
        "order by batch_id desc limit 1",
        [table, name],
    )
    return dict(zip(names, values, strict=True))


def test_numbers_have_quantiles_of_three_digits(profiled: TwoEnds) -> None:
    amount = column(profiled, "amount")
    assert amount["kind"] == "number"
    assert amount["rows"] == amount["sampled"] == amount["distinct_values"] == 1000
    quantiles = amount["quantiles"]
    assert len(quantiles) == 21
    assert quantiles == sorted(quantiles)
    assert (quantiles[0], quantiles[10], quantiles[20]) == pytest.approx((1.23, 617, 1230))


def test_categories_have_shares_without_their_values(profiled: TwoEnds) -> None:
    status = column(profiled, "status")
    assert status["distinct_values"] == 3
    assert len(status["shares"]) == 16
    assert sum(status["shares"]) == pytest.approx(1, abs=1e-5)
    assert column(profiled, "placed")["kind"] == column(profiled, "flag")["kind"] == "category"


def test_texts_have_lengths_and_times_have_ages(profiled: TwoEnds) -> None:
    note, at = column(profiled, "note"), column(profiled, "at")
    assert note["null_share"] == pytest.approx(0.25)
    assert (note["quantiles"][0], note["quantiles"][20]) == (0, 6)
    assert at["kind"] == "age"
    assert at["quantiles"][20] == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("name", ["email", "iban"])
def test_of_personal_and_masked_columns_only_nulls_are_counted(profiled: TwoEnds, name: str) -> None:
    found = column(profiled, name)
    assert (found["kind"], found["null_share"]) == ("nulls", 0)
    assert [found[each] for each in ("distinct_values", "quantiles", "shares")] == [None, None, None]


def test_a_key_has_no_quantiles(profiled: TwoEnds) -> None:
    assert (column(profiled, "id")["distinct_values"], column(profiled, "id")["quantiles"]) == (1000, None)


async def test_another_seed_puts_values_into_other_buckets(profiled: TwoEnds, warehouse: TestDatabase) -> None:
    other = TwoEnds(warehouse, profiled.shop)
    other.raw("update ops.profile_seed set seed = seed + 1")
    await other.load(ORDERS)
    here, there = column(profiled, "status")["shares"], column(other, "status")["shares"]
    assert here != there


async def test_only_the_rows_of_the_load_are_profiled_and_single_rows_have_no_distribution(profiled: TwoEnds) -> None:
    profiled.source("update orders set updated_at = now(), amount = 7, status = null where id <= 19")
    result = await profiled.load(ORDERS)
    assert result.strategy == "merge"
    amount = column(profiled, "amount")
    assert (amount["rows"], amount["distinct_values"], amount["quantiles"]) == (19, 1, None)
    assert column(profiled, "status")["null_share"] == 1


async def test_what_cannot_be_profiled_does_not_fail_the_load(profiled: TwoEnds) -> None:
    profiled.source(
        "create table odd (id int primary key, n numeric, f double precision, t timestamptz, d date, huge numeric,"
        " b bytea, j json, i interval, m money, u uuid, p point);"
        "insert into odd select n, 'NaN', 'infinity', '-infinity', '4713-01-01 BC', 1e3000::numeric, '\\x00', '{}', "
        "'1 day', 3, gen_random_uuid(), point(1, n) from generate_series(1, 30) as n"
    )
    result = await profiled.load(Table("odd", key="id", load=Replace()))
    assert result.counts.reconciliation == "match"
    assert [column(profiled, name, "odd")["null_share"] for name in ("n", "f", "t", "huge", "p")] == [0] * 5
    assert column(profiled, "n", "odd")["quantiles"] is None


async def test_of_a_large_load_a_sample_is_profiled_and_distinct_values_are_estimated(
    profiled: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_PROFILE_ROWS", "2000")
    settings.cache_clear()
    profiled.source(
        "create table many as select n as id, n % 500 as few, n as each, n % 5000 as some "
        "from generate_series(1, 40000) as n order by hashint4(n)"
    )
    await profiled.load(Table("many", key="id", load=Replace()))
    few, some, each = (column(profiled, name, "many") for name in ("few", "some", "each"))
    assert 800 < few["sampled"] < 4000
    assert few["rows"] == 40_000
    assert 450 < few["distinct_values"] < 550
    assert 3000 < some["distinct_values"] < 7000
    assert each["distinct_values"] > 35_000


async def test_a_profile_can_be_switched_off(profiled: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_PROFILE_ROWS", "0")
    settings.cache_clear()
    result = await profiled.load(Table("stores", key="store_id", load=Replace()))
    assert profiled.raw("select count(*) from ops.profiles where batch_id = %s", [result.batch_id]) == [(0,)]


async def test_fields_of_records_are_profiled_like_columns(warehouse: TestDatabase) -> None:
    own = in_warehouse(
        warehouse,
        "create table landing.r as select n as id, case when n % 10 = 0 then '[]' else jsonb_build_object("
        "'status', (array['new', 'paid'])[1 + n % 3 % 2], 'amount', n, 'email', n || '@example.com', "
        "'zq' || n || '@x', 1) end as payload from generate_series(1, 100) as n",
        "insert into ops.loads (source_system, table_name, strategy) values ('api', 'orders', 'merge')",
    )
    shape = Shape((Column("id", "integer", "id"), Column("payload", "jsonb", "payload", nullable=False)))
    async with connect(own, side="warehouse") as connection:
        await write_profile(connection, "landing.r", shape, ("id",), 100, 1, Profiling(1000, frozenset({"email"})))
        found = await connection.fetch("select column_name, kind, null_share, distinct_values from ops.profiles")
    fields = {row["column_name"]: (row["kind"], round(row["null_share"], 2), row["distinct_values"]) for row in found}
    assert fields == {
        "id": ("number", 0, 100),
        "payload": ("size", 0, None),
        "payload.status": ("length", 0.1, 2),
        "payload.amount": ("number", 0.1, 90),
        "payload.email": ("nulls", 0.1, None),
    }


async def test_a_profile_that_fails_is_left_out(warehouse: TestDatabase, caplog: pytest.LogCaptureFixture) -> None:
    own = in_warehouse(warehouse, "create table landing.r as select 1 as id")
    shape = Shape((Column("gone", "integer", "gone"),))
    async with connect(own, side="warehouse") as connection, connection.transaction():
        await write_profile(connection, "landing.r", shape, (), 1, 1, Profiling(10))
        assert await connection.fetchval("select count(*) from ops.profiles") == 0
    assert "could not be profiled (UndefinedColumnError)" in caplog.text
