"""The end of a list is proven: what is not understood, or contradicts itself, is never taken for it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flows.kinds.api import (
    Cursor,
    Endpoint,
    LinkHeader,
    NextHeader,
    NextUrl,
    Offset,
    PageNumber,
    Since,
    SinglePage,
    When,
)
from flows.kinds.api.declared.pagination import Pagination
from flows.kinds.api.pages.page import Page
from flows.values.errors import DeclarationError, ListUnfinished, SourceError
from flows.values.json_path import parse_path
from tests.kinds.api.http_lists import Listing
from tests.kinds.api.http_servers import Answer, Request, raw, response, serve, status
from tests.kinds.api.rest_reading import QUICK, api, read

ITEMS = Endpoint("items", path="/v1/items")
Body = dict[str, Any]


def records(count: int) -> list[Body]:
    return [{"id": n} for n in range(1, count + 1)]


def sent(body: object, *headers: str) -> Answer:
    return raw(response(200, json.dumps(body).encode(), *headers))


def pages_of(count: int, size: int, around: Callable[[int, int], Body], *, honours: str | None = None) -> Answer:
    """`count` records, `size` a page by `?page=`; `around(page, pages)` is the document around the records."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        wide = min(size, int(request.query.get(honours, size))) if honours else size
        number, pages = int(request.query.get("page", 1)), -(-count // wide)
        found = records(count)[(number - 1) * wide : number * wide]
        await sent({"data": found, **around(number, pages)})(request, writer)

    return answer


async def read_all(answer: Answer, style: Pagination, endpoint: Endpoint = ITEMS) -> tuple[list[Page], int]:
    async with serve(forever=answer) as server:
        pages = await read(server.url, endpoint, api(endpoint, pagination=style))
        return pages, len(server.requests)


def count(pages: list[Page]) -> int:
    return len({record for page in pages for record in page.records})


# -- a declared path that is never there


def test_a_field_whose_name_has_a_dot_is_written_in_quotes() -> None:
    assert parse_path('"@odata.nextLink"') == ("@odata.nextLink",)
    assert parse_path("meta.'a[0].b'.c") == ("meta", "a[0].b", "c")
    with pytest.raises(DeclarationError, match="quotes around"):
        parse_path('"@odata.nextLink')


async def test_an_odata_list_is_read_to_its_end() -> None:
    def around(page: int, pages: int) -> Body:
        return {"@odata.nextLink": f"/v1/items?page={page + 1}"} if page < pages else {}

    pages, _ = await read_all(pages_of(50, 10, around), NextUrl('"@odata.nextLink"'))
    assert (count(pages), pages[-1].is_proven) == (50, True)
    with pytest.raises(ListUnfinished, match=r"'\"@odata.nextLink\"' that there is more"):
        await read_all(pages_of(50, 10, around), NextUrl("@odata.nextLink"))


@pytest.mark.parametrize(
    "around",
    [
        {"links": {"next": "/v1/items?page=2"}},
        {"links": {"next": {"href": "/v1/items?page=2"}}},
        {"paging": {"forward": "/v1/items?page=2", "self": "/v1/items?page=1"}},
        {"next_cursor": "b"},
        {"pageInfo": {"hasNextPage": True}},
        {"has_more": "true"},
        {"done": False},
        {"total_pages": 5},
        {"meta": {"total": 50}},
        {"link": [{"relation": "next", "url": "/v1/items?page=2"}]},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "style", [LinkHeader(), NextUrl("missing"), NextHeader("X-Missing"), Cursor("after", at="missing"), SinglePage()]
)
async def test_a_response_that_says_that_there_is_more_ends_no_list(style: Pagination, around: Body) -> None:
    """Whatever was declared: a path that is misspelled, or another pagination than the API's."""
    with pytest.raises(ListUnfinished, match="there is more"):
        await read_all(pages_of(50, 10, lambda page, pages: around), style)


async def test_one_request_for_one_record_shows_whether_the_next_page_is_named_where_it_is_declared() -> None:
    """No name tells what this API's fields mean; a page with one of three records must say that there is more."""
    endpoint = replace(ITEMS, page_size=10)

    def around(page: int, pages: int) -> Body:
        return {"weiter": f"/v1/items?page={page + 1}&limit=1"} if page < pages else {}

    answer = pages_of(3, 10, around, honours="limit")
    pages, requests = await read_all(answer, NextUrl("weiter"), endpoint)
    assert (count(pages), requests, pages[-1].is_proven) == (3, 2, True)
    with pytest.raises(ListUnfinished, match="one of 3 records names no next page"):
        await read_all(pages_of(3, 10, lambda page, _: {"weiter": page}, honours="limit"), NextUrl("next"), endpoint)


async def test_a_list_of_one_page_without_any_sign_is_read_and_not_called_proven() -> None:
    pages, requests = await read_all(pages_of(3, 10, lambda page, pages: {}), LinkHeader())
    assert (count(pages), requests, pages[-1].is_proven) == (3, 1, False)


@pytest.mark.parametrize("pages", [None, "many", -1, 1.5, True])
async def test_a_number_of_pages_that_is_none_is_an_error(pages: object) -> None:
    body = {"pages": pages} if pages is not None else {}
    with pytest.raises(SourceError, match="cannot be found"):
        await read_all(pages_of(50, 10, lambda *_: body), PageNumber(pages="pages"))


# -- contradictions

MORE = Cursor("page", at="next", more="more")


@pytest.mark.parametrize(
    ("around", "says"),
    [
        ({"more": True}, "is true, and there is no token"),
        ({"more": True, "next": ""}, "is true, and there is no token"),
        ({"more": "true", "next": "2"}, "the text at 'more' is neither true nor false"),
        ({"more": "false"}, "the text at 'more' is neither true nor false"),
        ({"more": 1, "next": "2"}, "the number at 'more' is neither true nor false"),
        ({"next": "2"}, "nothing at 'more'"),
        ({"more": None, "next": "2"}, "nothing at 'more'"),
    ],
)
async def test_a_response_that_contradicts_itself_ends_no_list(around: Body, says: str) -> None:
    with pytest.raises(ListUnfinished, match=says):
        await read_all(pages_of(50, 10, lambda *_: around), MORE)


async def test_an_api_that_omits_what_is_false_is_read_to_its_end() -> None:
    def around(page: int, pages: int) -> Body:
        return {"more": True, "next": page + 1} if page < pages else {}

    pages, _ = await read_all(pages_of(50, 10, around), MORE)
    assert (count(pages), pages[-1].is_proven) == (50, True)


async def test_an_end_before_the_total_is_none() -> None:
    def around(page: int, pages: int) -> Body:
        return {"total": 50, "next": page + 1 if page < 3 else None}

    with pytest.raises(ListUnfinished, match="30 of 50 records"):
        await read_all(pages_of(50, 10, around), Cursor("page", at="next"), replace(ITEMS, total="total"))


# -- empty pages


def holed(pages: int, hole: int, around: Body, past: int = 200) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.query.get("page", int(request.query.get("offset", 0)) // 10 + 1))
        if number > pages and past != 200:
            return await status(past)(request, writer)
        found = [] if number == hole or number > pages else [{"id": n} for n in range(number * 10, number * 10 + 10)]
        await sent({"data": found, **around})(request, writer)

    return answer


@pytest.mark.parametrize(
    ("style", "total", "around"),
    [
        (PageNumber(), "total", {"total": 50}),
        (PageNumber(pages="pages"), None, {"pages": 5}),
        (PageNumber(), None, {"total": 50}),
        (PageNumber(), None, {"has_more": True}),
        (Offset(overlap=0), "total", {"total": 50}),
        (Offset(overlap=0), None, {"total_count": 50}),
    ],
)
async def test_an_empty_page_in_the_middle_ends_no_list(style: Pagination, total: str | None, around: Body) -> None:
    with pytest.raises(ListUnfinished):
        await read_all(holed(5, 3, around), style, replace(ITEMS, total=total, page_size=10))


@pytest.mark.parametrize(
    ("style", "total", "around", "past"),
    [
        (PageNumber(empty_pages=True), "total", {"total": 50}, 200),
        (PageNumber(pages="pages", empty_pages=True), None, {"pages": 5}, 200),
        (PageNumber(past_end=404, empty_pages=True), None, {}, 404),
        (Offset(overlap=0, empty_pages=True), "total", {"total": 50}, 200),
    ],
)
async def test_an_api_that_filters_its_pages_is_read_past_empty_ones(
    style: Pagination, total: str | None, around: Body, past: int
) -> None:
    endpoint = replace(ITEMS, total=total, page_size=10)
    pages, requests = await read_all(holed(5, 3, around, past), style, endpoint)
    assert (count(pages), requests, pages[-1].is_proven) == (40, 6, True)


def test_empty_pages_need_something_that_says_where_the_list_ends() -> None:
    with pytest.raises(DeclarationError, match="nothing says where the list ends"):
        api(ITEMS, pagination=PageNumber(empty_pages=True))
    with pytest.raises(DeclarationError, match="no records to overlap by"):
        Offset(empty_pages=True)


# -- errors with status 200

FAILURES: list[Body] = [
    {"error": {"code": 500}},
    {"errors": ["timeout"], "data": []},
    {"errors": [{"message": "timeout"}], "data": [{"id": 1}]},
    {"resourceType": "OperationOutcome"},
    {"status": "error"},
    {"ok": False},
]


@pytest.mark.parametrize("body", FAILURES, ids=str)
async def test_a_failure_with_status_200_is_no_empty_list(body: Body) -> None:
    endpoint = replace(ITEMS, may_be_absent=True)
    async with serve(forever=sent(body)) as server:
        with pytest.raises(ListUnfinished, match="reports a failure"):
            await read(server.url, endpoint, api(endpoint, pagination=NextUrl("next")))
    assert len(server.requests) == QUICK.max_attempts


@pytest.mark.parametrize(
    "body", [{"error": None}, {"errors": [], "ok": True}, {"status": "ok"}, {"error": ""}], ids=str
)
async def test_a_response_that_reports_no_failure_is_read(body: Body) -> None:
    pages, _ = await read_all(sent({"data": records(3), **body}), SinglePage())
    assert count(pages) == 3


async def test_a_page_of_another_shape_in_the_middle_is_no_empty_page() -> None:
    endpoint = replace(ITEMS, may_be_absent=True)
    async with serve(sent({"data": records(3), "next": "?p=2"}), sent({"busy": 1}), sent({"busy": 1})) as server:
        with pytest.raises(ListUnfinished, match="fields that no page before had"):
            await read(server.url, endpoint, api(endpoint, pagination=NextUrl("next")))


async def test_a_list_that_is_absent_was_not_shown_to_be_empty() -> None:
    endpoint = replace(ITEMS, may_be_absent=True, total="total")
    for body, is_proven in (({}, False), ({"total": 0}, True), ({"data": None}, True)):
        pages, _ = await read_all(sent(body), NextUrl("next"), endpoint)
        assert (count(pages), pages[-1].is_proven) == (0, is_proven), body


# -- totals


@pytest.mark.parametrize("style", [PageNumber(), Offset(), Offset(overlap=0)])
async def test_a_capped_total_ends_no_list(style: Pagination) -> None:
    listing = Listing(records(50), cap=10)
    answer = listing.by_page() if isinstance(style, PageNumber) else listing.by_offset()

    async def capped(request: Request, writer: asyncio.StreamWriter) -> None:
        await answer(request, _Replaced(writer, b'"total": 50', b'"total": 20'))  # type: ignore[arg-type]

    pages, _ = await read_all(capped, style, replace(ITEMS, total="total"))
    assert (count(pages), pages[-1].is_proven) == (50, True)


class _Replaced:
    """A writer that changes what a server sends."""

    def __init__(self, writer: asyncio.StreamWriter, old: bytes, new: bytes) -> None:
        self._writer, self._old, self._new = writer, old, new

    def write(self, data: bytes) -> None:
        self._writer.write(data.replace(self._old, self._new))


async def test_a_total_that_is_a_text_is_read() -> None:
    pages, _ = await read_all(pages_of(50, 10, lambda *_: {"total": "50"}), PageNumber(), replace(ITEMS, total="total"))
    assert count(pages) == 50


@pytest.mark.parametrize("past", [404, 416, 400])
async def test_a_refusal_behind_the_total_is_the_end(past: int) -> None:
    """400 only if the last page was short: a cap on offsets is refused in the same way."""
    endpoint = replace(ITEMS, total="total", concurrent=1)
    short = Listing(records(25), cap=10).by_page(past_end=past)
    pages, requests = await read_all(short, PageNumber(), endpoint)
    assert (count(pages), requests) == (25, 4)
    full = Listing(records(30), cap=10).by_page(past_end=past)
    if past == 400:
        with pytest.raises(SourceError, match="400 from"):
            await read_all(full, PageNumber(), endpoint)
    else:
        assert count((await read_all(full, PageNumber(), endpoint))[0]) == 30


async def test_a_last_page_that_is_repeated_behind_the_end_is_the_end() -> None:
    async def clamped(request: Request, writer: asyncio.StreamWriter) -> None:
        number = min(3, int(request.query.get("page", 1)))
        await sent({"data": records(30)[number * 10 - 10 : number * 10], "total": 30})(request, writer)

    pages, requests = await read_all(clamped, PageNumber(), replace(ITEMS, total="total"))
    assert (count(pages), requests) == (30, 4)


@pytest.mark.parametrize("style", [PageNumber(), Offset()])
async def test_a_total_that_swings_is_not_read_for_ever(style: Pagination) -> None:
    listing, asked = Listing(records(30), cap=3), [0]
    answer = listing.by_page() if isinstance(style, PageNumber) else listing.by_offset()

    async def swinging(request: Request, writer: asyncio.StreamWriter) -> None:
        asked[0] += 1
        total = b'"total": %d' % (30 if asked[0] % 2 else 20)
        await answer(request, _Replaced(writer, b'"total": 30', total))  # type: ignore[arg-type]

    endpoint = replace(ITEMS, total="total", concurrent=1)
    if isinstance(style, Offset):
        assert count((await read_all(swinging, style, endpoint))[0]) == 30
    else:
        with pytest.raises(ListUnfinished, match=r"its total swings.* and the bound is 20"):
            await read_all(swinging, style, endpoint)
    assert asked[0] < 100


async def test_a_list_in_no_order_is_not_read_for_ever() -> None:
    listing, asked = Listing(records(30), cap=3), [0]

    def shuffle(_: Request) -> None:
        asked[0] += 1
        listing.records = listing.records[7:] + listing.records[:7]

    listing.before = shuffle
    with pytest.raises(SourceError, match=r"the bound is|had no new record"):
        await read_all(listing.by_offset(), Offset(), replace(ITEMS, concurrent=1))
    assert asked[0] < 200


@pytest.mark.parametrize("style", [PageNumber(), Cursor("page", at="next")])
async def test_pages_that_come_round_again_are_found_out(style: Pagination) -> None:
    """Each page differs from the one before, and each token is new."""

    async def round_and_round(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.query.get("page", 1))
        await sent({"data": [{"id": number % 3}], "next": number + 1})(request, writer)

    with pytest.raises(SourceError, match="pages repeat"):
        await read_all(round_and_round, style)


async def test_a_list_without_an_end_meets_the_bound_and_names_it() -> None:
    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.query.get("page", 1))
        await sent({"data": [{"id": number}], "next": number + 1})(request, writer)

    async with serve(forever=endless) as server:
        with pytest.raises(ListUnfinished, match=r"30 pages of one list were read in this run, .* max_pages"):
            await read(
                server.url, ITEMS, api(ITEMS, pagination=Cursor("page", at="next")), limits=replace(QUICK, max_pages=30)
            )
    assert len(server.requests) <= 31


@pytest.mark.parametrize("overlap", [0, 1, 2])
@pytest.mark.parametrize("found", [0, 1, 2, 3])
@pytest.mark.parametrize("total", ["total", None])
async def test_a_list_shorter_than_its_overlap_ends_without_a_total(
    found: int, overlap: int, total: str | None
) -> None:
    endpoint = replace(ITEMS, total=total)
    pages, asked = await read_all(Listing(records(found), cap=9).by_offset(), Offset(overlap=overlap), endpoint)
    assert (count(pages), pages[-1].is_proven, asked <= 5) == (found, True, True)


# -- ends that are declared


def flags(count: int, size: int, **around: Callable[[int, int], object]) -> Answer:
    """Pages by `?page=` or `?offset=`, with values that are made of the page's number and the number of pages."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        at = int(request.query["offset"]) if "offset" in request.query else (int(request.query["page"]) - 1) * size
        body = {name: make(at // size + 1, -(-count // size)) for name, make in around.items()}
        await sent({"data": records(count)[at : at + size], **body})(request, writer)

    return answer


@pytest.mark.parametrize(
    "style",
    [
        PageNumber(last="isLast"),
        PageNumber(more="more"),
        Offset(overlap=0, last="isLast"),
        Offset(overlap=0, more="more"),
        PageNumber(short_ends=True),
        Offset(overlap=0, short_ends=True),
    ],
    ids=repr,
)
async def test_a_flag_or_a_short_page_that_is_declared_ends_a_numbered_list(style: Pagination) -> None:
    answer = flags(11, 4, isLast=lambda page, pages: page >= pages, more=lambda page, pages: page < pages)
    pages, asked = await read_all(answer, style, replace(ITEMS, page_size=4))
    assert (count(pages), pages[-1].is_proven, asked) == (11, True, 3)


@pytest.mark.parametrize("style", [PageNumber(last="isLast"), Offset(overlap=0, last="isLast")], ids=repr)
async def test_a_flag_is_believed_more_than_a_total_that_is_capped(style: Pagination) -> None:
    answer = flags(11, 4, isLast=lambda page, pages: page >= pages, total=lambda page, pages: 8)
    pages, _ = await read_all(answer, style, replace(ITEMS, total="total"))
    assert (count(pages), pages[-1].is_proven) == (11, True)


@pytest.mark.parametrize(
    ("style", "around"),
    [
        (PageNumber(last="isLast"), {"isLast": lambda page, pages: page == 2, "total": lambda page, pages: 11}),
        (
            PageNumber(more="more", pages="pages"),
            {"more": lambda page, pages: page < 2, "pages": lambda page, pages: 3},
        ),
        (Offset(overlap=0, more="more"), {"more": lambda page, pages: False, "total": lambda page, pages: 11}),
        (PageNumber(more="more"), {"more": lambda page, pages: True}),
        (Offset(more="more"), {"more": lambda page, pages: True}),
        (PageNumber(more="more"), {"more": lambda page, pages: "false"}),
    ],
)
async def test_a_flag_that_contradicts_the_list_ends_none(style: Pagination, around: dict[str, Any]) -> None:
    endpoint = replace(ITEMS, total="total" if "total" in around else None)
    with pytest.raises(ListUnfinished):
        await read_all(flags(11, 4, **around), style, endpoint)


async def test_a_short_page_before_the_total_is_no_end() -> None:
    with pytest.raises(ListUnfinished, match="by the length of its page, after 3 of 11 records"):
        await read_all(flags(11, 3, total=lambda page, pages: 11), PageNumber(short_ends=True),
                       replace(ITEMS, total="total", page_size=4))  # fmt: skip


@pytest.mark.parametrize("style", [PageNumber(most=2), Offset(overlap=0, most=2)], ids=repr)
async def test_no_more_pages_are_read_than_are_wanted(style: Pagination) -> None:
    pages, asked = await read_all(flags(11, 4), style)
    assert (count(pages), pages[-1].is_proven, asked) == (8, False, 2)
    pages, _ = await read_all(flags(3, 4), style)
    assert (count(pages), pages[-1].is_proven) == (3, True)


async def test_the_last_record_s_value_leads_to_the_next_page_until_there_is_none() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        after = int(request.query.get("after", 0))
        await sent({"data": [one for one in records(11) if one["id"] > after][:4]})(request, writer)

    pages, asked = await read_all(answer, Cursor("after", at="data.-1.id"))
    assert (count(pages), pages[-1].is_proven, asked) == (11, True, 4)


async def test_a_last_record_without_the_value_is_no_end() -> None:
    for last in ({"x": 1}, {"id": None}, 7):
        answer = sent({"data": [{"id": 1}, last]})
        with pytest.raises(ListUnfinished, match="the last record has no value"):
            await read_all(answer, Cursor("after", at="data.-1.id"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("groups.*.items", {"groups": [{"items": [1, 2]}, {"items": []}, {"items": [3]}]}),
        ("by_id.*", {"by_id": {"a": 1, "b": 2, "c": 3}}),
        ("pages.-1", {"pages": [[9], [1, 2, 3]]}),
        ("*.rows.*.cells", [{"rows": [{"cells": [1]}, {"cells": [2]}]}, {"rows": [{"cells": [3]}]}]),
    ],
)
async def test_records_are_in_every_list_that_a_path_with_a_star_selects(path: str, body: object) -> None:
    pages, _ = await read_all(sent(body), SinglePage(), replace(ITEMS, records=path))
    assert [json.loads(record) for page in pages for record in page.records] == [1, 2, 3]


async def test_an_element_without_the_list_is_no_empty_one() -> None:
    with pytest.raises(SourceError, match="no 'items'"):
        await read_all(sent({"groups": [{"items": [1]}, {}]}), SinglePage(), replace(ITEMS, records="groups.*.items"))


def test_a_star_is_only_possible_where_several_values_are() -> None:
    assert parse_path("data.'*'.x") == ("data", "*", "x")
    for wrong in (
        lambda: Cursor("after", at="data.*.id"),
        lambda: replace(ITEMS, total="a.*"),
        lambda: replace(ITEMS, key="a.*"),
        lambda: Cursor("after", at="x", more="a", last="b"),
        lambda: PageNumber(short_ends=True, empty_pages=True),
        lambda: PageNumber(most=0),
        lambda: api(ITEMS, pagination=PageNumber(short_ends=True)),
    ):
        with pytest.raises(DeclarationError):
            wrong()


@pytest.mark.parametrize(
    "style",
    [
        PageNumber(last="isLast", empty_pages=True),
        Offset(overlap=0, more="more", empty_pages=True),
        PageNumber(empty_pages=True),
        Cursor("page", at="next", empty_pages=True),
        NextUrl("link", empty_pages=True),
    ],
    ids=repr,
)
async def test_many_pages_that_the_api_has_filtered_are_read_over(style: Pagination) -> None:
    """Forty of fifty pages are empty."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        number = (
            int(request.query.get("page", 1))
            if "offset" not in request.query
            else int(request.query["offset"]) // 2 + 1
        )
        found = [{"id": number}] if number < 6 or number > 45 else []
        more = number < 50
        body = {"next": number + 1 if more else None, "link": f"?page={number + 1}" if more else None}
        await sent({"data": found, "isLast": not more, "more": more, **body})(request, writer)

    rules = (When(body="isLast=true", then="end"),) if style == PageNumber(empty_pages=True) else ()
    endpoint = replace(ITEMS, page_size=2, answers=rules)
    pages, asked = await read_all(answer, style, endpoint)
    assert (count(pages), pages[-1].is_proven, asked) == (10, True, 50)


async def test_a_flag_that_is_omitted_when_it_is_false_ends_a_list_with_empty_pages() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.query["page"])
        await sent({"data": [{"id": number}] if number == 1 else [], **({"more": True} if number < 4 else {})})(
            request, writer
        )

    pages, asked = await read_all(answer, PageNumber(more="more", empty_pages=True))
    assert (count(pages), pages[-1].is_proven, asked) == (1, True, 4)


