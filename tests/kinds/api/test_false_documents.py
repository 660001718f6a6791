"""Documents with status 200 that are none: the text of an error, a part. None of them is an empty list."""

import asyncio
from dataclasses import replace

import pytest

from flows.declare import Replace
from flows.kinds.api import (
    Api,
    Csv,
    Endpoint,
    NdJson,
    NextHeader,
    NoAuth,
    PageNumber,
    Parent,
    Since,
    SinglePage,
    When,
    Xml,
)
from flows.kinds.api.declared.format import Format
from flows.kinds.api.declared.pagination import Pagination
from flows.values.errors import MedallionError, SourceError, SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, Request, json_page, raw, response, serve, status
from tests.kinds.api.loading import keys, load
from tests.kinds.api.rest_reading import QUICK, read, values
from tests.kinds.loading import rows

BUSY = b"Service busy, retry later\n"


def doc(body: bytes, *headers: str, kind: str = "text/csv") -> Answer:
    return raw(response(200, body, *headers, content_type=kind))


def lists(endpoint: Endpoint, *others: Endpoint) -> Api:
    return Api("lists", connection="lists", auth=NoAuth(), endpoints=[endpoint, *others])


FALSE = [
    pytest.param(Csv(), b"id,n\n1,a\n2,b\n", BUSY, id="csv"),
    pytest.param(Xml("o"), b"<r><o><id>1</id></o><o><id>2</id></o></r>", b"<Error><Code>x</Code></Error>", id="xml"),
    pytest.param(Xml("r.o"), b"<r><o><id>1</id></o><o><id>2</id></o></r>", b"<busy/>", id="xml with its parent"),
]


@pytest.mark.parametrize(("form", "good", "bad"), FALSE)
async def test_a_text_of_an_error_is_no_empty_document(
    warehouse: TestDatabase, form: Format, good: bytes, bad: bytes
) -> None:
    items = lists(Endpoint("items", path="/x", format=form, load=Replace(), pagination=SinglePage()))
    async with serve(doc(good), forever=doc(bad, kind="text/plain")) as server:
        await load(warehouse, server.url, "items", items, limits=QUICK)
        with pytest.raises(SourceError):
            await load(warehouse, server.url, "items", items, limits=QUICK)
    assert [str(key) for key in keys(warehouse, "items")] == ["1", "2"]


@pytest.mark.parametrize(("form", "good", "bad"), FALSE)
async def test_a_text_of_an_error_deletes_no_child(
    warehouse: TestDatabase, form: Format, good: bytes, bad: bytes
) -> None:
    orders = Endpoint("orders", path="/orders", key_type="bigint", pagination=SinglePage())
    parent = Parent("orders", column="order_id", type="bigint", every=True)
    kids = Endpoint(
        "kids", path="/orders/{id}/k", key=("order_id", "id"), key_type="bigint", format=form, parent=parent
    )
    declared = lists(orders, kids)
    broken = False

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/orders":
            await json_page([{"id": 1}, {"id": 2}])(request, writer)
            return
        await doc(bad if broken and request.path == "/orders/1/k" else good)(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "orders", declared)
        await load(warehouse, server.url, "kids", declared, limits=QUICK)
        broken = True
        assert "1" in str((await load(warehouse, server.url, "kids", declared, limits=QUICK)).warning)
    assert not rows(warehouse, "select from raw_lists.kids where _deleted_at is not null")


