"""What an answer means can be declared: by status, header, body or text."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from flows.declare import Replace
from flows.kinds.api import Api, Cursor, Endpoint, LinkHeader, Offset, PageNumber, Parent, SinglePage, When
from flows.kinds.api.declared.pagination import Pagination
from flows.kinds.api.pages.page import Page
from flows.values.errors import DeclarationError, ListUnfinished, MedallionError, PlaceLost, SourceError
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, Request, json_page, raw, response, serve, status
from tests.kinds.api.loading import keys, load
from tests.kinds.api.rest_reading import QUICK, api, read, values
from tests.kinds.loading import rows

ITEMS = Endpoint("items", path="/v1/items")


def sent(body: object, *headers: str, code: int = 200) -> Answer:
    return raw(response(code, json.dumps(body).encode(), *headers))


async def read_as(
    rules: Sequence[When], *answers: Answer, style: Pagination | None = None, **more: Any
) -> tuple[list[Page], list[str]]:
    endpoint = replace(ITEMS, answers=tuple(rules), **more)
    async with serve(*answers) as server:
        pages = await read(server.url, endpoint, api(endpoint, pagination=style or LinkHeader()))
        return pages, server.targets


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        (When(status=202, then="retry", after="0 s"), sent({}, code=202)),
        (When(status=(409, 423), then="retry"), status(423)),
        (When(header="X-State=building", then="retry"), json_page([9], "X-State: building")),
        (When(header="X-Busy", then="retry"), json_page([9], "X-Busy: 1")),
        (When(header="X-State!=done", then="retry"), json_page([9], "X-State: building")),
        (When(body="error=ratelimited", then="retry", after_header="X-Wait"),
         sent({"error": "ratelimited"}, "X-Wait: 0.01")),
        (When(body="errors.*.type=RATE_LIMITED", then="retry", after_body="wait"),
         sent({"errors": [{"type": "X"}, {"type": "RATE_LIMITED"}], "wait": 0}, "Retry-After: 500")),
        (When(body="errors.-1.type!=NOT_FOUND", then="retry"), sent({"errors": [{"type": "X"}]})),
        (When(body="busy", then="retry"), sent({"busy": True, "data": [9]})),
        (When(status=400, text="try again", then="retry"),
         raw(response(400, b"<p>Please try again</p>", content_type="text/html"))),
    ],
)  # fmt: skip
async def test_a_declared_answer_is_requested_again(rule: When, answer: Answer) -> None:
    pages, targets = await read_as([rule], answer, json_page([1]))
    assert (values(pages), len(targets)) == ([1], 2)


@pytest.mark.parametrize("rule", [When(status=202, then="retry"), When(body="busy", then="retry")])
async def test_an_answer_that_stays_so_is_an_error_after_all_attempts(rule: When) -> None:
    with pytest.raises(MedallionError, match="after 3 attempts"):
        await read_as([rule], *[sent({"busy": 1}, code=202)] * QUICK.max_attempts)


@pytest.mark.parametrize(
    "rule",
    [
        When(header="X-State", then="fail"),
        When(body="busy", then="fail"),
        When(body="busy=true", then="fail"),
        When(body="absent!=true", then="fail"),
        When(body="none", then="fail"),
        When(status=201, text="data", then="fail"),
        When(status=200, header="X-State", text="data", then="fail"),
    ],
)
async def test_an_answer_of_which_a_condition_does_not_hold_means_what_it_says(rule: When) -> None:
    assert values((await read_as([rule], sent({"data": [1], "busy": "", "none": []})))[0]) == [1]


async def test_a_refusal_whose_body_cannot_be_read_means_what_its_status_says() -> None:
    rule = When(body="code=7", then="end")
    strange = raw(response(503, b"\x1b\x00", "Content-Encoding: br"))
    assert values((await read_as([rule], strange, json_page([1])))[0]) == [1]


async def test_the_first_rule_that_holds_decides_and_the_endpoint_s_come_before_the_api_s() -> None:
    endpoint = replace(ITEMS, answers=(When(status=400, body="code=7", then="end"), When(status=400, then="fail")))
    declared = replace(api(endpoint), answers=(When(status=400, then="retry"),))
    async with serve(sent({"code": 7}, code=400)) as server:
        assert values(await read(server.url, endpoint, declared)) == []
    async with serve(sent({"code": 8}, code=400)) as server:
        with pytest.raises(SourceError, match="declared as 'fail'"):
            await read(server.url, endpoint, declared)


async def test_a_failure_says_the_declared_fix_and_is_not_tried_again() -> None:
    rule = When(body="error=missing_scope", then="fail", fix="add the scope channels:history")
    with pytest.raises(SourceError, match="add the scope channels:history; retryable: no"):
        await read_as([rule], sent({"ok": False, "error": "missing_scope"}))


async def test_a_lost_position_can_be_declared() -> None:
    with pytest.raises(PlaceLost, match="last published cursor"):
        await read_as([When(status=400, text="cursor expired", then="restart")],
                      json_page([1], following="?p=2"), sent("cursor expired", code=400))  # fmt: skip


async def test_a_page_with_errors_can_be_accepted_and_one_without_its_list_cannot() -> None:
    rule = When(body="errors.*.type=DEPRECATED", then="accept")
    errors = {"errors": [{"type": "DEPRECATED"}]}
    assert values((await read_as([rule], sent(errors | {"data": [1]})))[0]) == [1]
    assert values((await read_as([When(status=203, then="accept")], sent({"data": [1]}, code=203)))[0]) == [1]
    with pytest.raises(SourceError, match="no 'data'"):
        await read_as([rule], sent(errors))
    with pytest.raises(ListUnfinished, match="reports a failure"):
        await read_as([], *[sent(errors | {"data": [1]})] * 3)


# -- the end of a list


@pytest.mark.parametrize("style", [PageNumber(), Offset(overlap=0), Cursor("after", at="next")], ids=repr)
async def test_an_answer_that_is_declared_to_end_the_list_proves_its_end(style: Pagination) -> None:
    first, second = {"data": [1, 2], "next": "b"}, {"data": [3], "next": "c", "isLast": True}
    pages, targets = await read_as([When(body="isLast=true", then="end")], sent(first), sent(second), style=style)
    assert (values(pages), len(targets), pages[-1].is_proven) == ([1, 2, 3], 2, True)
    pages, _ = await read_as([When(status=400, then="end")], sent(first), status(400), style=style)
    assert (values(pages), pages[-1].is_proven) == ([1, 2], True)


@pytest.mark.parametrize("style", [PageNumber(), Offset(overlap=0), Cursor("after", at="next")], ids=repr)
async def test_an_answer_that_ends_the_list_before_its_total_contradicts_it(style: Pagination) -> None:
    first = {"data": [1, 2], "next": "b", "meta": {"total": 5}}
    with pytest.raises(ListUnfinished, match="after 2 of 5 records"):
        await read_as([When(status=400, then="end")], sent(first), status(400), style=style, total="meta.total")


async def test_an_ignored_answer_is_passed_over_and_proves_nothing() -> None:
    rule = When(status=500, text="cannot render", then="ignore")
    broken = raw(response(500, b'"cannot render"'))
    pages, _ = await read_as([rule], sent({"data": [1]}), broken, sent({"data": [3]}), sent({"data": []}),
                             style=PageNumber())  # fmt: skip
    assert (values(pages), pages[-1].is_proven, pages[-1].ignored) == ([1, 3], False, 1)
    pages, targets = await read_as([rule], sent({"data": [1, 2]}), broken, sent({"data": [5, 6]}),
                                   sent({"data": [6]}), style=Offset(), page_size=2)  # fmt: skip
    assert (values(pages), pages[-1].is_proven) == ([1, 2, 5, 6], False)
    assert [target.partition("offset=")[2] for target in targets] == ["0", "1", "3", "4"]


async def test_an_ignored_answer_without_a_next_page_ends_the_list_unproven() -> None:
    pages, _ = await read_as([When(status=404, then="ignore")], json_page([1], following="?p=2"), status(404))
    assert (values(pages), pages[-1].is_proven) == ([1], False)
    pages, _ = await read_as([When(status=404, then="ignore")], json_page([1], following="?p=2"),
                             status(404, 'Link: </v1/items?p=3>; rel="next"'), json_page([3]))  # fmt: skip
    assert values(pages) == [1, 3]


async def test_answers_that_are_ignored_forever_are_bounded() -> None:
    endpoint = replace(ITEMS, answers=(When(status=404, then="ignore"),), pagination=PageNumber())
    async with serve(forever=status(404)) as server:
        with pytest.raises(SourceError, match="consecutive pages had no record"):
            await read(server.url, endpoint, api(endpoint))
        assert len(server.requests) <= QUICK.max_idle_pages + 1


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ({}, "status=404"),
        ({"status": 99}, "100 to 599"),
        ({"status": 304}, "etag=True"),
        ({"status": 404, "then": "stop"}, "use accept"),
        ({"header": "a b=1"}, "X-State"),
        ({"body": "errors["}, "fields separated by dots"),
        ({"status": 404, "after": "5 s"}, 'then="retry"'),
        ({"status": 404, "then": "retry", "after": "soon"}, "10 min"),
        ({"status": 404, "then": "retry", "after": "5 s", "after_header": "X"}, 'then="retry"'),
    ],
)
def test_a_rule_that_says_nothing_is_refused(written: dict[str, Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=fix.replace("(", r"\(")):
        When(**written)
    with pytest.raises(DeclarationError, match="nothing to skip"):
        Endpoint("items", path="/items", answers=(When(status=404, then="skip"),))


@pytest.mark.parametrize("style", [Offset(), Cursor("after", at="next"), LinkHeader()], ids=repr)
async def test_a_page_that_is_too_large_is_requested_with_fewer_records(style: Pagination) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        size, at = int(request.query["limit"]), int(request.query.get("offset") or request.query.get("after") or 0)
        if size > 8 or (size > 1 and at == 4):
            await status(413)(request, writer)
            return
        found = list(range(20))[at : at + size]
        following = str(at + len(found)) if at + len(found) < 20 else None
        link = [f'Link: </v1/items?limit=30&after={following}>; rel="next"'] if following else []
        await sent({"data": found, "next": following}, *link)(request, writer)

    endpoint = replace(ITEMS, page_size=30, answers=(When(status=413, then="smaller"),))
    async with serve(forever=answer) as server:
        pages = await read(server.url, endpoint, api(endpoint, pagination=style))
    assert (sorted(set(map(str, values(pages)))), pages[-1].is_proven) == (sorted(map(str, range(20))), True)


async def test_a_page_that_is_too_large_with_one_record_is_an_error() -> None:
    endpoint = replace(ITEMS, page_size=4, answers=(When(status=413, then="smaller"),))
    async with serve(forever=status(413)) as server:
        with pytest.raises(SourceError, match="a page of one record was refused as well"):
            await read(server.url, endpoint, api(endpoint))
        assert [request.query["limit"] for request in server.requests] == ["4", "2", "1"]
    with pytest.raises(DeclarationError, match="other numbers"):
        api(replace(endpoint, pagination=PageNumber()))
    with pytest.raises(DeclarationError, match="declare page_size"):
        replace(endpoint, page_size=None)


# -- loads

_ORDERS = [{"id": n} for n in range(1, 5)]


def of_orders(answer: Callable[[int], Answer]) -> Answer:
    """Four orders, and what `answer` sends for the refunds of each."""

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        parts = request.path.split("/")
        chosen = sent({"data": _ORDERS}) if len(parts) == 3 else answer(int(parts[3]))
        await chosen(request, writer)

    return respond


def orders(style: Pagination, *rules: When) -> Api:
    refunds = Endpoint("refunds", path="/v1/orders/{id}/refunds", key=("order_id", "id"), key_type="bigint",
                       parent=Parent("orders", column="order_id", type="bigint", every=True), answers=rules,
                       pagination=style, page_size=100)  # fmt: skip
    return Api("lists", connection="lists", endpoints=[
        Endpoint("orders", path="/v1/orders", key_type="bigint", pagination=SinglePage()), refunds,
    ])  # fmt: skip


@pytest.mark.parametrize("style", [SinglePage(), PageNumber(), Offset(), Cursor("after", at="next")], ids=repr)
async def test_a_skipped_parent_keeps_its_children_and_is_no_error(warehouse: TestDatabase, style: Pagination) -> None:
    def refunds(order: int) -> Answer:
        return sent({"data": [{"id": order * 10}], "next": None})

    def skipping(order: int) -> Answer:
        return sent({"data": [], "next": None}) if order == 1 else sent({"code": "disabled"}, code=403)

    if isinstance(style, PageNumber | Offset):
        style = replace(style, short_ends=True)
    declared = orders(style, When(status=403, body="code=disabled", then="skip"))
    async with serve(forever=of_orders(refunds)) as server:
        await load(warehouse, server.url, "orders", declared)
        await load(warehouse, server.url, "refunds", declared)
    async with serve(forever=of_orders(skipping)) as server:
        second = await load(warehouse, server.url, "refunds", declared)
    assert keys(warehouse, "refunds") == [20, 30, 40]
    assert second.warning is None
    assert rows(warehouse, "select from ops.errors") == []


@pytest.mark.parametrize("style", [SinglePage(), PageNumber(), Offset(), Cursor("after", at="next")], ids=repr)
async def test_children_of_a_parent_that_is_not_found_stay_whatever_the_pagination(
    warehouse: TestDatabase, style: Pagination
) -> None:
    def refunds(order: int) -> Answer:
        async def page(request: Request, writer: asyncio.StreamWriter) -> None:
            is_first = request.query.get("page", "1") == "1" and request.query.get("offset", "0") == "0"
            await sent({"data": [{"id": order * 10}] if is_first else [], "next": None})(request, writer)

        return page

    declared = orders(style)
    async with serve(forever=of_orders(refunds)) as server:
        await load(warehouse, server.url, "orders", declared)
        await load(warehouse, server.url, "refunds", declared)
    async with serve(forever=of_orders(lambda order: refunds(order) if order > 1 else status(404))) as server:
        await load(warehouse, server.url, "refunds", declared)
    assert keys(warehouse, "refunds") == [10, 20, 30, 40]


async def test_a_replace_with_ignored_answers_deletes_nothing_and_says_so(warehouse: TestDatabase) -> None:
    def declared(*rules: When) -> Api:
        items = Endpoint("items", path="/v1/items", key_type="bigint", load=Replace(), pagination=PageNumber(),
                         answers=rules)  # fmt: skip
        return Api("lists", connection="lists", endpoints=[items])

    first, second = sent({"data": [{"id": 1}, {"id": 2}]}), sent({"data": [{"id": 3}]})
    async with serve(first, second, sent({"data": []})) as server:
        await load(warehouse, server.url, "items", declared())
    async with serve(first, status(500), sent({"data": []})) as server:
        result = await load(warehouse, server.url, "items", declared(When(status=500, then="ignore")))
    assert keys(warehouse, "items") == [1, 2, 3]
    assert "1 answers were ignored as declared" in str(result.warning)


async def test_no_etag_is_kept_of_a_list_with_ignored_answers(warehouse: TestDatabase) -> None:
    items = Endpoint("items", path="/v1/items", key_type="bigint", etag=True, pagination=PageNumber(),
                     answers=(When(status=500, then="ignore"),))  # fmt: skip
    api = Api("lists", connection="lists", endpoints=[items])
    broken = True

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.query["page"])
        if request.headers.get("if-none-match") == '"e"':
            await raw(response(304, b""))(request, writer)
        elif broken and number == 2:
            await status(500)(request, writer)
        else:
            body = json.dumps({"data": [{"id": number}] if number < 4 else []}).encode()
            await raw(response(200, body, 'ETag: "e"'))(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", api)
        broken = False
        await load(warehouse, server.url, "items", api)
        server.requests.clear()
        await load(warehouse, server.url, "items", api)
    assert keys(warehouse, "items") == [1, 2, 3]
    assert len(server.requests) == 1  # the full list's was kept


@pytest.mark.parametrize("style", [SinglePage(), PageNumber(), Offset(overlap=0, short_ends=True)], ids=repr)
async def test_a_page_that_cannot_be_made_smaller_is_never_half_a_list(style: Pagination) -> None:
    rule = When(status=413, then="smaller")
    with pytest.raises(DeclarationError, match="another size"):
        replace(ITEMS, page_size=8, pagination=style, answers=(rule,))
    endpoint = replace(ITEMS, page_size=8, pagination=style)
    declared = replace(api(endpoint), answers=(rule,))
    async with serve(forever=status(413)) as server:
        with pytest.raises(SourceError, match="cannot be made smaller"):
            await read(server.url, endpoint, declared)
        assert len(server.requests) == 1


async def test_a_window_that_the_endpoint_has_not_is_not_halved() -> None:
    declared = replace(api(ITEMS), answers=(When(status=400, then="halve"),))
    async with serve(forever=status(400)) as server:
        with pytest.raises(SourceError, match="answers= of this endpoint"):
            await read(server.url, ITEMS, declared)