async def test_empty_pages_without_end_are_bounded() -> None:
    endpoint, style = replace(ITEMS, pagination=PageNumber(last="isLast", empty_pages=True)), QUICK
    async with serve(forever=sent({"data": []})) as server:
        with pytest.raises(SourceError, match="consecutive pages had no record: 100 pages"):
            await read(server.url, endpoint, api(endpoint), limits=replace(style, max_idle_pages=2))


@pytest.mark.parametrize("code", [500, 400, 404])
async def test_a_page_that_the_second_pass_does_not_get_is_no_end_and_leaves_the_list_unproven(code: int) -> None:
    """A record moves from the first page to the last while they are read; the second pass lacks the first page."""
    rule = When(status=500, then="ignore")
    items = replace(ITEMS, pagination=PageNumber(), cursor=Since("since", field="at", form="epoch"), answers=(rule,))
    later = int(datetime.now(UTC).timestamp()) + 100
    listed, is_second = [{"id": n, "at": n} for n in range(9)], False

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal listed, is_second
        if "since" in request.query:
            is_second = True
            await sent({"data": [{"id": 0, "at": later}]})(request, writer)
            return
        number = int(request.query["page"])
        if is_second and number == 1:
            await status(code)(request, writer)
            return
        await sent({"data": listed[(number - 1) * 3 : number * 3]})(request, writer)
        if number == 1 and not is_second:
            listed = [*listed[1:], {"id": 0, "at": later}]

    of = replace(api(items), concurrent=1)
    async with serve(forever=answer) as server:
        if code == 500:
            last = (await read(server.url, items, of))[-1]
            assert (last.is_proven, last.ignored) == (False, 1)
        else:
            with pytest.raises(SourceError, match=str(code)):
                await read(server.url, items, of)
