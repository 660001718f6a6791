"""Reading PostgreSQL by COPY: bytes handed over in order, counted, and let go of when nobody wants them any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import asyncpg
import psycopg
import pytest
from asyncpg import Connection, Record

from flows.access.addresses import connect
from flows.declare import Replace
from flows.kinds.postgres import Table
from flows.kinds.postgres.table import CopyStream, describe, has_value_outside, key_set, select_keys
from flows.values.connection import DatabaseConnection
from flows.values.plan import KeySet
from tests.conftest import TestDatabase

BASKETS = Table("baskets", key="basket_id", load=Replace())
# 20 MB: far more than the chunks that may be on their way.
MUCH = "select repeat('x', 1000) from generate_series(1, 20000)"


@pytest.fixture
async def origin(shop: TestDatabase) -> AsyncIterator["Connection[Record]"]:
    async with connect(DatabaseConnection("shop", shop.url("extractor")), side="source") as opened:
        yield opened


async def test_chunks_are_what_the_source_sent_and_are_counted(
    shop: TestDatabase, origin: "Connection[Record]"
) -> None:
    query = "select basket_id, sold_at, week from baskets order by 1"
    stream = CopyStream(origin, query)
    received = b"".join([chunk async for chunk in aiter(stream)])
    copying = f"copy ({query}) to stdout (format binary)"
    with psycopg.connect(shop.url("extractor")) as other, other.cursor().copy(copying) as copy:
        assert received == b"".join(bytes(chunk) for chunk in copy)
    assert (stream.rows, stream.bytes) == (150, len(received))


async def test_a_reader_that_nobody_listens_to_ends_and_frees_its_connection(origin: "Connection[Record]") -> None:
    """The writer fails while chunks wait in a full queue: putting one more there would wait for ever."""
    async with asyncio.timeout(5):
        async with aclosing(aiter(CopyStream(origin, MUCH))) as chunks:
            await anext(chunks)
            await asyncio.sleep(0.3)
        assert await origin.fetchval("select 1") == 1


async def test_an_error_at_the_source_comes_out_where_the_chunks_are_read(origin: "Connection[Record]") -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async for _ in aiter(CopyStream(origin, "select 1 / (19999 - i) from generate_series(1, 20000) as i")):
            pass
    assert await origin.fetchval("select 1") == 1


async def test_a_slow_writer_slows_the_reader(origin: "Connection[Record]") -> None:
    """Memory does not grow with the table: the reader stops when its chunks are not taken."""
    stream = CopyStream(origin, MUCH)
    async with aclosing(aiter(stream)) as chunks:
        await anext(chunks)
        await asyncio.sleep(0.3)
        sizes = [len(await anext(chunks)) for _ in range(3)]
    assert stream.bytes < 10 * max(sizes)


async def test_key_sets_are_equal_whatever_the_order_and_differ_by_one_key(origin: "Connection[Record]") -> None:
    shape = await describe(origin, "shop", "raw_shop", BASKETS)
    all_keys = await key_set(origin, BASKETS, shape)
    first, rest = [await key_set(origin, BASKETS, shape, f"basket_id {sign} 31000001") for sign in ("=", "<>")]
    other = await key_set(origin, BASKETS, shape, "basket_id <> 31000002")
    assert first.plus(rest) == all_keys
    assert (rest.rows, rest == other) == (other.rows, False)
    assert all_keys.plus(KeySet(1)) == KeySet(151), "without a key on one side only rows can be compared"
    assert select_keys(BASKETS, shape, "true") == 'select "basket_id" from "public"."baskets" where true'


async def test_the_shape_tells_null_enums_and_the_size_as_last_analysed(origin: "Connection[Record]") -> None:
    shape = await describe(origin, "shop", "raw_shop", Table("products", key="product_id", load=Replace()))
    brand, key = shape.column("brand"), shape.column("product_id")
    assert brand is not None
    assert key is not None
    assert (brand.enum, brand.labels, brand.raw_type) == (
        "brand_kind",
        ("National", "Private"),
        '"raw_shop"."brand_kind"',
    )
    assert (key.nullable, brand.nullable, shape.estimated_rows) == (False, True, 40)


async def test_values_beyond_a_condition_are_seen_also_where_it_is_unknown(origin: "Connection[Record]") -> None:
    products = Table("products", key="product_id", load=Replace())
    assert await has_value_outside(origin, products, ["package_size"], "product_id > 25020")
    assert await has_value_outside(origin, products, ["package_size"], "package_size > null")
    assert not await has_value_outside(origin, products, ["package_size"], "true")
    assert not await has_value_outside(origin, products, ["package_size"], "package_size is not null")
