"""Reading an API that behaves."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from flows.kinds.api.declared.pagination import SinglePage
from flows.kinds.api.declared.sent import ApiKeyHeader, ApiKeyQuery, NoAuth
from flows.kinds.api.http.pace import Pace
from flows.kinds.api.pages.endpoint import count_records, read_pages
from flows.values.errors import ConfigurationError, DeclarationError, ListUnfinished
from tests.kinds.api.http_servers import json_page, raw, response, serve
from tests.kinds.api.rest_reading import ITEMS, KEY, QUICK, api, connection, read, values


def query(target: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(target).query, keep_blank_values=True)


async def test_pages_are_walked_to_the_end_in_order() -> None:
    async with serve(
        json_page([1, 2], following="/v1/items?after=b", total=5),
        json_page([3, 4], following="?after=c", total=5),
        json_page([5], total=5),
    ) as server:
        pages = await read(server.url)
    assert values(pages) == [1, 2, 3, 4, 5]
    assert [page.number for page in pages] == [1, 2, 3]
    assert [page.total for page in pages] == [5, 5, 5]
    assert server.targets == ["/v1/items", "/v1/items?after=b", "/v1/items?after=c"]
    assert server.connections == 1, "one connection is kept for the whole read"


async def test_an_empty_list_is_one_page_without_records() -> None:
    async with serve(json_page([])) as server:
        pages = await read(server.url)
    assert [page.records for page in pages] == [[]]


async def test_a_page_holds_the_bytes_that_the_source_sent() -> None:
    """Whoever decodes and encodes again loses digits, the order of fields and the spelling of escapes."""
    records = [
        b'{"id": 1, "price": 10.00, "big": 123456789012345678901234567890, "e": 1E+2}',
        b'{ "z":1,\n "a" : "\\u00e9\\/\xc3\xa9", "z":2 }',
        b"null",
        b"[1 , 2]",
        b'"text"',
    ]
    body = b'{"meta":{"total":5} , "data" : [ ' + b" ,\r\n ".join(records) + b" ] }"
    async with serve(raw(response(200, body))) as server:
        pages = await read(server.url)
    assert pages[0].records == records
    assert pages[0].received_bytes == len(body)


@pytest.mark.parametrize(
    "record",
    [
        rb'{"id": 1, "name": "\ud83d alone", "pair": "\ud83d\ude00", "written": "\\ud83d \\\\ud800"}',
        rb'{"id": 1, "name": "\uDC00"}',
        rb'{"id": 1, "name": "nul \u0000"}',
        b'{"id": 1, "name": "latin \xe9"}',
        b'{"id": 1, "name": "surrogate \xed\xa0\x80"}',
    ],
)
async def test_a_record_that_the_warehouse_cannot_hold_does_not_take_its_page_along(record: bytes) -> None:
    """The parser refuses a lone surrogate anywhere in a body: the record goes on as it is, for the door to judge."""
    body = b'{"data": [{"id": 0}, ' + record + b', {"id": 2}], "meta": {"total": null}}'
    async with serve(raw(response(200, body))) as server:
        pages = await read(server.url)
    assert pages[0].records == [b'{"id": 0}', record, b'{"id": 2}']


async def test_records_and_total_are_found_where_the_endpoint_says() -> None:
    deep = replace(ITEMS, records="result.items", total="result.paging.count")
    body = b'{"result": {"items": [1], "paging": {"count": 1}}}'
    async with serve(raw(response(200, body))) as server:
        pages = await read(server.url, deep)
    assert (values(pages), pages[0].total) == ([1], 1)


async def test_the_body_itself_may_be_the_list() -> None:
    async with serve(raw(response(200, b"\xef\xbb\xbf [1, 2]\n"))) as server:
        assert values(await read(server.url, replace(ITEMS, records="", total=None))) == [1, 2]


async def test_page_size_params_and_since_go_out_as_declared() -> None:
    endpoint = replace(ITEMS, page_size=250, page_size_parameter="per_page", params=(("status", "any & all+"),))
    async with serve(json_page([])) as server:
        await read(server.url, endpoint, since="2017-12-30T00:00:00+00:00")
    assert query(server.targets[0]) == [
        ("status", "any & all+"),
        ("per_page", "250"),
        ("updated_since", "2017-12-30T00:00:00Z"),
    ]
    assert "all%2B" in server.targets[0], "a bare + in a query is a space"


async def test_the_cursor_in_a_next_link_is_sent_back_byte_for_byte() -> None:
    target = "/v1/items?after=a%2Bb%2F%3D%3d&limit=2&sig=x+y%20z~!*"
    async with serve(json_page([1], following=target), json_page([2])) as server:
        await read(server.url)
    assert server.targets[1] == target


async def test_a_base_url_may_have_a_path_of_its_own() -> None:
    async with serve(json_page([])) as server:
        await read(server.url + "/shop/api/")
    assert server.targets == ["/shop/api/v1/items"]


async def test_a_single_page_does_not_follow_links_and_is_not_taken_for_the_whole_list() -> None:
    page = json_page([1], following="/v1/items?page=2")
    async with serve(page, page) as server:
        with pytest.raises(ListUnfinished, match="in the Link header that there is more"):
            await read(server.url, declared=api(pagination=SinglePage()))
        pages = await read(server.url, declared=api(pagination=SinglePage(first=True)))
    assert (values(pages), pages[-1].is_proven) == ([1], False)


async def test_a_start_without_a_declared_cursor_is_refused() -> None:
    with pytest.raises(DeclarationError, match="without a cursor"):
        await read("http://127.0.0.1:1", replace(ITEMS, cursor=None), since="2017-12-30")


async def test_the_count_of_records_costs_one_record_and_ignores_the_cursor() -> None:
    endpoint = replace(ITEMS, page_size=500)
    async with serve(json_page([1], following="/v1/items?after=1", total=2102)) as server:
        assert await count_records(api(endpoint), endpoint, connection(server.url), limits=QUICK) == 2102
    assert query(server.targets[0]) == [("limit", "1")]


async def test_an_api_without_a_count_says_none() -> None:
    silent = replace(ITEMS, total=None)
    async with serve(json_page([], total=None)) as server:
        assert await count_records(api(), ITEMS, connection(server.url), limits=QUICK) is None
        assert await count_records(api(silent), silent, connection(server.url), limits=QUICK) is None
    assert len(server.requests) == 1


async def test_the_key_goes_out_in_the_declared_header_on_every_page() -> None:
    async with serve(json_page([1], following="?p=2"), json_page([2])) as server:
        await read(server.url, declared=api(auth=ApiKeyHeader("X-Shop-Token")))
    assert [request.headers["x-shop-token"] for request in server.requests] == [KEY, KEY]
    assert "x-api-key" not in server.requests[0].headers


async def test_a_query_key_goes_out_on_every_page_and_only_once() -> None:
    """An API may put the key it was given into its own next links: doubled, many refuse it."""
    async with serve(
        json_page([1], following=f"/v1/items?p=2%2F&key=old-{KEY}&x=1"),
        json_page([2], following="?p=3"),
        json_page([3]),
    ) as server:
        await read(server.url, declared=api(auth=ApiKeyQuery("key")), key="s&cr=t")
    assert server.targets == [
        "/v1/items?key=s%26cr%3Dt",
        "/v1/items?p=2%2F&x=1&key=s%26cr%3Dt",
        "/v1/items?p=3&key=s%26cr%3Dt",
    ]


async def test_an_open_api_gets_no_key() -> None:
    async with serve(json_page([])) as server:
        await read(server.url, declared=api(auth=NoAuth()))
    assert KEY not in str(server.requests)


@pytest.mark.parametrize("key", [None, "", "two words", "line\nbreak", "ключ"])
async def test_a_key_that_cannot_be_sent_is_refused_before_any_request(key: str | None) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        await read("http://127.0.0.1:1", key=key)
    assert "MEDALLION_SOURCE_MARKETING_KEY" in str(refusal.value)
    assert not key or key not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["", "api.example.com", "ftp://x", "http://", "http://a:b@127.0.0.1", "http://127.0.0.1?key=s", "http://[::1"],
)
async def test_a_base_url_that_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MEDALLION_SOURCE_MARKETING_URL"):
        await read(url)


async def test_a_declared_rate_holds_across_the_endpoints_of_an_api() -> None:
    """Two reads side by side share one pace: eight requests at 40 a second need at least 7/40 s."""
    declared = api(rate=40, name="paced")
    async with serve(forever=json_page([])) as server:
        began = time.monotonic()
        await asyncio.gather(*(read(server.url, declared=declared) for _ in range(8)))
        assert time.monotonic() - began >= 7 / 40
    assert len(server.requests) == 8


def test_a_pace_allows_no_burst_after_a_pause() -> None:
    pace = Pace(rate=10)
    assert [pace.reserve(100.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    assert pace.reserve(200.0) == 0.0
    assert pace.reserve(200.0) == pytest.approx(0.1)


async def test_leaving_early_closes_the_connection() -> None:
    async with (
        serve(json_page([1], following="?p=2")) as server,
        aclosing(read_pages(api(), ITEMS, connection(server.url), limits=QUICK)) as pages,
    ):
        async for _ in pages:
            break
    assert len(server.requests) == 1
