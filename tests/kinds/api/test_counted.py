"""A list that changes between its last page and the API's count: nothing is missing that was added, or extra that was
deleted in between, and a list that is cut still lacks records."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from flows.declare import Merge, Replace
from flows.kinds.api import (
    Api,
    Cursor,
    Endpoint,
    LinkHeader,
    NextHeader,
    NextUrl,
    Offset,
    PageNumber,
    Since,
    SinglePage,
)
from flows.kinds.api.declared.pagination import Pagination
from flows.publish.session import LoadResult
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Request, response, serve
from tests.kinds.api.loading import LISTS, keys, load, load_in_a_process
from tests.kinds.loading import landing_tables

PAGE = 3
STYLES: dict[str, Pagination] = {
    "page numbers": PageNumber("at"),
    "page numbers with pages": PageNumber("at", pages="pages"),
    "a flag": PageNumber("at", last="last"),
    "offsets": Offset("skip"),
    "offsets without overlap": Offset("skip", overlap=0),
    "tokens": Cursor("after", at="token"),
    "URLs": NextUrl("url"),
    "links": LinkHeader(),
    "headers": NextHeader("X-Next", parameter="after"),
    "one page": SinglePage(),
}


@dataclass
class Writing:
    """A list in every style, whose records `write` may change before the answer to request `n` of this load.

    `write_at_count`: the same before the count. `cut`: the pages have no more records than that, and know of no more;
    the count does.
    """

    ids: list[int] = field(default_factory=lambda: list(range(1, 8)))
    write: Callable[[int], None] = field(default=lambda n: None)
    write_at_count: Callable[[], None] = field(default=lambda: None)
    cut: int | None = None
    asked: int = 0

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.write(self.asked)
        query = request.query
        is_count = query["limit"] == "1"
        if is_count and "since" not in query:
            self.write_at_count()
        listed = [n for n in self.ids[: None if is_count else self.cut] if at(n) >= query.get("since", "")]
        wide = 100 if query["limit"] == "100" else PAGE
        size = 1 if is_count else wide
        begin = int(query.get("skip") or query.get("after") or 0) + (int(query.get("at", 1)) - 1) * PAGE
        found = [{"id": n, "at": at(n)} for n in listed[begin : begin + size]]
        following = begin + len(found)
        more = following < len(listed)
        url = f"/v1/items?limit={PAGE}&after={following}" if more else None
        body = {"data": found, "total": len(listed), "pages": -(-len(listed) // wide), "last": not more, "url": url}
        headers = (f'Link: <{url}>; rel="next"', f"X-Next: {following}") if more else ()
        body |= {"token": str(following) if more else None}
        writer.write(response(200, json.dumps(body).encode(), *headers))


def at(number: int) -> str:
    """The stamp of a record: those above 90 are written after this test began."""
    return f"2026-01-01T00:00:{number:02d}Z" if number <= 90 else f"2100-01-01T00:00:{number % 60:02d}Z"


def declared(style: str, load: Merge | Replace, **more: Any) -> Api:
    pagination = STYLES[style]
    size = 100 if isinstance(pagination, SinglePage) else PAGE
    items = Endpoint("items", path="/v1/items", key_type="bigint", pagination=pagination, total="total",
                     page_size=size, page_size_parameter="limit", load=load, concurrent=1, **more)  # fmt: skip
    return replace(LISTS, endpoints=[items])


async def read(warehouse: TestDatabase, api: Api, listed: Writing) -> LoadResult:
    listed.asked = 0
    async with serve(forever=listed.answer) as server:
        return await load(warehouse, server.url, "items", api)


def outcome(result: LoadResult) -> tuple[str | None, int | None, int | None, str | None]:
    counts = result.counts
    return counts.reconciliation, counts.source_rows, counts.raw_rows, result.warning


@pytest.mark.parametrize("load", [Merge(), Replace()], ids=lambda load: type(load).__name__)
@pytest.mark.parametrize("style", STYLES)
async def test_what_changes_between_the_last_page_and_the_count_is_no_difference(
    warehouse: TestDatabase, style: str, load: Merge | Replace
) -> None:
    """Added at either end, alone and without an end; or deleted. The count is the last request of a list at rest."""
    listed, api = Writing(), declared(style, load)
    assert outcome(await read(warehouse, api, listed)) == ("match", 7, 7, None)
    at_rest = listed.asked

    listed.write = lambda n: listed.ids.append(8) if n == at_rest else None
    assert outcome(await read(warehouse, api, listed)) == ("match", 8, 8, None)
    assert listed.asked <= at_rest + 3
    assert keys(warehouse, "items") == listed.ids

    listed.write = lambda n: listed.ids.insert(0, 9) if n == listed_at else None
    listed_at = await _requests_at_rest(warehouse, api, listed)
    assert outcome(await read(warehouse, api, listed)) == ("match", 9, 9, None)
    assert listed.asked <= listed_at + 4
    assert keys(warehouse, "items") == sorted(listed.ids)

    listed.write = lambda n: listed.ids.append(100 + len(listed.ids)) if n >= written_from else None
    written_from = await _requests_at_rest(warehouse, api, listed)
    verdict, source, raw, warning = outcome(await read(warehouse, api, listed))
    assert (verdict, raw, warning) == ("match", source, None)
    assert source == 10, "as of the count, though more were added since"
    assert listed.asked <= written_from + 3

    listed.ids[:] = sorted(keys(warehouse, "items"))
    listed.write = lambda n: listed.ids.remove(2) if n == deleted_at else None
    deleted_at = await _requests_at_rest(warehouse, api, listed)
    verdict, source, raw, warning = outcome(await read(warehouse, api, listed))
    assert (verdict, raw, warning) == ("match", source, None)
    assert listed.asked == deleted_at, "nothing else is asked"
    assert landing_tables(warehouse) == []


async def _requests_at_rest(warehouse: TestDatabase, api: Api, listed: Writing) -> int:
    write, listed.write = listed.write, lambda n: None
    await read(warehouse, api, listed)
    listed.write = write
    return listed.asked


@pytest.mark.parametrize("load", [Merge(), Replace()], ids=lambda load: type(load).__name__)
@pytest.mark.parametrize("style", STYLES)
async def test_a_list_that_is_cut_lacks_records_whatever_its_pages_say(
    warehouse: TestDatabase, style: str, load: Merge | Replace
) -> None:
    """Its pages agree with each other, so only the count tells; the number of requests is bounded."""
    listed, api = Writing(cut=4), declared(style, load)
    result = await read(warehouse, api, listed)
    assert result.counts.reconciliation == "missing"
    assert (result.counts.source_rows, keys(warehouse, "items")) == (7, [1, 2, 3, 4])
    assert listed.asked <= 9


@pytest.mark.parametrize("place", [0, 1000], ids=["at the front", "at the end"])
@pytest.mark.parametrize("style", [style for style in STYLES if style != "one page"])
async def test_a_writer_that_adds_a_record_before_each_answer_ends_equal_as_of_the_count(
    warehouse: TestDatabase, style: str, place: int
) -> None:
    """At the front, each record also shifts the pages."""
    listed, api = Writing(), declared(style, Merge())
    listed.write = lambda n: listed.ids.insert(place, 100 + n) if n < 100 else None
    verdict, source, raw, warning = outcome(await read(warehouse, api, listed))
    assert (verdict, raw, warning) == ("match", source, None)
    assert listed.asked <= 20


@pytest.mark.parametrize("load", [Merge(), Replace()], ids=lambda load: type(load).__name__)
async def test_a_record_added_at_the_front_while_the_pages_are_read_is_not_missing(
    warehouse: TestDatabase, load: Merge | Replace
) -> None:
    """The last page and the count agree: only the keys show that one of them is on none of the pages."""
    listed, api = Writing(), declared("tokens", load)
    listed.write = lambda n: listed.ids.insert(0, 8) if n == 2 else None
    if isinstance(load, Replace):
        api = replace(api, endpoints=[replace(api.endpoints[0], max_quarantined=0.5)])
    assert outcome(await read(warehouse, api, listed))[:3] == ("match", 8, 8)
    assert keys(warehouse, "items") == list(range(1, 9))


@pytest.mark.parametrize("style", ["page numbers", "offsets", "tokens"])
async def test_a_record_added_in_the_middle_is_found_by_the_cursor(warehouse: TestDatabase, style: str) -> None:
    """Also by a later load, which reads changes only."""
    listed, api = Writing(), declared(style, Merge(), cursor=Since("since", field="at"))
    listed.write_at_count = lambda: listed.ids.insert(4, 91) if 91 not in listed.ids else None
    assert outcome(await read(warehouse, api, listed)) == ("match", 8, 8, None)
    listed.write_at_count = lambda: listed.ids.insert(2, 92) if 92 not in listed.ids else None
    result = await read(warehouse, api, listed)
    assert (result.strategy, outcome(result)) == ("merge", ("match", 9, 9, None))
    listed.write_at_count = lambda: None
    listed.ids.append(12)  # with a stamp that the cursor has passed
    assert outcome(await read(warehouse, api, listed))[:3] == ("missing", 10, 9)


@pytest.mark.parametrize("style", STYLES)
async def test_a_child_list_that_grows_while_it_is_read_is_neither_refused_nor_cut(
    warehouse: TestDatabase, style: str
) -> None:
    """Its total is not declared, and may be a sign that there is more than was read."""
    listed = Writing()
    refunds = replace(LISTS.table("refunds"), pagination=STYLES[style], page_size=PAGE, page_size_parameter="limit")
    api = replace(LISTS, endpoints=[LISTS.table("orders"), replace(refunds, concurrent=1)])

    async def shop(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/v1/orders":
            writer.write(response(200, b'{"data": [{"id": 1}]}'))
        else:
            target = request.target if style != "one page" else request.target.replace(f"limit={PAGE}", "limit=100")
            await listed.answer(replace(request, target=target), writer)

    async with serve(forever=shop) as server:
        await load(warehouse, server.url, "orders", api)
        listed.write = lambda n: listed.ids.append(10 + n) if n in (1, 4, 6) else None
        grown = await load(warehouse, server.url, "refunds", api)
    assert grown.warning is None
    assert keys(warehouse, "refunds") == listed.ids[: len(keys(warehouse, "refunds"))]
    assert listed.asked <= 8


async def test_a_load_killed_after_it_has_looked_again_goes_on_with_what_it_found(warehouse: TestDatabase) -> None:
    listed = Writing()
    listed.write = lambda n: listed.ids.append(8) if n == 5 else None

    async def numbered(request: Request, writer: asyncio.StreamWriter) -> None:
        target = request.target.replace("page=", "at=") + ("&" if "?" in request.target else "?") + f"limit={PAGE}"
        await listed.answer(replace(request, target=target), writer)

    async with serve(forever=numbered) as server:
        assert await load_in_a_process(warehouse, server.url, "numbered", MEDALLION_FAILPOINT="after_copy") == -9
        before = listed.asked
        result = await load(warehouse, server.url, "numbered")
    assert outcome(result) == ("match", 8, 8, None)
    assert listed.asked == before + 1, "only the count is asked for again"
    assert keys(warehouse, "numbered") == list(range(1, 9))
