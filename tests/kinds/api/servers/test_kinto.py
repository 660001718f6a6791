"""A real Kinto into raw: pages by header, changes since a moment, tombstones."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.kinds.api import Api, ChangeToken
from flows.publish.session import LoadResult
from tests.conftest import TestDatabase
from tests.kinds.api.servers.declared import KINTO
from tests.kinds.api.servers.imitation import cut, cut_unseen, refuse, reset, web_page
from tests.kinds.api.servers.kinto import PASSWORD, USER, Collection
from tests.kinds.api.servers.reading import deleted_keys, load, load_and_kill, raw_records
from tests.kinds.api.servers.relay import Relay
from tests.kinds.loading import cursor, raw_rows

pytestmark = pytest.mark.xdist_group("kinto")
ORDERS = "raw_kinto.orders"


@pytest.fixture
def relay(orders: Collection) -> Iterator[Relay]:
    """Trouble on demand before the collection."""
    with Relay(to=orders.base) as running:
        yield running


def address(orders: Collection, base: str = "") -> str:
    """The base URL of the collection's records."""
    return f"{base or orders.base}{orders.path.removesuffix('/records')}"


async def load_orders(warehouse: TestDatabase, orders: Collection, base: str = "", api: Api = KINTO) -> LoadResult:
    return await load(warehouse, api, address(orders, base), "orders", PASSWORD, USER)


def filled(orders: Collection, number: int = 230) -> None:
    orders.put([{"id": f"o{n}", "amount": n, "lines": [{"sku": n}]} for n in range(number)])


async def test_every_record_comes_once_and_running_again_writes_nothing(
    warehouse: TestDatabase, orders: Collection
) -> None:
    filled(orders)
    await asyncio.sleep(1.5)  # the clock that bounds the cursor is the header `Date`, in whole seconds
    first = await load_orders(warehouse, orders)
    before = raw_rows(warehouse, "orders", "raw_kinto")
    second = await load_orders(warehouse, orders)

    assert raw_records(warehouse, ORDERS) == orders.live()
    # Kinto stamps many writes of one millisecond ahead of its clock, and no cursor passes the clock.
    assert (first.counts.rows_read, second.counts.changed) == (230, 0)
    assert second.counts.rows_read < 100
    assert raw_rows(warehouse, "orders", "raw_kinto") == before


async def test_changes_deletes_and_returns_follow_from_the_cursor(warehouse: TestDatabase, orders: Collection) -> None:
    filled(orders)
    await load_orders(warehouse, orders)
    orders.put([{"id": "o3", "amount": 3.5}, {"id": "new", "amount": 1}])
    orders.delete("o7", "o8")
    second = await load_orders(warehouse, orders)

    assert raw_records(warehouse, ORDERS) == orders.live()
    assert deleted_keys(warehouse, ORDERS) == {"o7", "o8"}
    assert (second.counts.rows_inserted, second.counts.rows_updated, second.counts.rows_deleted) == (1, 3, 2)

    orders.put([{"id": "o8", "amount": 8}])
    await load_orders(warehouse, orders)

    assert raw_records(warehouse, ORDERS) == orders.live()
    assert deleted_keys(warehouse, ORDERS) == {"o7"}


async def test_what_is_written_while_the_list_is_read_is_there_after_the_next_load(
    warehouse: TestDatabase, orders: Collection, relay: Relay
) -> None:
    filled(orders)
    # Changed and deleted in front of the reader and behind it.
    relay.before[3] = lambda: orders.put([{"id": "o1", "amount": -1}, {"id": "o200", "amount": -1}])
    relay.before[4] = lambda: orders.delete("o2", "o199")
    await load_orders(warehouse, orders, relay.url)
    await load_orders(warehouse, orders, relay.url)

    assert raw_records(warehouse, ORDERS) == orders.live()
    assert deleted_keys(warehouse, ORDERS) <= {"o2", "o199"}


async def test_trouble_on_every_page_costs_requests_and_no_record(
    warehouse: TestDatabase, orders: Collection, relay: Relay
) -> None:
    filled(orders)
    relay.trouble |= {
        1: refuse(503, "Retry-After: 0"), 2: cut, 4: reset, 6: cut_unseen, 7: web_page, 9: refuse(429, "Retry-After: 1")
    }  # fmt: skip
    result = await load_orders(warehouse, orders, relay.url)

    assert raw_records(warehouse, ORDERS) == orders.live()
    assert result.counts.rows_read == 230
    # Six answers were worth nothing, so each of the five pages took its own request and those six were made again.
    assert len(relay.asked) == 5 + 6


async def test_a_killed_load_goes_on_from_the_pages_that_were_published(
    warehouse: TestDatabase, orders: Collection, relay: Relay
) -> None:
    filled(orders)
    load_and_kill(warehouse, relay, 4, ["KINTO", "orders"], address(orders, relay.url), PASSWORD, USER)
    relay.begin()
    await load_orders(warehouse, orders, relay.url)

    assert raw_records(warehouse, ORDERS) == orders.live()
    assert len(relay.asked) <= 3  # of five pages


async def test_the_etag_serves_as_a_change_token(warehouse: TestDatabase, orders: Collection) -> None:
    declared = replace(KINTO.table("orders"), cursor=ChangeToken("_since", header="ETag"))
    api = replace(KINTO, endpoints=[declared])
    filled(orders, 120)
    await load_orders(warehouse, orders, api=api)
    orders.delete("o5")
    orders.put([{"id": "o6", "amount": 6.5}])
    second = await load_orders(warehouse, orders, api=api)
    third = await load_orders(warehouse, orders, api=api)

    assert raw_records(warehouse, ORDERS) == orders.live()
    assert deleted_keys(warehouse, ORDERS) == {"o5"}
    assert (second.counts.rows_read, third.counts.rows_read) == (2, 0)


async def test_a_list_that_did_not_change_is_not_sent_again(
    warehouse: TestDatabase, orders: Collection, relay: Relay
) -> None:
    declared = replace(KINTO.table("orders"), cursor=None, etag=True, deleted=None)
    api = replace(KINTO, endpoints=[declared])
    filled(orders, 120)
    await load_orders(warehouse, orders, relay.url, api)
    relay.begin()
    unchanged = await load_orders(warehouse, orders, relay.url, api)
    asked = len(relay.asked)
    orders.put([{"id": "o6", "amount": 6.5}])
    await load_orders(warehouse, orders, relay.url, api)

    assert (unchanged.counts.rows_read, asked) == (0, 1)
    assert raw_records(warehouse, ORDERS) == orders.live()


async def test_the_password_goes_with_every_request_and_into_no_address(
    warehouse: TestDatabase, orders: Collection, relay: Relay
) -> None:
    filled(orders, 120)
    await load_orders(warehouse, orders, relay.url)

    assert len(relay.asked) >= 3
    assert all(one.headers["authorization"].startswith("Basic ") for one in relay.asked)
    assert not any(PASSWORD in str(one.query) for one in relay.asked)
    assert PASSWORD not in str(cursor(warehouse, "orders"))
