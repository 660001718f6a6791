"""A real Django REST framework app into raw, by each of its paginations."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from flows.publish.session import LoadResult
from flows.values.errors import ConfigurationError
from tests.conftest import TestDatabase
from tests.kinds.api.servers.declared import REST_FRAMEWORK
from tests.kinds.api.servers.imitation import refuse, reset
from tests.kinds.api.servers.reading import load, load_and_kill, raw_records
from tests.kinds.api.servers.relay import Relay
from tests.kinds.api.servers.rest_framework import TOKEN, Item, RestFramework
from tests.kinds.loading import raw_rows

pytestmark = pytest.mark.xdist_group("rest_framework")
EACH = pytest.mark.parametrize("endpoint", ["by_page", "by_offset", "by_cursor"])


def item(number: int, name: str = "first", day: int = 1) -> Item:
    return number, f"{name} {number}", f"2024-01-{day:02} 00:00:{number % 60:02}.250"


@pytest.fixture
def relay(items: RestFramework) -> Iterator[Relay]:
    """Trouble on demand before the app, which holds 230 items."""
    items.write([item(number) for number in range(1, 231)])
    with Relay(to=items.url) as running:
        yield running


async def load_items(warehouse: TestDatabase, url: str, endpoint: str, concurrent: int = 1) -> LoadResult:
    declared = [replace(one, concurrent=concurrent) for one in REST_FRAMEWORK.endpoints]
    return await load(warehouse, replace(REST_FRAMEWORK, endpoints=declared), url, endpoint, TOKEN)


def names(warehouse: TestDatabase, endpoint: str) -> dict[int, str]:
    return {key: record["name"] for key, record in raw_records(warehouse, f"raw_app.{endpoint}").items()}


@EACH
async def test_every_item_comes_once_and_later_changes_follow(
    warehouse: TestDatabase, items: RestFramework, relay: Relay, endpoint: str
) -> None:
    first = await load_items(warehouse, relay.url, endpoint)
    before = raw_rows(warehouse, endpoint, "raw_app")
    again = await load_items(warehouse, relay.url, endpoint)

    assert names(warehouse, endpoint) == {number: f"first {number}" for number in range(1, 231)}
    assert first.counts.rows_inserted == 230
    assert again.counts.rows_read < 20  # those within the lag
    assert raw_rows(warehouse, endpoint, "raw_app") == before

    items.write([item(5, "second", 2), item(500, "second", 2)])
    changed = await load_items(warehouse, relay.url, endpoint)

    assert (changed.counts.rows_inserted, changed.counts.rows_updated) == (1, 1)
    assert names(warehouse, endpoint)[5] == "second 5"
    assert names(warehouse, endpoint)[500] == "second 500"


async def test_numbered_pages_are_fetched_side_by_side(warehouse: TestDatabase, relay: Relay) -> None:
    relay.latency = 0.2
    await load_items(warehouse, relay.url, "by_page", concurrent=4)

    assert len(names(warehouse, "by_page")) == 230
    starts = sorted(one.at for one in relay.asked)
    # One after another no two requests are closer than the latency.
    assert sum(later - earlier < 0.1 for earlier, later in pairwise(starts)) >= 3


async def test_an_item_that_slips_past_a_page_s_edge_is_read_all_the_same(
    warehouse: TestDatabase, items: RestFramework, relay: Relay
) -> None:
    """Deleting what was read already moves the rest of an offset list forward by one."""
    relay.before[3] = lambda: items.delete(1, 2, 3)
    await load_items(warehouse, relay.url, "by_offset")

    assert set(range(4, 231)) <= names(warehouse, "by_offset").keys()


async def test_a_token_unknown_to_the_app_asks_for_a_person(warehouse: TestDatabase, relay: Relay) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await load(warehouse, REST_FRAMEWORK, relay.url, "by_page", "canary-wrong")

    assert "canary" not in str(caught.value)
    assert len(relay.asked) == 1


async def test_a_throttled_list_is_read_at_the_app_s_own_pace(warehouse: TestDatabase, relay: Relay) -> None:
    await load_items(warehouse, relay.url, "throttled")

    assert len(names(warehouse, "throttled")) == 230
    assert 429 in relay.statuses
    assert len(relay.asked) <= 5 + 2  # waits are obeyed, not probed


async def test_a_killed_load_and_trouble_after_it_lose_nothing(warehouse: TestDatabase, relay: Relay) -> None:
    load_and_kill(warehouse, relay, 3, ["REST_FRAMEWORK", "by_offset"], relay.url, TOKEN)
    relay.begin()
    relay.trouble |= {1: reset, 3: refuse(502)}
    await load_items(warehouse, relay.url, "by_offset")

    assert names(warehouse, "by_offset") == {number: f"first {number}" for number in range(1, 231)}
