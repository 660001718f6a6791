"""Every declared style of paging, to its end and no further, over lists that hold still and lists that do not."""

import json
from dataclasses import replace

import pytest

from flows.kinds.api import Cursor, Endpoint, NextHeader, NextUrl, Offset, PageNumber, Since
from flows.kinds.api.declared.pagination import Pagination
from flows.kinds.api.pages.endpoint import read_pages
from flows.kinds.api.pages.page import Page, Start
from flows.values.errors import DeclarationError, PlaceLost, SourceError
from tests.kinds.api.http_lists import Listing
from tests.kinds.api.http_servers import Answer, json_page, raw, response, serve, status
from tests.kinds.api.rest_reading import QUICK, api, connection, read

ITEMS = Endpoint("items", path="/v1/items")


def seven(**options: object) -> Listing:
    return Listing([{"id": n} for n in range(1, 8)], **options)  # type: ignore[arg-type]


def identities(pages: list[Page]) -> list[object]:
    return [json.loads(record)["id"] for page in pages for record in page.records]


@pytest.mark.parametrize(
    ("style", "answer", "endpoint", "requests"),
    [
        (PageNumber(), seven().by_page(), replace(ITEMS, total="total"), 4),
        (PageNumber(pages="pages"), seven().by_page(), ITEMS, 4),
        (PageNumber(pages="pages"), seven().by_page(), replace(ITEMS, total="total"), 3),
        (PageNumber(), seven().by_page(), ITEMS, 4),
        (PageNumber(past_end=404), seven().by_page(past_end=404), ITEMS, 4),
        (Offset(overlap=0), seven().by_offset(), replace(ITEMS, total="total"), 4),
        (Offset(overlap=0), seven().by_offset(), ITEMS, 4),
        (Offset(), seven().by_offset(), replace(ITEMS, total="total"), 4),
        (Offset(overlap=2), seven().by_offset(), ITEMS, 6),
        (Cursor("after", at="paging.next", more="paging.more"), seven().by_token(), ITEMS, 3),
        (Cursor("after", at="paging.next", more="paging.more"), seven().by_token(), replace(ITEMS, body={"q": "*"}), 3),
        (NextUrl("link[relation=next].url"), seven().by_token("url"), ITEMS, 3),
        (NextHeader("X-Next", parameter="after"), seven().by_token("header"), ITEMS, 3),
        (NextHeader("Next-Page"), seven().by_token("next-header"), ITEMS, 3),
    ],
)
async def test_each_style_reads_each_record_once_and_stops_where_it_says(
    style: Pagination, answer: Answer, endpoint: Endpoint, requests: int
) -> None:
    """The last page is shorter than the others, and no style takes a short page for the end: servers cap pages.

    Nor is a total or a number of pages alone the end: behind it, one more page is requested.
    """
    async with serve(forever=answer) as server:
        pages = await read(server.url, endpoint, api(endpoint, pagination=style))
    assert identities(pages) == [1, 2, 3, 4, 5, 6, 7]
    assert len(server.requests) == requests


@pytest.mark.parametrize("style", [PageNumber(), Offset(), Cursor("after", at="paging.next", more="paging.more")])
async def test_an_empty_list_is_one_page(style: Pagination) -> None:
    empty = Listing([])
    answer = {PageNumber: empty.by_page, Offset: empty.by_offset}.get(type(style), empty.by_token)()
    async with serve(forever=answer) as server:
        pages = await read(server.url, ITEMS, api(ITEMS, pagination=style))
    assert [page.records for page in pages] == [[]]
    assert len(server.requests) == 1


async def test_a_posted_report_carries_offset_limit_and_start_in_its_body() -> None:
    report = replace(
        ITEMS,
        body={"dimensions": [{"name": "date"}], "dateRanges": [{"startDate": "2015-08-14", "endDate": "today"}]},
        total="total",
        page_size=4,
        cursor=Since("dateRanges.0.startDate", field="day", form="date"),
    )
    listing = seven(cap=4)
    async with serve(forever=listing.by_offset()) as server:
        pages = await read(server.url, report, api(report, pagination=Offset(overlap=0)), since="2026-01-28")
    assert identities(pages) == [1, 2, 3, 4, 5, 6, 7]
    assert [(request.method, request.headers["content-type"]) for request in server.requests] == [
        ("POST", "application/json")
    ] * 3
    assert server.requests[1].body == (
        b'{"dimensions":[{"name":"date"}],"dateRanges":[{"startDate":"2026-01-28","endDate":"today"}],'
        b'"limit":4,"offset":4}'
    )


