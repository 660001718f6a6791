"""Lists that are read in parts: windows of time, partitions, and values of parents."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from flows.declare import Replace
from flows.kinds.api import (
    Api,
    ChangeToken,
    Cursor,
    Endpoint,
    Field,
    PageNumber,
    Parent,
    Partition,
    Since,
    SinglePage,
    When,
)
from flows.kinds.api.declared.parts import filled, places_in
from flows.kinds.api.http.limits import HttpLimits
from flows.values.errors import DeclarationError, ListUnfinished, RateLimited, SourceError
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Request, raw, response, serve, status
from tests.kinds.api.loading import keys, load, place
from tests.kinds.loading import open_quarantine, rows

# A quota that is used up ends a load, and says nothing of the API's health.
NO_WAIT = HttpLimits(wait_budget_seconds=0)
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass
class Log:
    """Records by time, listed between two ends, both included, `cap` a query at most, `size` a page."""

    records: list[dict[str, Any]]
    size: int = 3
    cap: int = 10_000
    broken: Callable[[Request], bool] = field(default=lambda request: False)
    at_work: int = 0
    most_at_work: int = 0

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await asyncio.sleep(0.002)
        self.at_work -= 1
        if self.broken(request):
            await status(429, "Retry-After: 5")(request, writer)
            return
        query = request.query
        begin, end = (int(query.get(name, usual)) for name, usual in (("from", "0"), ("to", "99999999999")))
        found = [record for record in self.records if begin <= int(record["at"]) <= end and self.fits(record, request)]
        at = int(query.get("after", 0))
        if at >= self.cap:
            await status(400)(request, writer)
            return
        shown = found[at : min(at + self.size, self.cap)]
        following = str(at + len(shown)) if at + len(shown) < len(found) else None
        writer.write(response(200, json.dumps({"data": shown, "total": len(found), "next": following}).encode()))

    def fits(self, record: dict[str, Any], request: Request) -> bool:
        """Whether the record is in the list that is asked for."""
        return "region" not in record or record["region"] == request.query.get("region", request.path.split("/")[-1])


def after(most: int, asked: list[Request]) -> Callable[[Request], bool]:
    """Whether more than so many requests have been sent."""
    return lambda request: len(asked) > most


def hourly(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": n, "at": int((_FIRST + timedelta(hours=n)).timestamp()), **more} for n in range(count)]


def windowed(window: str = "", *, cap: int | None = None, concurrent: int = 1, **more: Any) -> Api:
    cursor = Since("from", field="at", form="epoch", until="to", begin="1704067200", window=window, cap=cap)
    items = Endpoint("items", path="/v1/items", key_type="bigint", cursor=cursor, total="total",
                     pagination=Cursor("after", at="next"), concurrent=concurrent, **more)  # fmt: skip
    return Api("lists", connection="lists", endpoints=[items])


def windows(requests: list[Request]) -> list[tuple[int, int]]:
    """The windows that were asked for, in order."""
    found = [
        (int(request.query["from"]), int(request.query["to"])) for request in requests if "after" not in request.query
    ]
    return list(dict.fromkeys(found))


# -- windows


@pytest.mark.parametrize("concurrent", [1, 4])
async def test_a_list_is_read_window_by_window_without_a_gap(warehouse: TestDatabase, concurrent: int) -> None:
    log = Log(hourly(240))
    async with serve(forever=log) as server:
        first = await load(warehouse, server.url, "items", windowed("30 days", concurrent=concurrent))
        asked = windows(server.requests[:-1])
        log.records += [{"id": 900, "at": log.records[-1]["at"]}, {"id": 901, "at": log.records[-1]["at"] + 5}]
        server.requests.clear()
        second = await load(warehouse, server.url, "items", windowed("30 days", concurrent=concurrent))
        again = windows(server.requests[:-1])
    assert keys(warehouse, "items") == [*range(240), 900, 901]
    assert (first.warning, second.warning) == (None, None)
    assert asked[0][0] == 1704067200
    assert again[0][0] == log.records[239]["at"]
    for found in (asked, again):
        in_order = sorted(found)
        assert all(before[1] == after[0] for before, after in pairwise(in_order))
        assert in_order[-1][1] == pytest.approx(datetime.now(UTC).timestamp(), abs=60)
    assert (log.most_at_work > 1) == (concurrent > 1)


@pytest.mark.parametrize("concurrent", [1, 3])
async def test_a_load_that_dies_at_any_window_goes_on_there(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, concurrent: int
) -> None:
    monkeypatch.setenv("MEDALLION_API_GROUP_SECONDS", "0")
    log, api, asked, attempts = Log(hourly(200), size=20), windowed("1 year", concurrent=concurrent), 0, 0
    async with serve(forever=log) as server:
        for attempts in range(40):
            log.broken = after(asked + 1 + attempts % 3 + concurrent, server.requests)
            try:
                await load(warehouse, server.url, "items", api, limits=NO_WAIT)
                break
            except RateLimited:
                asked = len(server.requests)
    assert keys(warehouse, "items") == [*range(200)]
    assert (place(warehouse, "items"), attempts > 2) == (None, True)


async def test_a_window_with_more_than_a_query_returns_is_halved(warehouse: TestDatabase) -> None:
    log = Log(hourly(300), size=7, cap=20)
    async with serve(forever=log) as server:
        result = await load(warehouse, server.url, "items", windowed(cap=20))
        asked = [request.query for request in server.requests]
    assert keys(warehouse, "items") == [*range(300)]
    assert result.warning is None
    assert all(int(query.get("after", 0)) <= 21 for query in asked)


async def test_a_load_that_dies_between_halves_goes_on_there(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_API_GROUP_SECONDS", "0")
    log, asked = Log(hourly(300), size=7, cap=20), 0
    async with serve(forever=log) as server:
        for attempt in range(60):
            limit = asked + 25 + attempt % 5
            log.broken = after(limit, server.requests)
            try:
                await load(warehouse, server.url, "items", windowed(cap=20, concurrent=2), limits=NO_WAIT)
                break
            except RateLimited:
                asked = len(server.requests)
    assert keys(warehouse, "items") == [*range(300)]


async def test_a_window_that_cannot_be_halved_is_an_error_that_names_it(warehouse: TestDatabase) -> None:
    log = Log([{"id": n, "at": 1704067200} for n in range(30)], size=7, cap=20)
    async with serve(forever=log) as server:
        with pytest.raises(ListUnfinished, match="cannot be divided has 30 records, and a query returns 20"):
            await load(warehouse, server.url, "items", windowed(cap=20))


async def test_a_window_is_halved_when_the_api_says_that_it_is_too_long(warehouse: TestDatabase) -> None:
    """In the middle of its list: both halves are read from their beginning."""
    log = Log(hourly(100), size=7, cap=20)
    items = replace(windowed().table("items"), answers=(When(status=400, then="halve"),))
    async with serve(forever=log) as server:
        result = await load(warehouse, server.url, "items", replace(windowed(), endpoints=[items]))
        log.records += [{"id": n, "at": log.records[-1]["at"]} for n in range(100, 130)]
        with pytest.raises(ListUnfinished, match="declared as 'halve'"):
            await load(warehouse, server.url, "items", replace(windowed(), endpoints=[items]))
    assert keys(warehouse, "items")[:100] == [*range(100)]
    assert result.warning is None


async def test_a_window_that_ends_before_its_total_is_an_error(warehouse: TestDatabase) -> None:
    """Without its cap declared, the 21st record of a window is refused: here as the end of the list."""
    log = Log(hourly(100), size=7, cap=20)
    items = replace(windowed("3 years").table("items"), answers=(When(status=400, then="end"),))
    async with serve(forever=log) as server:
        with pytest.raises(ListUnfinished, match="20 of 100 records"):
            await load(warehouse, server.url, "items", replace(windowed(), endpoints=[items]))


# -- partitions


def regional(*, cursor: Since | None = None, **more: Any) -> Api:
    items = Endpoint("items", path="/v1/items/{region}", key=("region", "id"), key_type="bigint",
                     partitions=(Partition("region", ("eu", "us")),), cursor=cursor,
                     pagination=Cursor("after", at="next"), **more)  # fmt: skip
    return Api("lists", connection="lists", endpoints=[items])


def held(warehouse: TestDatabase) -> list[tuple[str, int]]:
    found = rows(warehouse, "select region, id from raw_lists.items where _deleted_at is null order by region, id")
    return [(row["region"], row["id"]) for row in found]


async def test_each_partition_has_its_list_and_its_column(warehouse: TestDatabase) -> None:
    log = Log([*hourly(5, region="eu"), *hourly(4, region="us")])
    async with serve(forever=log) as server:
        result = await load(warehouse, server.url, "items", regional(total="total", load=Replace()))
        log.records[:] = [record for record in log.records if (record["region"], record["id"]) != ("eu", 2)]
        await load(warehouse, server.url, "items", regional(total="total", load=Replace()))
    assert held(warehouse) == [*(("eu", n) for n in (0, 1, 3, 4)), *(("us", n) for n in range(4))]
    assert (result.counts.rows_inserted, result.warning) == (9, None)


async def test_each_partition_has_its_own_cursor_and_a_new_one_is_read_from_its_beginning(
    warehouse: TestDatabase,
) -> None:
    """The cursor of the fastest one would skip what arrives late in the others."""
    cursor = Since("from", field="at", form="epoch")
    log = Log([*hourly(5, region="eu"), *hourly(400, region="us"), *hourly(3, region="asia")])
    async with serve(forever=log) as server:
        await load(warehouse, server.url, "items", regional(cursor=cursor))
        log.records += [{"id": 70, "at": log.records[4]["at"] + 1, "region": "eu"}]
        server.requests.clear()
        await load(warehouse, server.url, "items", regional(cursor=cursor))
        asked = {request.path: request.query["from"] for request in server.requests}
        assert asked == {"/v1/items/eu": str(log.records[4]["at"]), "/v1/items/us": str(log.records[404]["at"])}
        wider = regional(cursor=cursor)
        items = replace(wider.table("items"), partitions=(Partition("region", ("asia", "eu", "us")),))
        server.requests.clear()
        await load(warehouse, server.url, "items", replace(wider, endpoints=[items]))
        assert "from" not in server.requests[0].query
    assert held(warehouse) == [
        *(("asia", n) for n in range(3)), *(("eu", n) for n in (*range(5), 70)), *(("us", n) for n in range(400)),
    ]  # fmt: skip


async def test_a_cursor_that_a_person_sets_is_that_of_all_partitions(warehouse: TestDatabase) -> None:
    api = regional(cursor=Since("from", field="at", form="epoch"))
    async with serve(forever=Log([*hourly(5, region="eu"), *hourly(9, region="us")])) as server:
        await load(warehouse, server.url, "items", api)
        with psycopg.connect(warehouse.url("admin")) as admin:
            admin.execute(
                """update ops.cursors set cursor_value = '1704074400', identity = '{"set": {"by": "a person"}}'"""
            )
        server.requests.clear()
        await load(warehouse, server.url, "items", api)
        assert {request.query["from"] for request in server.requests} == {"1704074400"}


async def test_a_load_that_dies_in_any_partition_goes_on_in_its_list(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_API_GROUP_SECONDS", "0")
    log, asked = Log([*hourly(20, region="eu"), *hourly(20, region="us")]), 0
    api = regional(cursor=Since("from", field="at", form="epoch"), concurrent=2)
    async with serve(forever=log) as server:
        for attempt in range(40):
            log.broken = after(asked + 3 + attempt % 3, server.requests)
            try:
                await load(warehouse, server.url, "items", api, limits=NO_WAIT)
                break
            except RateLimited:
                asked = len(server.requests)
        log.broken = lambda request: False
        server.requests.clear()
        await load(warehouse, server.url, "items", api)
        assert {request.query["from"] for request in server.requests} == {str(log.records[19]["at"])}
    assert held(warehouse) == [(region, n) for region in ("eu", "us") for n in range(20)]


async def test_partitions_multiply_and_go_into_parameters_and_bodies(warehouse: TestDatabase) -> None:
    items = Endpoint(
        "items", path="/v1/items", key=("kind", "year", "id"), params=(("kind", "{kind}"),), pagination=SinglePage(),
        body={"filter": {"year": "{year}", "text": "in {year} only", "query": "{ items { id {year} } }"}},
        partitions=(Partition("kind", ("a", "b")), Partition("year", ("2023", "2024"), type="bigint")),
    )  # fmt: skip
    asked: list[tuple[str, Any]] = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        asked.append((request.query["kind"], json.loads(request.body)["filter"]))
        writer.write(response(200, json.dumps({"data": [{"id": "x"}]}).encode()))

    async with serve(forever=answer) as server:
        declared = Api("lists", connection="lists", endpoints=[items], concurrent=1)
        await load(warehouse, server.url, "items", declared)
    assert asked == [
        (kind, {"year": year, "text": f"in {year} only", "query": "{ items { id {year} } }"})
        for kind in ("a", "b") for year in (2023, 2024)
    ]  # fmt: skip
    found = rows(warehouse, "select kind, year, id from raw_lists.items order by 1, 2")
    assert [tuple(row.values()) for row in found] == [(k, y, "x") for k in ("a", "b") for y in (2023, 2024)]


async def test_a_partition_can_be_skipped_and_a_record_that_raw_cannot_hold_keeps_its_key(
    warehouse: TestDatabase,
) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        body = b'{"data": [{"id": 1}, {"id": 2, "a": "\\u0000"}], "next": null}'
        writer.write(response(403, b"{}") if request.path.endswith("us") else response(200, body))

    api = regional(answers=(When(status=403, then="skip"),), max_quarantined=0.9)
    async with serve(forever=answer) as server:
        result = await load(warehouse, server.url, "items", api)
    assert held(warehouse) == [("eu", 1)]
    assert result.warning is None
    assert [row["row_key"] for row in open_quarantine(warehouse)] == [{"region": "eu", "id": "2"}] or open_quarantine(
        warehouse
    )


def test_a_text_with_other_braces_is_no_template() -> None:
    assert places_in("{a} and {b}") == ("a", "b")
    assert places_in({"query": "{ a { b } }", "x": ["{c}"]}) == ("c",)
    assert places_in('{"a": 1}') == ()
    assert filled({"a": "{n}", "b": "v{n}", "c": "{m}"}, {"n": 7}) == {"a": 7, "b": "v7", "c": "{m}"}


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ({"path": "/items"}, "{region} into the path"),
        ({"path": "/{region}/{id}"}, "needs a parent"),
        ({"path": "/{region}", "etag": True}, "partitions or these"),
        ({"path": "/{region}", "total": "t", "cursor": Since("a", "at", missing="exclude")}, "no total"),
        ({"path": "/{region}", "answers": (When(status=400, then="halve"),)}, "until= and begin="),
        ({"path": "/{region}", "partitions": (Partition("region", ("a",)), Partition("region", ("b",)))}, "region"),
    ],
)
def test_partitions_that_contradict_the_endpoint_are_refused(written: dict[str, Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=fix):
        Endpoint("items", **({"partitions": (Partition("region", ("eu",)),)} | written))
    with pytest.raises(DeclarationError, match="different texts"):
        Partition("region", ("eu", "eu"))
    with pytest.raises(DeclarationError, match="declare total"):
        Endpoint("items", path="/items", cursor=Since("a", "at", until="b", begin="2020-01-01", cap=10))


async def test_a_partition_whose_list_changes_while_it_is_read_is_read_once_more(warehouse: TestDatabase) -> None:
    """It is this partition that is asked for changes, and not the first one."""
    api = regional(cursor=Since("from", field="at", form="epoch"))
    items = replace(api.table("items"), pagination=PageNumber(), concurrent=1)
    later = int((datetime.now(UTC) + timedelta(minutes=1)).timestamp())
    listed = {"eu": [{"id": n, "at": n} for n in range(6)], "us": [{"id": n, "at": n} for n in range(7)]}

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        region, number = request.path.split("/")[-1], int(request.query["page"])
        if region == "us" and number == 2:
            listed["us"] = [*(one for one in listed["us"] if one["id"] != 0), {"id": 0, "at": later}]
        found = [one for one in listed[region] if int(request.query.get("from", 0)) <= one["at"]]
        writer.write(response(200, json.dumps({"data": found[(number - 1) * 3 : number * 3]}).encode()))

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", replace(api, endpoints=[items]))
    assert held(warehouse) == [*(("eu", n) for n in range(6)), *(("us", n) for n in range(7))]


# -- parents

_SHOP = Api("lists", connection="lists", pagination=SinglePage(), endpoints=[
    Endpoint("orders", path="/orders", key_type="bigint"),
    Endpoint("refunds", path="/refunds", params=(("customer", "{customer}"),), body={"order": {"id": "{id}"}},
             key=("order_id", "id"), key_type="bigint",
             parent=Parent("orders", column="order_id", type="bigint", fields=(Field("customer", at="by.id"),))),
    Endpoint("lines", path="/orders/{order_id}/refunds/{id}/lines", key=("refund_id", "id"), key_type="bigint",
             parent=Parent("refunds", column="order_id", type="bigint",
                           fields=(Field("refund_id", at="id", type="bigint"),))),
])  # fmt: skip


async def _shop(request: Request, writer: asyncio.StreamWriter) -> None:
    parts = request.path.split("/")
    if request.path == "/orders":
        data: list[dict[str, Any]] = [{"id": n, "by": {"id": f"c{n}"}} for n in (1, 2, 3)]
        data[2] = {"id": 3, "by": None}
    elif request.path == "/refunds":
        order = json.loads(request.body)["order"]["id"]
        assert request.query == {"customer": f"c{order}"}
        assert isinstance(order, int)
        data = [{"id": order * 10 + n} for n in (1, 2)]
    else:
        data = [{"id": int(parts[4]) * 10 + int(parts[2])}]
    writer.write(response(200, json.dumps({"data": data}).encode()))


async def test_values_of_a_parent_go_into_requests_and_into_the_rows_of_its_children(warehouse: TestDatabase) -> None:
    async with serve(forever=_shop) as server:
        await load(warehouse, server.url, "orders", _SHOP)
        result = await load(warehouse, server.url, "refunds", _SHOP)
    found = rows(warehouse, "select order_id, id, customer from raw_lists.refunds order by 2")
    assert [tuple(row.values()) for row in found] == [(1, 11, "c1"), (1, 12, "c1"), (2, 21, "c2"), (2, 22, "c2")]
    assert "some parents could not be read (an invalid list for 1)" in str(result.warning)


async def test_values_go_into_headers_and_one_that_cannot_is_refused_alone(warehouse: TestDatabase) -> None:
    """A line break in a value would be another header."""
    api = Api("lists", connection="lists", headers=(("X-Tenant", "all"), ("X-Kept", "1")), pagination=SinglePage(),
              endpoints=[
                  Endpoint("orders", path="/orders", key_type="bigint"),
                  Endpoint("lines", path="/orders/{id}/lines", headers=(("X-Tenant", "{shop}"), ("X-Kind", "{kind}")),
                           key=("order_id", "kind", "id"), partitions=(Partition("kind", ("a", "b")),), concurrent=1,
                           parent=Parent("orders", column="order_id", type="bigint", fields=(Field("shop"),))),
              ])  # fmt: skip
    asked = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        data = [{"id": 1, "shop": "s1"}, {"id": 2, "shop": "s2\r\nX-Kept: 2"}, {"id": 3, "shop": "sé"}]
        if request.path != "/orders":
            asked.append(tuple(request.headers[f"x-{name}"] for name in ("tenant", "kind", "kept")))
            data = [{"id": 7}]
        writer.write(response(200, json.dumps({"data": data}).encode()))

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "orders", api)
        result = await load(warehouse, server.url, "lines", api)
    assert asked == [("s1", "a", "1"), ("s1", "b", "1")]
    assert "some parents could not be read (an invalid list for 4)" in str(result.warning)


def test_a_header_is_no_credential() -> None:
    for headers in ((("authorization", "x"),), (("Cookie", "x"),), (("X Y", "x"),)):
        with pytest.raises(DeclarationError, match=r"credential|not the name of a header"):
            Endpoint("items", path="/items", headers=headers)
        with pytest.raises(DeclarationError, match=r"credential|not the name of a header"):
            Api("lists", connection="lists", endpoints=[Endpoint("items", path="/items")], headers=headers)


async def test_a_parent_may_have_a_parent(warehouse: TestDatabase) -> None:
    async with serve(forever=_shop) as server:
        for name in ("orders", "refunds", "lines"):
            await load(warehouse, server.url, name, _SHOP)
    found = rows(warehouse, "select order_id, refund_id, id from raw_lists.lines order by 3")
    assert [tuple(row.values()) for row in found] == [(1, 11, 111), (1, 12, 121), (2, 21, 212), (2, 22, 222)]


def test_a_circle_of_parents_is_refused_and_so_is_a_name_that_nothing_has() -> None:
    endpoints = [
        Endpoint("a", path="/b/{id}/a", parent=Parent("b", column="b_id")),
        Endpoint("b", path="/a/{id}/b", parent=Parent("a", column="a_id")),
    ]
    with pytest.raises(DeclarationError, match="below itself"):
        Api("lists", connection="lists", endpoints=endpoints)
    with pytest.raises(DeclarationError, match="declare it among fields="):
        Api("lists", connection="lists", endpoints=[
            Endpoint("a", path="/a"), Endpoint("b", path="/a/{id}/{kind}", parent=Parent("a", column="a_id")),
        ])  # fmt: skip


async def test_numbered_pages_of_partitions_are_read_by_their_totals(warehouse: TestDatabase) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        number, count = int(request.query["page"]), 7 if request.path.endswith("eu") else 2
        data = [{"id": n} for n in range(count)][(number - 1) * 3 : number * 3]
        writer.write(response(200, json.dumps({"data": data, "total": count}).encode()))

    api = regional(total="total")
    items = replace(api.table("items"), pagination=PageNumber())
    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", replace(api, endpoints=[items]))
    assert held(warehouse) == [*(("eu", n) for n in range(7)), *(("us", n) for n in range(2))]


# -- a cursor per parent


@dataclass
class Chats:
    """Channels, and messages of each since a time."""

    messages: dict[str, list[int]]
    refused: str = ""

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        channel, oldest = request.query.get("channel"), int(request.query.get("oldest", 0))
        if channel is None:
            data: list[dict[str, Any]] = [{"id": name} for name in self.messages]
        elif channel == self.refused:
            await status(403)(request, writer)
            return
        else:
            data = [{"ts": ts} for ts in self.messages[channel] if ts >= oldest]
        writer.write(response(200, json.dumps({"data": data}).encode()))


_CHATS = Api("lists", connection="lists", pagination=SinglePage(), endpoints=[
    Endpoint("channels", path="/channels"),
    Endpoint("messages", path="/messages", params=(("channel", "{id}"),),
             key=(Field("channel"), Field("ts", type="bigint")),
             parent=Parent("channels", column="channel", every=True), concurrent=1,
             cursor=Since("oldest", field="ts", form="epoch", column="at")),
])  # fmt: skip


async def test_each_parent_has_its_own_cursor(warehouse: TestDatabase) -> None:
    chats = Chats({"a": [100, 200], "b": [5000], "c": []})
    async with serve(forever=chats) as server:

        async def asked() -> dict[str, str | None]:
            server.requests.clear()
            await load(warehouse, server.url, "channels", _CHATS)
            await load(warehouse, server.url, "messages", _CHATS)
            queries = [request.query for request in server.requests if "channel" in request.query]
            return {query["channel"]: query.get("oldest") for query in queries}

        assert await asked() == {"a": None, "b": None, "c": None}
        chats.messages |= {"a": [100, 200, 150, 300], "c": [7], "d": [8]}
        assert await asked() == {"a": "200", "b": "5000", "c": None, "d": None}
        chats.refused = "b"
        chats.messages["b"].append(6000)
        assert await asked() == {"a": "300", "b": "5000", "c": "7", "d": "8"}
        chats.refused = ""
        assert await asked() == {"a": "300", "b": "5000", "c": "7", "d": "8"}
    found = rows(warehouse, "select channel, ts from raw_lists.messages where _deleted_at is null order by 1, 2")
    assert [tuple(row.values()) for row in found] == [
        ("a", 100), ("a", 200), ("a", 300), ("b", 5000), ("b", 6000), ("c", 7), ("d", 8),
    ]  # fmt: skip


async def test_a_parent_s_cursor_does_not_pass_the_api_s_clock_when_the_load_began(warehouse: TestDatabase) -> None:
    """A message with a time in the future would hide those that come before it."""
    future = int((datetime.now(UTC) + timedelta(days=1)).timestamp())
    chats = Chats({"a": [100, future]})
    async with serve(forever=chats) as server:
        await load(warehouse, server.url, "channels", _CHATS)
        await load(warehouse, server.url, "messages", _CHATS)
        await load(warehouse, server.url, "messages", _CHATS)
        assert 100 < int(server.requests[-1].query["oldest"]) <= datetime.now(UTC).timestamp() + 1


# -- tombstones by value, and changes behind a URL


async def test_a_tombstone_may_be_a_value_and_changes_a_url(warehouse: TestDatabase) -> None:
    items = Endpoint("items", path="/v1/items", key_type="bigint", pagination=Cursor("after", at="next"),
                     cursor=ChangeToken("", at="delta"), deleted="status=gone")  # fmt: skip
    api = Api("lists", connection="lists", endpoints=[items])

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        data, body = [{"id": n, "status": "here"} for n in (1, 2, 3)], {}
        if request.query.get("token") == "t1":
            data = [{"id": 2, "status": "gone"}]
        body = {"data": data, "next": None, "delta": f"http://{request.headers['host']}/v1/items?token=t1"}
        writer.write(response(200, json.dumps(body).encode()))

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", api)
        await load(warehouse, server.url, "items", api)
        assert server.targets == ["/v1/items", "/v1/items?token=t1"]
    assert keys(warehouse, "items") == [1, 3]
    assert keys(warehouse, "items", "_deleted_at is not null") == [2]


# -- partitions of parents


async def test_each_parent_has_a_list_per_partition_with_its_own_cursor(warehouse: TestDatabase) -> None:
    api = Api("lists", connection="lists", pagination=SinglePage(), endpoints=[
        Endpoint("channels", path="/channels"),
        Endpoint("messages", path="/messages", params=(("channel", "{id}"), ("kind", "{kind}")),
                 key=("channel", "kind", "ts"), partitions=(Partition("kind", ("m", "f")),),
                 parent=Parent("channels", column="channel", every=True), concurrent=1,
                 cursor=Since("oldest", field="ts", form="epoch", column="at")),
    ])  # fmt: skip
    stamps = {("a", "m"): [100, 200], ("a", "f"): [50], ("b", "m"): [], ("b", "f"): [7]}
    asked: dict[tuple[str, str], str | None] = {}

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        query = request.query
        data: list[dict[str, Any]] = [{"id": "a"}, {"id": "b"}]
        if query:
            asked[query["channel"], query["kind"]] = query.get("oldest")
            data = [{"ts": ts} for ts in stamps[query["channel"], query["kind"]]]
        writer.write(response(200, json.dumps({"data": data}).encode()))

    async with serve(forever=answer) as server:
        for name in ("channels", "messages", "messages"):
            await load(warehouse, server.url, name, api)
    assert asked == {("a", "m"): "200", ("a", "f"): "50", ("b", "m"): None, ("b", "f"): "7"}
    found = rows(warehouse, "select channel, kind, ts from raw_lists.messages order by 1, 2, 3")
    assert [tuple(row.values()) for row in found] == [
        ("a", "f", "50"), ("a", "m", "100"), ("a", "m", "200"), ("b", "f", "7"),
    ]  # fmt: skip


def test_lists_that_raw_does_not_tell_apart_have_no_cursor() -> None:
    def endpoints(*fields: Field) -> list[Endpoint]:
        return [
            Endpoint("a", path="/a", key=("x", "y")),
            Endpoint("b", path="/a/{x}/{y}", parent=Parent("a", column="x_of", fields=fields),
                     cursor=Since("since", field="at")),
        ]  # fmt: skip

    with pytest.raises(DeclarationError, match="would share a cursor"):
        Api("lists", connection="lists", endpoints=endpoints())
    Api("lists", connection="lists", endpoints=endpoints(Field("y")))


# -- what is skipped


async def test_a_list_without_parts_cannot_be_skipped_and_a_replace_keeps_what_was(warehouse: TestDatabase) -> None:
    skip = When(status=403, then="skip")
    items = Endpoint("items", path="/v1/items", key_type="bigint", load=Replace(), pagination=SinglePage())
    api = Api("lists", connection="lists", endpoints=[items], answers=(skip,))
    async with serve(forever=status(403)) as server:
        with pytest.raises(SourceError, match="neither a parent nor partitions"):
            await load(warehouse, server.url, "items", api)
    log = Log([*hourly(3, region="eu"), *hourly(2, region="us")])
    parted = regional(load=Replace(), answers=(skip,))

    async def without_us(request: Request, writer: asyncio.StreamWriter) -> None:
        await (status(403) if request.path.endswith("us") else log)(request, writer)

    async with serve(forever=log) as server:
        await load(warehouse, server.url, "items", parted)
    async with serve(forever=without_us) as server:
        result = await load(warehouse, server.url, "items", parted)
    assert held(warehouse) == [*(("eu", n) for n in range(3)), *(("us", n) for n in range(2))]
    assert "1 lists were skipped as declared" in str(result.warning)


@pytest.mark.parametrize("refused", ["a", "b"])
async def test_a_parent_with_a_list_that_was_refused_is_requested_again_though_another_was_read(
    warehouse: TestDatabase, refused: str
) -> None:
    parents = Endpoint("orders", path="/orders", key_type="bigint", pagination=SinglePage())
    children = Endpoint("lines", path="/orders/{id}/{kind}", key=("order_id", "kind", "id"), key_type="bigint",
                        pagination=SinglePage(), parent=Parent("orders", column="order_id", type="bigint"),
                        partitions=(Partition("kind", ("a", "b")),))  # fmt: skip
    api = Api("lists", connection="lists", endpoints=[parents, children])
    broken = True

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if broken and request.path == f"/orders/1/{refused}":
            await status(403)(request, writer)
            return
        found = [{"id": 1}, {"id": 2}] if request.path == "/orders" else [{"id": 7}]
        writer.write(response(200, json.dumps({"data": found}).encode()))

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "orders", api)
        for _ in range(2):  # the second load requests it again, and is refused again
            await load(warehouse, server.url, "lines", api)
        broken = False
        await load(warehouse, server.url, "lines", api)
        server.requests.clear()
        await load(warehouse, server.url, "lines", api)
    found = rows(warehouse, "select order_id, kind from raw_lists.lines order by 1, 2")
    assert [tuple(row.values()) for row in found] == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert server.requests == []


async def test_a_total_that_the_api_gives_for_short_windows_only_is_compared_for_each(warehouse: TestDatabase) -> None:
    day = 86_400
    begin = int((datetime.now(UTC) - timedelta(days=100)).timestamp())
    items = Endpoint("items", path="/v1/items", key_type="bigint", total="total", pagination=SinglePage(),
                     cursor=Since("from", field="at", form="epoch", until="to", begin=str(begin)),
                     answers=(When(status=400, then="halve"),))  # fmt: skip
    records = [{"id": n, "at": begin + n * day} for n in range(100)]

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        low, high = int(request.query["from"]), int(request.query["to"])
        found = [record for record in records if low <= record["at"] <= high]
        body = json.dumps({"data": found, "total": len(found)}).encode()
        writer.write(response(400 if high - low > 40 * day else 200, body))

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", Api("lists", connection="lists", endpoints=[items]))
    assert keys(warehouse, "items") == [*range(100)]


async def test_a_window_whose_total_is_capped_like_its_list_is_halved(warehouse: TestDatabase) -> None:
    begin = int((datetime.now(UTC) - timedelta(days=10)).timestamp())
    cursor = Since("from", field="at", form="epoch", until="to", begin=str(begin), cap=20)
    endpoint = Endpoint("items", path="/x", key_type="bigint", total="total", cursor=cursor,
                        pagination=Cursor("after", at="next"))  # fmt: skip
    declared = Api("lists", connection="lists", endpoints=[endpoint])

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        low, high, at = int(request.query["from"]), int(request.query["to"]), int(request.query.get("after", 0))
        every = [{"id": n, "at": begin + n * 3600} for n in range(30) if low <= begin + n * 3600 <= high][:20]
        following = at + 7 if at + 7 < len(every) else None
        body = {"data": every[at : at + 7], "total": len(every), "next": following}
        await raw(response(200, json.dumps(body).encode()))(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", declared)
    assert keys(warehouse, "items") == list(range(30))
