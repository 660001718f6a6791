"""A row limit beside what is known of a list that was loaded in full."""

import json

import pytest

from flows.declare import Replace
from flows.kinds.api import Api, Cursor, Endpoint, Parent, Since, SinglePage
from flows.kinds.api.limited import refuse_beside_state
from flows.values.errors import DeclarationError
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import json_page, raw, response, serve
from tests.kinds.api.loading import keys, load
from tests.kinds.loading import setting


async def test_a_limited_load_does_not_come_between_an_etag_and_the_rows_it_belongs_to(warehouse: TestDatabase) -> None:
    """The source may go back to what it was: later loads would hear that nothing has changed."""
    items = Endpoint("items", path="/items", key_type="bigint", etag=True, load=Replace())
    api = Api("lists", connection="lists", pagination=SinglePage(), endpoints=[items])
    async with serve(forever=json_page([{"id": 1}], 'ETag: "e1"')) as server:
        await load(warehouse, server.url, "items", api)
        with setting(row_limit=1), pytest.raises(DeclarationError, match="relies on its ETag"):
            await load(warehouse, server.url, "items", api)


async def test_a_full_load_of_a_merge_replaces_the_sample(warehouse: TestDatabase) -> None:
    """Nothing else would tell that a record of the sample has been deleted at the source since."""
    items = Endpoint("items", path="/items", key_type="bigint", total="total")
    api = Api("lists", connection="lists", pagination=Cursor("after", at="next"), endpoints=[items])
    records = [{"id": number} for number in range(1, 7)]
    async with serve(raw(response(200, json.dumps({"data": records, "total": 6}).encode()))) as server:
        with setting(row_limit=3):
            await load(warehouse, server.url, "items", api)
    assert keys(warehouse, "items") == [1, 2, 3]
    listing = [{"data": records[2:4], "next": "4", "total": 4}, {"data": records[4:], "total": 4}]
    pages = [raw(response(200, json.dumps(body).encode())) for body in listing]
    with setting(api_group_mb=0):  # each page is published by itself
        async with serve(*pages, pages[1]) as server:
            result = await load(warehouse, server.url, "items", api)
    assert (keys(warehouse, "items", "true"), result.counts.reconciliation) == ([3, 4, 5, 6], "match")


def test_children_whose_lists_start_behind_the_newest_in_raw_are_not_limited_beside_a_full_load() -> None:
    """The newest of a few would pass for the newest of all."""
    messages = Endpoint(
        "messages", path="/messages/{id}", parent=Parent("channels", column="channel"), cursor=Since("from", field="ts")
    )
    with pytest.raises(DeclarationError, match="newest child in raw"):
        refuse_beside_state(messages, "chats.messages", keeps_cursor=True)
    refuse_beside_state(messages, "chats.messages", keeps_cursor=False)
