"""Jobs: created once, kept before they are waited for, started again with a bound."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.kinds.api import Api, Bearer, Csv, Cursor, Endpoint, Job, NdJson, NoAuth, Partition, Since, SinglePage, When
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.pages.endpoint import read_pages
from flows.kinds.api.pages.page import Page, Start
from flows.values.connection import ApiConnection
from flows.values.errors import ListUnfinished, RateLimited, SourceError, SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, Request, Server, json_page, raw, response, serve, status
from tests.kinds.api.loading import load
from tests.kinds.api.rest_reading import QUICK
from tests.kinds.api.rest_reading import read as read_list
from tests.kinds.loading import rows

JOB = Job("/jobs", poll="/jobs/{job}", body={"kind": "items"}, state="state", done=("Done",), failed=("Failed",))
RESULTS = Endpoint("items", path="/jobs/{job}/rows", job=JOB, key_type="bigint")


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "pause", property(lambda _: timedelta(milliseconds=2)))


def told(code: int = 200, **facts: Any) -> Answer:
    return raw(response(code, json.dumps(facts).encode()))


CREATED = told(201, id="j/1")
RUNNING, DONE, FAILED = told(state="Running"), told(state="Done", rows=2, file="f 1"), told(state="Failed")


def declared(endpoint: Endpoint = RESULTS, **options: Any) -> Api:
    return Api("lists", connection="lists", auth=Bearer(), endpoints=[endpoint], **options)


async def read(
    server: Server, endpoint: Endpoint = RESULTS, start: Start | None = None, limits: HttpLimits = QUICK, **options: Any
) -> list[Page]:
    pages = read_pages(
        declared(endpoint, **options),
        endpoint,
        ApiConnection("lists", server.url, "k"),
        start or Start(),
        limits=limits,
    )
    return [page async for page in pages]


def records(pages: Sequence[Page]) -> list[bytes]:
    return [record for page in pages for record in page.records]


async def test_a_job_is_created_polled_and_its_records_are_read() -> None:
    async with serve(CREATED, RUNNING, RUNNING, DONE, json_page([1, 2])) as server:
        assert records(await read(server)) == [b"1", b"2"]
    assert [(request.method, request.target) for request in server.requests] == [
        ("POST", "/jobs"),
        *[("GET", "/jobs/j%2F1")] * 3,
        ("GET", "/jobs/j%2F1/rows"),
    ]
    assert json.loads(server.requests[0].body) == {"kind": "items"}


async def test_a_job_s_id_is_given_out_before_it_is_polled() -> None:
    """Whoever keeps it asks for the next page only then."""
    async with serve(CREATED, DONE, json_page([1])) as server:
        pages = read_pages(declared(), RESULTS, ApiConnection("lists", server.url, "k"), limits=QUICK)
        first = await anext(pages)
        assert (first.keep, first.records) == (True, [])
        assert first.place is not None
        assert first.place["job"]["id"] == "j/1"
        assert len(server.requests) == 1
        await pages.aclose()


async def test_a_later_run_waits_for_the_same_job() -> None:
    async with serve(CREATED, RUNNING) as server:
        with pytest.raises(RateLimited, match="waiting for the same job") as caught:
            await read(server, limits=HttpLimits(wait_budget_seconds=0))
        assert caught.value.retryable
    async with serve(CREATED, DONE, json_page([1])) as server:
        kept = (await read(server))[0].place
    async with serve(RUNNING, DONE, json_page([1])) as server:
        assert records(await read(server, start=Start(place=kept))) == [b"1"]
    assert [request.method for request in server.requests] == ["GET"] * 3


async def test_a_later_run_goes_on_behind_the_pages_it_has_read() -> None:
    endpoint = Endpoint("items", path="/jobs/{job}/rows", job=JOB, pagination=Cursor("after", at="next"))
    first, last = raw(response(200, b'{"data": [1], "next": "b"}')), raw(response(200, b'{"data": [2], "next": null}'))
    async with serve(CREATED, DONE, first, last) as server:
        pages = await read(server, endpoint)
    assert [page.number for page in pages] == [1, 2, 3]
    async with serve(last) as server:
        assert records(await read(server, endpoint, Start(place=pages[1].place))) == [b"2"]
    assert server.requests[0].target == "/jobs/j%2F1/rows?after=b"


async def test_a_job_that_fails_or_has_expired_is_started_again_with_a_bound() -> None:
    async with serve(CREATED, FAILED, CREATED, status(404), told(201, id="j3"), DONE, json_page([1])) as server:
        assert records(await read(server)) == [b"1"]
    assert [request.target for request in server.requests].count("/jobs") == 3
    async with serve(*[CREATED, FAILED] * 3) as server:
        with pytest.raises(SourceError, match="3 jobs in a row"):
            await read(server)


async def test_a_job_that_is_not_done_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "patience", property(lambda _: timedelta(milliseconds=1)))

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await (CREATED if request.method == "POST" else RUNNING)(request, writer)

    async with serve(forever=answer) as server:
        with pytest.raises(SourceError, match="jobs in a row"):
            await read(server)


async def test_the_number_of_records_that_a_job_tells_is_compared() -> None:
    counted = replace(RESULTS, job=replace(JOB, total="rows"))
    async with serve(CREATED, DONE, json_page([1, 2])) as server:
        assert len(records(await read(server, counted))) == 2
    async with serve(CREATED, DONE, json_page([1])) as server:
        with pytest.raises(ListUnfinished, match="has 2 records, and 1 of them"):
            await read(server, counted)


@pytest.mark.parametrize(
    "answers", [[told(201, other="x")], [CREATED, told(other="x")], [CREATED, told(state="Done", file=None)]]
)
async def test_a_response_without_what_is_declared_is_an_error(answers: list[Answer]) -> None:
    endpoint = replace(RESULTS, path="/files/{result}", job=replace(JOB, result="file"))
    async with serve(*answers) as server:
        with pytest.raises(SourceError, match="compare a response"):
            await read(server, endpoint)


async def test_changes_are_requested_in_the_body_or_in_a_text_of_it() -> None:
    since = Since("from", field="at", prefix="ge")
    in_field = replace(RESULTS, cursor=since)
    in_text = replace(in_field, job=replace(JOB, body={"q": ["select where at >= {since}"]}, first="1970-01-01"))
    for endpoint, start, sent in (
        (in_field, None, {"kind": "items"}),
        (in_field, "2024-01-01", {"kind": "items", "from": "ge2024-01-01T00:00:00Z"}),
        (in_text, None, {"q": ["select where at >= 1970-01-01"]}),
        (in_text, "2024-01-01", {"q": ["select where at >= ge2024-01-01T00:00:00Z"]}),
    ):
        async with serve(CREATED, DONE, json_page([])) as server:
            await read(server, endpoint, Start(start))
        assert json.loads(server.requests[0].body) == sent
        assert server.requests[-1].target == "/jobs/j%2F1/rows"


async def test_a_job_may_be_created_by_a_form_and_polled_by_post() -> None:
    """As of GraphQL."""
    job = replace(JOB, poll="/graphql", poll_body={"query": '{ node(id: "{job}") { id } }'})
    async with serve(CREATED, DONE, json_page([])) as server:
        await read(server, replace(RESULTS, job=job, form=True))
    assert server.requests[0].body == b"kind=items"
    assert json.loads(server.requests[1].body) == {"query": '{ node(id: "j/1") { id } }'}


async def test_a_finished_job_s_document_is_read_at_its_store_and_its_address_is_kept_nowhere() -> None:
    async with serve(raw(response(200, b'{"id": 1}\n{"id": 2}\n', content_type="text/plain"))) as store:
        address = f"{store.url}/f?sig=canary"
        endpoint = replace(
            RESULTS, path="/files/{result}", job=replace(JOB, result="file", download="url"), format=NdJson()
        )
        async with serve(CREATED, DONE, told(url=address)) as server:
            pages = await read(server, endpoint, stores=(store.url.removeprefix("http://"),))
    assert len(records(pages)) == 2
    assert server.requests[-1].target == "/files/f%201"
    assert "canary" not in repr(pages)
    assert "authorization" not in store.requests[0].headers


@pytest.mark.parametrize("address", ["https://evil.example.com/f?sig=canary", "file:///etc/passwd", "", "http://[x"])
async def test_a_document_at_any_other_place_is_not_read(address: str) -> None:
    endpoint = replace(RESULTS, job=replace(JOB, download="url"), format=NdJson())
    async with serve(CREATED, DONE, told(url=address)) as server:
        with pytest.raises(SourceError, match="declare it") as caught:
            await read(server, endpoint, stores=("*.s3.amazonaws.com",))
    assert "canary" not in str(caught.value)


async def test_a_load_that_is_rescheduled_keeps_its_job_and_ends_with_its_records(warehouse: TestDatabase) -> None:
    api = declared(Endpoint("items", path="/jobs/{job}/rows", job=JOB, key_type="bigint"))
    async with serve(CREATED, RUNNING) as server:
        with pytest.raises(RateLimited):
            await load(warehouse, server.url, "items", api, limits=HttpLimits(wait_budget_seconds=0))
    [kept] = rows(warehouse, "select coalesce(place, gathered -> 'place') -> 'job' ->> 'id' as id from ops.list_reads")
    assert kept["id"] == "j/1"
    async with serve(DONE, json_page([{"id": 1}, {"id": 2}])) as server:
        result = await load(warehouse, server.url, "items", api)
    assert result.counts.rows_read == 2
    assert {row["id"] for row in rows(warehouse, "select id from raw_lists.items")} == {1, 2}


async def test_results_that_have_expired_meanwhile_start_another_job(warehouse: TestDatabase) -> None:
    api = declared(Endpoint("items", path="/jobs/{job}/rows", job=JOB, key_type="bigint"))
    broken = status(503)
    async with serve(CREATED, DONE, broken, broken, broken) as server:
        with pytest.raises(SourceUnavailable):
            await load(warehouse, server.url, "items", api, limits=QUICK)
    async with serve(DONE, status(404), told(201, id="j2"), DONE, json_page([{"id": 1}])) as server:
        await load(warehouse, server.url, "items", api)
    assert [request.target for request in server.requests][-1] == "/jobs/j2/rows"


async def test_a_broken_line_of_a_job_s_document_is_quarantined_and_the_others_are_published(
    warehouse: TestDatabase,
) -> None:
    endpoint = Endpoint(
        "items", path="/jobs/{job}/rows", job=JOB, key_type="bigint", format=NdJson(), max_quarantined=0.5
    )
    body = b'{"id": 1}\nnonsense\n{"id": 2, "a": "\\u0000"}\n{"id": 3}\n'
    async with serve(CREATED, DONE, raw(response(200, body, content_type="text/plain"))) as server:
        await load(warehouse, server.url, "items", declared(endpoint))
    assert {row["id"] for row in rows(warehouse, "select id from raw_lists.items")} == {1, 3}
    kept = [row["row_data"] for row in rows(warehouse, "select row_data::text from quarantine.rows")]
    assert any("nonsense" in text for text in kept)
    assert len(kept) == 2


async def test_each_window_has_a_job_of_its_own_that_is_kept_before_it_is_waited_for(warehouse: TestDatabase) -> None:
    """One at a time: what runs ahead of a commit is started again after a kill."""
    cursor = Since("from", until="to", field="at", begin="2024-01-01", window="10 days", prefix="")
    endpoint = Endpoint("items", path="/jobs/{job}/rows", job=JOB, key_type="bigint", cursor=cursor)
    made = list[str]()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        number = request.path.rpartition("/j")[2].partition("/")[0]
        if request.method == "POST":
            made.append(json.loads(request.body)["from"])
            await told(201, id=f"j{len(made)}")(request, writer)
        elif request.path.endswith("/rows"):
            await json_page([{"id": int(number), "at": made[int(number) - 1]}])(request, writer)
        else:
            kept = rows(warehouse, "select coalesce(place::text, '') || gathered::text as place from ops.list_reads")
            assert any(f'"j{number}"' in row["place"] for row in kept)
            await DONE(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", declared(endpoint))
    assert made[:3] == ["2024-01-01T00:00:00Z", "2024-01-11T00:00:00Z", "2024-01-21T00:00:00Z"]
    assert len(rows(warehouse, "select id from raw_lists.items")) == len(made)


async def test_without_windows_the_upper_end_of_a_job_is_now() -> None:
    job = Job("/jobs", poll="/jobs/{job}", body={"q": "at >= {since} and at < {until}"}, first="1970-01-01",
              state="state", done=("Done",))  # fmt: skip
    cursor = Since("from", field="at", until="to", begin="2020-01-01T00:00:00Z")
    endpoint = Endpoint("items", path="/jobs/{job}/rows", job=job, cursor=cursor, pagination=SinglePage())
    declared = Api("lists", connection="lists", auth=NoAuth(), endpoints=[endpoint])
    before = datetime.now(UTC)
    async with serve(CREATED, DONE, told(data=[])) as server:
        await read_list(server.url, endpoint, declared, since="2026-11-01T00:00:00Z")
        sent = json.loads(server.requests[0].body)["q"]
    until = datetime.fromisoformat(sent.partition("< ")[2].replace("Z", "+00:00"))
    assert sent.startswith("at >= 2026-11-01T00:00:00Z")
    assert timedelta(seconds=-2) < until - before < timedelta(minutes=1)


@pytest.mark.parametrize("form", [None, Csv()])
async def test_results_that_are_not_ready_are_no_empty_list(form: Csv | None) -> None:
    job = Job("/jobs", poll="/jobs/{job}", state="state", done=("Done",))
    endpoint = Endpoint("items", path="/jobs/{job}/rows", job=job, format=form, pagination=SinglePage())
    declared = Api("lists", connection="lists", auth=NoAuth(), endpoints=[endpoint])
    later = told(202, data=[]) if form is None else raw(response(202, b"id\n", content_type="text/csv"))
    async with serve(CREATED, DONE, forever=later) as server:
        with pytest.raises(SourceError, match="202"):
            await read_list(server.url, endpoint, declared)


async def test_a_partition_without_a_job_is_skipped_as_declared(warehouse: TestDatabase) -> None:
    job = replace(JOB, body={"region": "{region}"})
    endpoint = Endpoint("items", path="/jobs/{job}/rows", job=job, key=("region", "id"), key_type="bigint",
                        partitions=(Partition("region", ("eu", "us")),), pagination=SinglePage(),
                        answers=(When(status=403, then="skip"),))  # fmt: skip
    declared = Api("lists", connection="lists", auth=NoAuth(), endpoints=[endpoint])

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "POST":
            is_none = json.loads(request.body)["region"] == "eu"
            await (status(403) if is_none else CREATED)(request, writer)
            return
        await (told(data=[{"id": 1}]) if request.path.endswith("rows") else DONE)(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", declared)
    assert [row["region"] for row in rows(warehouse, "select region from raw_lists.items")] == ["us"]