async def test_a_parameter_without_a_place_in_the_body_is_refused_before_any_request() -> None:
    report = replace(ITEMS, body={"dateRanges": []}, cursor=Since("dateRanges.0.startDate", field="day"))
    async with serve() as server:
        with pytest.raises(SourceError, match=r"no place for 'dateRanges.0.startDate'"):
            await read(server.url, report, api(report, pagination=Offset()), since="2026-01-28")


async def test_records_one_level_down_are_taken_out_of_their_elements() -> None:
    """A FHIR Bundle, whose empty list is left out."""
    bundle = replace(ITEMS, records="entry[].resource", may_be_absent=True, total="total")
    body = b'{"resourceType": "Bundle", "entry": [{"fullUrl": "u", "resource": {"id": "a", "n": 1.50}}]}'
    async with serve(raw(response(200, body)), raw(response(200, b'{"resourceType": "Bundle", "total": 0}'))) as server:
        full = await read(server.url, bundle, api(bundle, pagination=NextUrl("link[relation=next].url")))
        empty = await read(server.url, bundle, api(bundle, pagination=NextUrl("link[relation=next].url")))
    assert full[0].records == [b'{"id": "a", "n": 1.50}']
    assert (empty[0].records, empty[0].total) == ([], 0)


async def test_records_that_say_something_else_are_left_out_whatever_the_kind_of_the_value() -> None:
    records = [{"id": 1, "kind": 3}, {"id": 2, "kind": "3"}, {"id": 3, "kind": True}, {"id": 4}, {"id": 5, "kind": 30}]
    for value, wanted in (("3", [1, 2]), ("true", [3])):
        some = replace(ITEMS, only=f"kind={value}", total=None, records="data")
        async with serve(json_page(records)) as server:
            assert identities(await read(server.url, some, api(some))) == wanted


async def test_an_etag_is_asked_about_with_the_first_page_only() -> None:
    """It is the list's: a 304 for a later page would end the list there, and count as whole."""
    style = Cursor("after", at="paging.next", more="paging.more")
    for pagination, listing in ((PageNumber(), Listing.by_page), (style, Listing.by_token)):
        declared = api(ITEMS, pagination=pagination)
        async with serve(forever=listing(seven())) as server:
            stream = read_pages(declared, ITEMS, connection(server.url), Start(etag='"v1"'), limits=QUICK)
            assert identities([page async for page in stream]) == [1, 2, 3, 4, 5, 6, 7]
        assert [request.headers.get("if-none-match") for request in server.requests][:3] == ['"v1"', None, None]


@pytest.mark.parametrize("overlap", [1, 2])
@pytest.mark.parametrize("gone", [1, 2, 3])
async def test_a_record_deleted_in_front_lets_none_slip_past_the_edge_of_two_pages(overlap: int, gone: int) -> None:
    """Up to three of the first page vanish while the second is asked for: all others move up."""
    listing = Listing([{"id": n} for n in range(1, 14)], cap=4)

    def shift(request: object) -> None:
        if len(server.requests) == 2:
            listing.records = listing.records[gone:] if len(listing.records) == 13 else listing.records

    listing.before = shift
    endpoint = replace(ITEMS, total="total")
    async with serve(forever=listing.by_offset()) as server:
        pages = await read(server.url, endpoint, api(endpoint, pagination=Offset(overlap=overlap)))
    assert set(identities(pages)) == set(range(1, 14))


async def test_paging_by_number_goes_back_when_the_list_shrank_meanwhile() -> None:
    listing = Listing([{"id": n} for n in range(1, 14)], cap=4)

    def shift(request: object) -> None:
        if len(server.requests) == 3:
            listing.records = [record for record in listing.records if record["id"] not in (2, 3)]

    listing.before = shift
    endpoint = replace(ITEMS, total="total", concurrent=1)
    async with serve(forever=listing.by_page()) as server:
        pages = await read(server.url, endpoint, api(endpoint, pagination=PageNumber()))
    assert set(identities(pages)) == set(range(1, 14))


@pytest.mark.parametrize("style", [PageNumber(), Offset(), Offset(overlap=0)])
async def test_an_api_that_ignores_its_page_parameter_is_found_out(style: Pagination) -> None:
    """Else the first page would be read until the total is reached, and the rest would be missing."""
    endpoint = replace(ITEMS, total="meta.total", concurrent=1)
    async with serve(forever=json_page([{"id": 1}, {"id": 2}], total=90)) as server:
        with pytest.raises(SourceError, match="ignore its own page parameter"):
            await read(server.url, endpoint, api(endpoint, pagination=style))


