"""A look at an API before anything is written, and the declaration drafted from it."""

import asyncio
import json
import runpy
from pathlib import Path

import pytest

from flows.kinds.api import Api, Bearer, Endpoint, NoAuth, Partition, Since
from flows.kinds.api.pages.endpoint import read_pages
from flows.kinds.api.preview import draft_api, preview_endpoint
from flows.values.connection import ApiConnection
from flows.values.errors import DeclarationError, SourceError
from tests.kinds.api.http_servers import Request, json_page, raw, response, serve
from tests.kinds.api.loading import KEY, LISTS
from tests.kinds.api.test_lists import page


async def test_a_preview_shows_records_fields_and_what_the_answer_suggests() -> None:
    answer = page([{"id": 1, "at": "x", "price": 1.10}, {"id": 2, "tags": []}], paging={"next": "b", "more": True})
    async with serve(answer, answer) as server:
        connection = ApiConnection("lists", server.url, KEY)
        seen = await preview_endpoint(LISTS, LISTS.table("items"), connection, count=1)
        with pytest.raises(DeclarationError, match="key of its parent"):
            await preview_endpoint(LISTS, LISTS.table("refunds"), connection)
    assert seen.records == [b'{"id": 1, "at": "x", "price": 1.1}']
    assert seen.fields == {"id": "number", "at": "text", "price": "number", "tags": "list"}
    facts = {what: (declared, suggested) for what, declared, suggested in seen.facts}
    assert facts["records on the first page"][0] == "2"
    assert facts["total"] == ("", "")
    assert facts["pagination"][0].startswith("Cursor(parameter='after'")
    assert facts["key"] == ("id (bigint)", "id (bigint)")


async def test_a_preview_of_partitions_and_windows_shows_the_first_list() -> None:
    cursor = Since("from", field="at", until="to", begin="2020-01-01", window="1 month")
    items = Endpoint("items", path="/{region}/items", key=("region", "id"), cursor=cursor,
                     partitions=(Partition("region", ("eu", "us")),))  # fmt: skip
    async with serve(forever=page([{"id": 1, "at": "x"}])) as server:
        await preview_endpoint(LISTS, items, ApiConnection("lists", server.url, KEY))
        assert {request.path for request in server.requests} == {"/eu/items"}
        assert server.requests[0].query["from"] == "2020-01-01T00:00:00Z"


async def test_a_drafted_declaration_reads_the_api_that_it_was_drafted_from(tmp_path: Path) -> None:
    """It is Python that imports, and what it names is what it imports."""
    rows = [{"id": n, "updated_at": f"2026-01-0{n}T00:00:00Z"} for n in (1, 2)]
    first = json_page(rows, following="/v2/order-lines.json?page=2&status=any", total=3)
    last = json_page([{"id": 3}], total=3)
    async with serve(first, first, last, first, last) as server:
        url = f"{server.url}/v2/order-lines.json?status=any&page=1"
        text, _ = await draft_api("orders_api", url, Bearer(), KEY, None)
        file = tmp_path / "orders_api.py"
        file.write_text(text)
        api = runpy.run_path(str(file))["orders_api"]
        assert isinstance(api, Api)
        endpoint = api.table("order_lines")
        records = [r async for p in read_pages(api, endpoint, ApiConnection("o", server.url, KEY)) for r in p.records]
    assert len(records) == 3
    assert (endpoint.key_type, endpoint.total, endpoint.params) == ("bigint", "meta.total", (("status", "any"),))
    assert 'cursor=Since("updated_since", field="updated_at", lag="10 min")' in text
    assert KEY not in text


async def test_an_odata_list_is_drafted_with_the_field_of_its_next_page(tmp_path: Path) -> None:
    """Its name has a dot. What is drafted has read two pages before it is shown."""

    async def odata(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.query.get("$skip", 0))
        following = {"@odata.nextLink": f"/v1/People?$skip={number + 2}"} if number < 4 else {}
        body = {"value": [{"id": number + 1}, {"id": number + 2}], **following}
        await raw(response(200, json.dumps(body).encode()))(request, writer)

    async with serve(forever=odata) as server:
        text, _ = await draft_api("people", f"{server.url}/v1/People", NoAuth(), None, None)
        assert len(server.requests) == 3
        assert """pagination=NextUrl('"@odata.nextLink"'),""" in text
        assert "does not work" not in text
        file = tmp_path / "people.py"
        file.write_text(text)
        api = runpy.run_path(str(file))["people"]
        pages = read_pages(api, api.endpoints[0], ApiConnection("o", server.url, None))
        assert len([record async for page in pages for record in page.records]) == 6


async def test_a_draft_that_does_not_read_the_second_page_says_so() -> None:
    """The parameter of a token is a guess: this API calls it otherwise."""

    async def other(request: Request, writer: asyncio.StreamWriter) -> None:
        body = {"items": [{"id": 1}, {"id": 2}], "nextPageToken": "b"}
        await raw(response(200, json.dumps(body).encode()))(request, writer)

    async with serve(forever=other) as server:
        text, _ = await draft_api("items_api", f"{server.url}/v1/items", NoAuth(), None, None)
    assert "# Tried, and it does not work: the link to the next page points to a page already read." in text


async def test_an_answer_without_a_list_is_no_draft() -> None:
    async with serve(raw(response(200, b'{"status": "ok"}'))) as server:
        with pytest.raises(SourceError, match="no list of records"):
            await draft_api("x", f"{server.url}/v1", NoAuth(), None, None)
