"""What limits a cursor, so that no change is passed over: lists that were skipped, the API's clock, other lists."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from flows.kinds.api import Api, Cursor, Endpoint, Field, NoAuth, Parent, Partition, Since, SinglePage, When
from flows.kinds.api.clocks import Clocks
from flows.kinds.api.declared.pagination import Pagination
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, Request, raw, response, serve, status
from tests.kinds.api.loading import keys, load
from tests.kinds.loading import rows

_T = 1_700_000_000
_NEXT = Cursor("after", at="next")


def _page(records: list[dict[str, Any]], following: object = None, at: float | None = None) -> Answer:
    date = () if at is None else ("Date: " + format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True),)
    return raw(response(200, json.dumps({"data": records, "next": following}).encode(), *date))


def _api(*endpoints: Endpoint) -> Api:
    return Api("lists", connection="lists", auth=NoAuth(), endpoints=list(endpoints))


def _regions(cursor: Since, *regions: str, pagination: Pagination = _NEXT, **more: Any) -> Endpoint:
    return Endpoint("items", path="/v1/items/{region}", key=("region", "id"), key_type="bigint", pagination=pagination,
                    partitions=(Partition("region", regions),), cursor=cursor, **more)  # fmt: skip


async def test_the_cursor_of_a_partition_that_is_skipped_in_its_middle_stays(warehouse: TestDatabase) -> None:
    items = _regions(Since("from", field="at", form="epoch"), "eu", "us", answers=(When(status=403, then="skip"),))
    broken = True

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        since = int(request.query.get("from", 0))
        if request.path.endswith("us"):
            await _page([])(request, writer)
        elif not request.query.get("after"):
            await _page([{"id": 1, "at": 500}] if since <= 500 else [], "b")(request, writer)
        elif broken:
            await status(403)(request, writer)
        else:
            await _page([{"id": 2, "at": 100}] if since <= 100 else [])(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", _api(items))
        broken = False
        await load(warehouse, server.url, "items", _api(items))
    assert keys(warehouse, "items") == [1, 2]


async def test_later_windows_do_not_move_the_cursor_past_one_that_was_skipped(warehouse: TestDatabase) -> None:
    begin = 1_704_067_200
    cursor = Since("from", field="at", form="epoch", until="to", begin=str(begin), window="1 year")
    items = _regions(cursor, "eu", pagination=SinglePage(), answers=(When(status=403, then="skip"),))
    records = [{"id": n, "at": begin + n * 86400 * 300} for n in range(3)]
    broken = True

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        low, high = int(request.query["from"]), int(request.query["to"])
        is_refused = broken and low <= begin + 100
        await (status(403) if is_refused else _page([r for r in records if low <= r["at"] <= high]))(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", _api(items))
        broken = False
        await load(warehouse, server.url, "items", _api(items))
    assert keys(warehouse, "items") == [0, 1, 2]


async def test_a_parent_s_list_starts_no_later_than_the_clock_when_it_was_last_read(warehouse: TestDatabase) -> None:
    api = _api(
        Endpoint("channels", path="/channels", pagination=SinglePage()),
        Endpoint("messages", path="/messages", params=(("channel", "{id}"),), pagination=_NEXT,
                 key=(Field("channel"), Field("id", type="bigint")), parent=Parent("channels", column="channel"),
                 cursor=Since("oldest", field="ts", form="epoch", column="at")),
    )  # fmt: skip
    now, versions = _T, {"a": 1, "b": 1}
    messages = {"a": {1: _T - 100, 2: _T - 90}, "b": {9: _T - 50}}

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal now
        channel = request.query.get("channel")
        if channel is None:
            await _page([{"id": name, "v": version} for name, version in versions.items()], at=now)(request, writer)
            return
        since, after = int(request.query.get("oldest", 0)), int(request.query.get("after", 0))
        found = [{"id": i, "ts": at} for i, at in sorted(messages[channel].items()) if at >= since and i > after]
        if channel == "a" and now == _T and not after:
            # Message 1 is edited behind its page, and message 2 afterwards.
            await _page(found[:1], found[0]["id"], now)(request, writer)
            messages["a"] = {1: _T + 2, 2: _T + 4}
            now = _T + 5
        else:
            await _page(found, at=now)(request, writer)

    async with serve(forever=answer) as server:

        async def both() -> None:
            await load(warehouse, server.url, "channels", api)
            await load(warehouse, server.url, "messages", api)

        await both()
        now, versions["b"] = _T + 1000, 2  # the list of a is not read
        await both()
        now, versions["a"] = _T + 2000, 2
        await both()
        now, versions["a"] = _T + 3000, 3
        server.requests.clear()
        await both()
        starts = [r.query["oldest"] for r in server.requests if "channel" in r.query]
    found = rows(warehouse, "select id, at from raw_lists.messages where channel = 'a' order by 1")
    assert [tuple(row.values()) for row in found] == [(1, _T + 2), (2, _T + 4)]
    # What the third load has read is not read again.
    assert starts == [str(_T + 4)]


async def test_the_clock_of_a_load_is_that_of_the_list_that_was_answered_first(warehouse: TestDatabase) -> None:
    items = _regions(Since("from", field="at", form="epoch"), "eu", "us", concurrent=2)
    us, is_first, done = {1: _T - 100, 2: _T - 90}, True, asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal us
        since, after = int(request.query.get("from", 0)), int(request.query.get("after", 0))
        if request.path.endswith("eu"):
            if is_first:
                await asyncio.wait_for(done.wait(), 5)
            await _page([{"id": 5, "at": _T - 7}] if since <= _T - 7 else [], at=_T + 1000)(request, writer)
            return
        found = [{"id": i, "at": at} for i, at in sorted(us.items()) if at >= since and i > after]
        if is_first and not after:
            await _page(found[:1], 1, _T)(request, writer)
            us = {1: _T + 2, 2: _T + 4}
        else:
            await _page(found, at=_T + 5)(request, writer)
            done.set()

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", _api(items))
        is_first = False
        await load(warehouse, server.url, "items", _api(items))
    found = rows(warehouse, "select id, at from raw_lists.items where region = 'us' order by 1")
    assert [tuple(row.values()) for row in found] == [(1, _T + 2), (2, _T + 4)]


@pytest.mark.parametrize("behind", [0, 600], ids=["clocks agree", "the API's is behind"])
async def test_a_stamp_in_the_future_does_not_move_an_ordered_cursor_past_the_api_s_clock(
    warehouse: TestDatabase, behind: int
) -> None:
    items = Endpoint("items", path="/v1/items", key_type="bigint", pagination=_NEXT,
                     cursor=Since("from", field="at", form="epoch_ms", ordered=True))  # fmt: skip

    def now() -> int:
        return int((datetime.now(UTC) - timedelta(seconds=behind)).timestamp() * 1000)

    records = [{"id": 1, "at": now() - 100}, {"id": 2, "at": now() + 86_400_000}]

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        since = int(request.query.get("from", 0))
        found = sorted((r for r in records if since <= r["at"]), key=lambda record: record["at"])
        page = _page(found, at=now() / 1000)
        if not since:
            # Written as soon as the page is made; its transfer takes a moment.
            records.append({"id": 3, "at": now()})
            await asyncio.sleep(0.3)
        await page(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", _api(items))
        await load(warehouse, server.url, "items", _api(items))
    assert keys(warehouse, "items") == [1, 2, 3]


async def test_values_of_a_partition_that_look_alike_when_escaped_have_cursors_of_their_own(
    warehouse: TestDatabase,
) -> None:
    items = Endpoint("items", path="/v1/items", params=(("region", "{region}"),), key=("region", "id"),
                     key_type="bigint", pagination=SinglePage(), partitions=(Partition("region", ("a/b", "a%2Fb")),),
                     cursor=Since("from", field="at", form="epoch"))  # fmt: skip
    lists = {"a/b": [500], "a%2Fb": [100]}

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        since = int(request.query.get("from", 0))
        found = [at for at in lists[request.query["region"]] if at >= since]
        await _page([{"id": at, "at": at} for at in found])(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", _api(items))
        lists["a%2Fb"].append(200)
        await load(warehouse, server.url, "items", _api(items))
    assert keys(warehouse, "items") == [100, 200, 500]


def test_a_list_is_limited_by_a_clock_of_the_load_that_read_it_or_of_one_before() -> None:
    clocks, began = Clocks(), datetime(2026, 1, 1, tzinfo=UTC)
    assert clocks.at(7) is None
    for hour in range(10_000):
        clocks = clocks.after(1 + 3 * hour, (began + timedelta(hours=hour)).isoformat())
    assert len(clocks.known) < 60
    assert clocks.at(0) is None
    for hour in range(10_000):
        limit = clocks.at(2 + 3 * hour)
        assert limit is not None
        behind = began + timedelta(hours=hour) - limit
        assert timedelta(0) <= behind <= timedelta(hours=10_000 - hour) / 4
    assert Clocks.of(clocks.facts()) == clocks