@pytest.mark.parametrize(
    ("style", "second"),
    [
        (NextUrl("next"), b'{"data": [], "next": "http://127.0.0.1:9/v1/items"}'),
        (NextUrl("next"), b'{"data": [], "next": "//evil.example.com/v1/items"}'),
        (NextUrl("next"), b'{"data": [], "next": "http://user:pw@127.0.0.1/"}'),
    ],
)
async def test_a_next_address_elsewhere_is_never_asked(style: Pagination, second: bytes) -> None:
    async with serve(raw(response(200, second))) as server:
        with pytest.raises(SourceError, match="credentials are not sent to another origin"):
            await read(server.url, ITEMS, api(ITEMS, pagination=style))


async def test_a_next_header_elsewhere_is_never_asked() -> None:
    async with serve(json_page([], "Next-Page: https://evil.example.com/v1/items")) as server:
        with pytest.raises(SourceError, match="credentials are not sent to another origin"):
            await read(server.url, ITEMS, api(ITEMS, pagination=NextHeader()))


@pytest.mark.parametrize("token", [b"[1]", b'{"a": 1}', b"true", b"1.5"])
async def test_a_token_of_another_kind_is_no_end(token: bytes) -> None:
    async with serve(raw(response(200, b'{"data": [1], "next": ' + token + b"}"))) as server:
        with pytest.raises(SourceError, match="neither text nor an integer"):
            await read(server.url, ITEMS, api(ITEMS, pagination=Cursor("after", at="next")))


async def test_a_place_in_the_list_is_gone_on_from_by_a_later_reader() -> None:
    """What is noted is JSON, holds no key, and leads to the very request that would have come next."""
    for style, listing in ((PageNumber(), Listing.by_page), (Offset(), Listing.by_offset)):
        endpoint = replace(ITEMS, total="total")
        declared = api(endpoint, pagination=style)
        async with serve(forever=listing(seven())) as server:
            whole = await read(server.url, endpoint, declared)
            assert whole[-1].place is None
            rest = read_pages(declared, endpoint, connection(server.url), Start(place=whole[0].place), limits=QUICK)
            assert [n for n in identities([page async for page in rest]) if n != 3] == [4, 5, 6, 7]


async def test_a_forgotten_place_is_told_apart_from_other_failures() -> None:
    async with serve(json_page([1], following="?p=2"), status(410)) as server:
        with pytest.raises(PlaceLost, match="the position in it, no longer exists"):
            await read(server.url)


def test_an_overlap_as_large_as_a_page_is_refused() -> None:
    with pytest.raises(DeclarationError, match="covers a full page"):
        api(replace(ITEMS, page_size=2), pagination=Offset(overlap=2))
    with pytest.raises(DeclarationError, match="cannot be combined"):
        api(replace(ITEMS, only="kind=item"), pagination=PageNumber())
    with pytest.raises(DeclarationError, match="has no value"):
        replace(ITEMS, only="kind")


async def test_pages_whose_addresses_are_known_come_side_by_side_and_in_order() -> None:
    for answer, style in ((Listing.by_page, PageNumber()), (Listing.by_offset, Offset(overlap=1))):
        listing = Listing([{"id": n} for n in range(1, 61)], cap=3, delay=0.02)
        endpoint = replace(ITEMS, total="total", concurrent=5)
        async with serve(forever=answer(listing)) as server:
            pages = await read(server.url, endpoint, api(endpoint, pagination=style))
        assert identities(pages) == list(range(1, 61))
        assert listing.most_at_work == 5
        assert server.connections <= 6


async def test_pages_fetched_ahead_are_dropped_when_the_list_shifts() -> None:
    """They were asked for at offsets that mean something else now."""
    listing = Listing([{"id": n} for n in range(1, 61)], cap=5, delay=0.005)

    def shift(request: object) -> None:
        if len(server.requests) == 6 and len(listing.records) == 60:
            listing.records = listing.records[2:]

    listing.before = shift
    endpoint = replace(ITEMS, total="total", concurrent=4)
    async with serve(forever=listing.by_offset()) as server:
        pages = await read(server.url, endpoint, api(endpoint, pagination=Offset()))
    assert set(identities(pages)) == set(range(1, 61))