@pytest.mark.parametrize("style", [PageNumber(), NextHeader("X-Next", parameter="page")], ids=["numbers", "tokens"])
async def test_a_text_of_an_error_does_not_end_a_list_of_documents(warehouse: TestDatabase, style: Pagination) -> None:
    is_numbered = isinstance(style, PageNumber)
    cursor = None if is_numbered else Since("from", field="at", form="epoch")
    strategy = {"load": Replace()} if is_numbered else {"cursor": cursor}
    items = lists(Endpoint("items", path="/x", key_type="bigint", format=Csv(), pagination=style, **strategy))
    bad = True

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        page, since = int(request.query.get("page", 1)), int(request.query.get("from", 0))
        if bad and page == 2:
            await doc(BUSY, kind="text/plain")(request, writer)
            return
        found = [f"{n},{1000 - n}\n" for n in range((page - 1) * 3, min(page * 3, 9)) if 1000 - n >= since]
        await doc(("id,at\n" + "".join(found)).encode(), *([f"X-Next: {page + 1}"] if page < 3 else []))(
            request, writer
        )

    async with serve(forever=answer) as server:
        with pytest.raises(MedallionError):
            await load(warehouse, server.url, "items", items, limits=QUICK)
        bad = False
        await load(warehouse, server.url, "items", items, limits=QUICK)
    assert keys(warehouse, "items") == list(range(9))


async def test_a_later_document_without_names_is_no_document_without_rows() -> None:
    items = Endpoint("items", path="/x", format=Csv(), pagination=NextHeader("X-Next", parameter="after"))
    async with serve(doc(b"id,n\n1,a\n", "X-Next: 2"), forever=doc(b"3,c\n")) as server:
        with pytest.raises(SourceError, match="'id'"):
            await read(server.url, items, lists(items))


@pytest.mark.parametrize(
    ("record", "first", "last", "proven"),
    [
        ("o", None, b"<r/>", False),
        ("r.o", None, b"<r/>", True),
        ("o", b"<r><o><id>1</id></o></r>", b"<r/>", True),
        ("o", b"<r><o><id>1</id></o></r>", b"<busy/>", None),
    ],
)
async def test_an_empty_xml_document_is_proven_by_what_is_around_its_records(
    record: str, first: bytes | None, last: bytes, proven: bool | None
) -> None:
    items = Endpoint("items", path="/x", format=Xml(record), pagination=NextHeader("X-Next", parameter="after"))
    answers = [doc(last)] if first is None else [doc(first, "X-Next: 2"), doc(last)]
    async with serve(*answers) as server:
        if proven is None:
            with pytest.raises(SourceError):
                await read(server.url, items, lists(items))
            return
        pages = await read(server.url, items, lists(items))
    assert (pages[-1].is_proven, len(values(pages))) == (proven, len(answers) - 1)


async def test_a_last_line_that_reports_a_failure_is_no_record() -> None:
    items = Endpoint("items", path="/x", format=NdJson())
    lines = b'{"id": 1}\n{"id": 2}\n'
    failed = doc(lines + b'{"error": "timeout, results are incomplete"}\n', kind="application/x-ndjson")
    async with serve(forever=failed) as server:
        with pytest.raises(SourceUnavailable, match="'error'"):
            await read(server.url, items, lists(items))
    record = doc(lines + b'{"id": 3, "error": "declined"}\n', kind="application/x-ndjson")
    async with serve(record) as server:
        assert len(values(await read(server.url, items, lists(items)))) == 3


async def test_a_document_that_is_declared_to_be_the_last_one_ends_its_list() -> None:
    last = When(header="X-Last=true", then="end")
    items = Endpoint("items", path="/x", format=Csv(), pagination=PageNumber(), answers=(last,))
    async with serve(doc(b"id\n1\n"), doc(b"id\n2\n", "X-Last: true"), forever=status(400)) as server:
        pages = await read(server.url, items, lists(items))
    assert (len(values(pages)), pages[-1].is_proven, len(server.requests)) == (2, True, 2)


async def test_documents_of_one_list_are_bounded() -> None:
    items = Endpoint("items", path="/x", format=Csv(), pagination=NextHeader("X-Next", parameter="after"))

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        at = int(request.query.get("after", 0))
        await doc(b"id\n%d\n" % at, f"X-Next: {at + 1}")(request, writer)

    async with serve(forever=answer) as server:
        with pytest.raises(SourceError, match="max_pages"):
            await read(server.url, items, lists(items), limits=replace(QUICK, max_pages=10))
        assert len(server.requests) == 10
