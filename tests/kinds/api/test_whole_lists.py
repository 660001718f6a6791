"""Loads of lists that cannot be read to a proven end: what is kept, what is not deleted, and what the load says."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flows.kinds.api import Api, LinkHeader, NextUrl, PageNumber
from flows.values.errors import ConfigurationError, ListUnfinished
from tests.conftest import TestDatabase
from tests.kinds.api.http_lists import Listing
from tests.kinds.api.http_servers import Answer, Request, raw, response, serve, status
from tests.kinds.api.loading import LISTS, keys, load
from tests.kinds.api.test_lists import EVERY_PAGE, items, page, refunds_of
from tests.kinds.loading import landing_tables, rows, setting

_END = {"paging": {"more": False}}


def only(name: str, **changes: Any) -> Api:
    """The API with one of its endpoints, changed."""
    return replace(LISTS, endpoints=[replace(LISTS.table(name), **changes)])


async def test_a_list_that_contradicts_itself_keeps_what_came_and_is_gone_on_with(warehouse: TestDatabase) -> None:
    first = page(items(2), paging={"next": "b", "more": True})
    with setting(**EVERY_PAGE):
        async with serve(first, page(items(3)[2:], paging={"more": True})) as server:
            with pytest.raises(ListUnfinished, match=r"lists.items \(page 2\): 'paging.more' is true"):
                await load(warehouse, server.url, "items")
        assert keys(warehouse, "items") == [1, 2]
        async with serve(page(items(3)[2:], **_END)) as server:
            await load(warehouse, server.url, "items")
    assert [request.query.get("after") for request in server.requests] == ["b"]
    assert keys(warehouse, "items") == [1, 2, 3]
    assert landing_tables(warehouse) == []


async def test_a_replace_that_contradicts_itself_deletes_nothing_and_is_gone_on_with(warehouse: TestDatabase) -> None:
    async with serve(page(items(3), **_END)) as server:
        await load(warehouse, server.url, "refilled")
    first = page(items(1), paging={"next": "b", "more": True})
    async with serve(first, page([], paging={"more": True})) as server:
        with pytest.raises(ListUnfinished):
            await load(warehouse, server.url, "refilled")
    assert keys(warehouse, "refilled") == [1, 2, 3]
    async with serve(page(items(2)[1:], **_END)) as server:
        result = await load(warehouse, server.url, "refilled")
    assert ([request.query.get("after") for request in server.requests], result.counts.rows_deleted) == (["b"], 1)
    assert keys(warehouse, "refilled") == [1, 2]


async def test_a_list_that_contradicts_itself_where_it_is_gone_on_with_is_read_again(warehouse: TestDatabase) -> None:
    first = page(items(2), paging={"next": "b", "more": True})
    async with serve(first, page([], paging={"more": True})) as server:
        with pytest.raises(ListUnfinished):
            await load(warehouse, server.url, "items")
    async with serve(page([], paging={"more": True}), page(items(3), **_END)) as server:
        await load(warehouse, server.url, "items")
    assert keys(warehouse, "items") == [1, 2, 3]


async def test_a_replace_of_a_list_that_is_not_shown_to_be_whole_deletes_nothing_and_says_so(
    warehouse: TestDatabase,
) -> None:
    api = only("refilled", pagination=LinkHeader())
    async with serve(page(items(3)), page(items(1))) as server:
        await load(warehouse, server.url, "refilled", api)
        result = await load(warehouse, server.url, "refilled", api)
    assert (keys(warehouse, "refilled"), result.counts.rows_deleted) == ([1, 2, 3], 0)
    assert result.warning is not None
    assert "has not shown that this is the end of the list" in result.warning
    with_size = only("refilled", pagination=LinkHeader(), page_size=10)
    shown = page(items(1), 'Link: <?after=b>; rel="next"')
    async with serve(page(items(2)), shown) as server:
        result = await load(warehouse, server.url, "refilled", with_size)
    assert (keys(warehouse, "refilled"), result.counts.rows_deleted, result.warning) == ([1, 2], 1, None)


async def test_a_list_that_is_left_out_deletes_nothing(warehouse: TestDatabase) -> None:
    api = only("refilled", pagination=NextUrl("next"), may_be_absent=True)
    answer = raw(response(200, b'{"kind": "list"}'))
    async with serve(page(items(3), next=None), answer) as server:
        await load(warehouse, server.url, "refilled", api)
        result = await load(warehouse, server.url, "refilled", api)
    assert keys(warehouse, "refilled") == [1, 2, 3]
    assert result.warning


def refusing(refusals: dict[str, Answer], otherwise: Answer) -> Answer:
    """`refusals` by the parent in the path."""

    async def answering(request: Request, writer: asyncio.StreamWriter) -> None:
        parts = request.path.split("/")
        await refusals.get(parts[3] if len(parts) > 4 else "", otherwise)(request, writer)

    return answering


def refunds(warehouse: TestDatabase, living: bool = True) -> list[tuple[int, int]]:
    condition = "_deleted_at is null" if living else "_deleted_at is not null"
    found = rows(warehouse, f"select order_id, id from raw_lists.refunds where {condition} order by 1, 2")
    return [(row["order_id"], row["id"]) for row in found]


REFUSALS = {
    "403": status(403),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "400": status(400),
    "a failure with status 200": raw(response(200, b'{"error": "no"}')),
    "no list": raw(response(200, b'{"data": {"id": 1}}')),
    "a contradiction": raw(response(200, b'{"data": [], "paging": {"more": true}}')),
    "503": status(503),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_parent_that_refuses_its_list_is_reported_and_requested_again_and_the_others_are_published(
    warehouse: TestDatabase, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.kinds.api.http.reader.Reader._backoff", lambda self, tries: 0.001)
    lists = {order: [1, 2, 3] for order in range(1, 6)}
    answer = refunds_of(lists, [0, 0])
    async with serve(forever=refusing({"2": REFUSALS[refusal]}, answer)) as server:
        await load(warehouse, server.url, "orders")
        first = await load(warehouse, server.url, "refunds")
        before = len(server.requests)
        await load(warehouse, server.url, "refunds")
        asked = {request.path.split("/")[3] for request in server.requests[before:]}
    others = [(order, n) for order in (1, 3, 4, 5) for n in (1, 2, 3)]
    assert refunds(warehouse) == others
    assert first.warning is not None
    assert "requests them again" in first.warning
    assert asked == {"2"}, "the second run requests the refused parent, and no other"
    recorded = rows(warehouse, "select location, what from ops.errors")
    assert {row["location"] for row in recorded} == {"lists.refunds"}
    assert len(recorded) == 2
    async with serve(forever=answer) as server:
        healed = await load(warehouse, server.url, "refunds")
        assert {request.path.split("/")[3] for request in server.requests} == {"2"}
        assert (await load(warehouse, server.url, "refunds")).counts.rows_read == 0
    assert (healed.warning, refunds(warehouse)) == (None, sorted([*others, (2, 1), (2, 2), (2, 3)]))


async def test_a_child_of_a_living_parent_is_not_deleted_by_a_failure_with_status_200(warehouse: TestDatabase) -> None:
    orders = {"1": 1, "2": 1}
    lists = {1: [1, 2], 2: [1, 2]}
    answer = refunds_of(lists, [0, 0])

    async def changing(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/v1/orders":
            return await page([{"id": int(order), "v": v} for order, v in orders.items()])(request, writer)
        await (broken.get(request.path.split("/")[3]) or answer)(request, writer)

    broken: dict[str, Answer] = {}
    refunds_api = replace(LISTS.table("refunds"), may_be_absent=True)
    api = replace(LISTS, endpoints=[LISTS.table("orders"), refunds_api])
    async with serve(forever=changing) as server:
        await load(warehouse, server.url, "orders", api)
        await load(warehouse, server.url, "refunds", api)
        orders |= {"1": 2, "2": 2}
        lists[2] = [1]
        broken["1"] = raw(response(200, b'{"message": "try later", "paging": {"more": false}}'))
        await load(warehouse, server.url, "orders", api)
        result = await load(warehouse, server.url, "refunds", api)
    assert (refunds(warehouse), refunds(warehouse, living=False)) == ([(1, 1), (1, 2), (2, 1)], [(2, 2)])
    assert result.warning


async def test_a_refusal_of_all_parents_is_that_of_the_endpoint(warehouse: TestDatabase) -> None:
    lists = {order: [1] for order in range(1, 4)}
    async with serve(forever=refunds_of(lists, [0, 0])) as server:
        await load(warehouse, server.url, "orders")
    async with serve(forever=status(403)) as server:
        with pytest.raises(ConfigurationError, match="403 from"):
            await load(warehouse, server.url, "refunds")
    assert rows(warehouse, "select to_regclass('raw_lists.refunds') as raw") == [{"raw": None}]
    async with serve(forever=refusing({"2": status(401)}, refunds_of(lists, [0, 0]))) as server:
        with pytest.raises(ConfigurationError, match="401 from"):
            await load(warehouse, server.url, "refunds")


async def test_a_page_of_a_parents_list_that_is_not_found_does_not_cut_the_list(warehouse: TestDatabase) -> None:
    lists = {1: [1, 2, 3], 2: [1, 2, 3]}
    answer = refunds_of(lists, [0, 0])

    async def half(request: Request, writer: asyncio.StreamWriter) -> None:
        cut = "/1/" in request.path and "after" in request.query
        await (status(404) if cut else answer)(request, writer)

    async with serve(forever=half) as server:
        await load(warehouse, server.url, "orders")
        result = await load(warehouse, server.url, "refunds")
    assert refunds(warehouse) == [(2, 1), (2, 2), (2, 3)]
    assert result.warning
    assert "HTTP 404 for 1" in result.warning


async def test_a_record_that_moves_while_page_numbers_are_read_lets_none_get_lost(warehouse: TestDatabase) -> None:
    """An update carries it to the end of the list; those behind it move up, one of them onto a page already read."""
    listing = Listing(items(12), cap=4)

    def move(request: Request) -> None:
        if request.query.get("page") == "2" and len(server.requests) == 2:
            listing.records.append({"id": listing.records.pop(0)["id"], "at": datetime.now(UTC).isoformat()})

    listing.before = move
    answer = listing.by_page()

    async def changed_since(request: Request, writer: asyncio.StreamWriter) -> None:
        since = request.query.get("since", "")
        if since:
            found = [record for record in listing.records if record["at"] >= since]
            return await page(found, total=len(found))(request, writer)
        await answer(request, writer)

    api = only("items", pagination=PageNumber(), concurrent=1)
    async with serve(forever=changed_since) as server:
        await load(warehouse, server.url, "items", api)
        assert len(server.requests) == 4 + 1 + 3
    assert keys(warehouse, "items") == list(range(1, 13))


async def test_a_list_at_rest_is_read_once_and_asked_once_whether_it_changed(warehouse: TestDatabase) -> None:
    listing = Listing(items(12), cap=4)
    answer = listing.by_page()

    async def quiet(request: Request, writer: asyncio.StreamWriter) -> None:
        await (page([], total=0) if "since" in request.query else answer)(request, writer)

    async with serve(forever=quiet) as server:
        result = await load(warehouse, server.url, "items", only("items", pagination=PageNumber(), total="total"))
    assert len([request for request in server.requests if "since" in request.query]) == 1
    assert (result.counts.rows_deduplicated, result.counts.reconciliation) == (0, "match")


async def test_a_replace_by_page_numbers_deletes_no_record_that_moved_between_pages(warehouse: TestDatabase) -> None:
    """The list has as many records as before, and one of them on no page: only the keys show it."""
    listing = Listing(items(12), cap=4)
    api = only("refilled", pagination=PageNumber(), total="total", concurrent=1)
    async with serve(forever=listing.by_page()) as server:
        await load(warehouse, server.url, "refilled", api)

    def move(request: Request) -> None:
        if len(server.requests) == 2:
            listing.records.append(listing.records.pop(0))

    listing.before = move
    async with serve(forever=listing.by_page()) as server:
        result = await load(warehouse, server.url, "refilled", api)
        assert keys(warehouse, "refilled") == list(range(1, 13))
        assert result.warning
        assert "counts 1 more records than its pages have had" in result.warning
        again = await load(warehouse, server.url, "refilled", api)
    assert (again.warning, again.counts.rows_deleted) == (None, 0)
