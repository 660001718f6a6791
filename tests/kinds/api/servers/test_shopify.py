"""Shopify's Admin REST API, as documented, into raw."""

from itertools import pairwise

import pytest

from flows.publish.session import LoadResult
from flows.values.errors import RateLimited, SourceError
from tests.conftest import TestDatabase
from tests.kinds.api.servers.declared import SHOPIFY
from tests.kinds.api.servers.imitation import refuse
from tests.kinds.api.servers.reading import load, load_and_kill, raw_records
from tests.kinds.api.servers.shopify import TOKEN, Shopify, order
from tests.kinds.loading import setting

ORDERS = "raw_shopify.orders"


async def load_orders(warehouse: TestDatabase, shopify: Shopify) -> LoadResult:
    return await load(warehouse, SHOPIFY, shopify.url, "orders", TOKEN)


def filled(shopify: Shopify, number: int = 220) -> None:
    closed = {"closed_at": "2024-01-05T00:00:00Z"}
    shopify.put("orders", *(order(n, **(closed if n % 5 == 0 else {})) for n in range(1, number + 1)))


async def test_orders_of_every_status_come_once_and_changed_ones_again(
    warehouse: TestDatabase, shopify: Shopify
) -> None:
    filled(shopify)
    first = await load_orders(warehouse, shopify)
    shopify.put(
        "orders", order(7, "2024-02-01T08:00:00+01:00", note="changed"), order(900, "2024-02-01T09:00:00+01:00")
    )
    second = await load_orders(warehouse, shopify)
    third = await load_orders(warehouse, shopify)

    assert raw_records(warehouse, ORDERS) == shopify.lists["orders"]
    assert first.counts.rows_inserted == 220
    assert (second.counts.rows_inserted, second.counts.rows_updated) == (1, 1)
    assert (third.counts.rows_inserted, third.counts.rows_updated) == (0, 0)


async def test_products_and_customers_have_endpoints_of_their_own(warehouse: TestDatabase, shopify: Shopify) -> None:
    for name in ("products", "customers"):
        shopify.put(name, *({"id": n, "updated_at": "2024-01-01T00:00:00Z", "tags": "a, b"} for n in range(1, 61)))
        await load(warehouse, SHOPIFY, shopify.url, name, TOKEN)

        assert raw_records(warehouse, f"raw_shopify.{name}") == shopify.lists[name]


async def test_a_decimal_retry_after_is_obeyed_in_full(warehouse: TestDatabase, shopify: Shopify) -> None:
    filled(shopify)
    shopify.trouble |= {number: refuse(429, "Retry-After: 0.6") for number in (2, 3)}
    await load_orders(warehouse, shopify)

    assert raw_records(warehouse, ORDERS) == shopify.lists["orders"]
    waits = [later.at - earlier.at for earlier, later in pairwise(shopify.asked)]
    assert waits[1] >= 0.6
    assert waits[2] >= 0.6


async def test_patience_beyond_the_run_s_budget_ends_it_and_the_next_run_completes_it(
    warehouse: TestDatabase, shopify: Shopify
) -> None:
    filled(shopify)
    shopify.trouble[3] = refuse(429, "Retry-After: 3600")
    with setting(api_wait_budget_seconds=2), pytest.raises(RateLimited) as caught:
        await load_orders(warehouse, shopify)
    await load_orders(warehouse, shopify)

    assert caught.value.retry_after == 3600
    assert raw_records(warehouse, ORDERS) == shopify.lists["orders"]


async def test_the_call_limit_header_slows_reading_before_the_bucket_overflows(
    warehouse: TestDatabase, shopify: Shopify
) -> None:
    shopify.clear(bucket=5, leak=10)
    filled(shopify, 600)
    await load_orders(warehouse, shopify)

    assert 429 not in shopify.statuses
    assert raw_records(warehouse, ORDERS) == shopify.lists["orders"]


async def test_page_info_that_is_no_longer_known_is_never_taken_for_the_end(
    warehouse: TestDatabase, shopify: Shopify
) -> None:
    filled(shopify)
    shopify.trouble[3] = refuse(400, body=b'{"errors": {"page_info": "Invalid value."}}')
    with pytest.raises(SourceError) as caught:
        await load_orders(warehouse, shopify)
    await load_orders(warehouse, shopify)

    assert "page_info=" not in str(caught.value)
    assert raw_records(warehouse, ORDERS) == shopify.lists["orders"]


async def test_a_page_token_that_is_gone_begins_the_list_anew(warehouse: TestDatabase, shopify: Shopify) -> None:
    filled(shopify)
    shopify.trouble[4] = refuse(410)
    result = await load_orders(warehouse, shopify)

    assert raw_records(warehouse, ORDERS) == shopify.lists["orders"]
    assert result.counts.rows_inserted == 220


async def test_a_killed_load_is_completed_by_the_next(warehouse: TestDatabase, shopify: Shopify) -> None:
    filled(shopify)
    load_and_kill(warehouse, shopify, 4, ["SHOPIFY", "orders"], shopify.url, TOKEN)
    shopify.begin()
    await load_orders(warehouse, shopify)

    assert raw_records(warehouse, ORDERS) == shopify.lists["orders"]
    assert len(shopify.asked) <= 3  # of five pages
