"""Pages that have landed are never asked for again, whatever ends the load: a kill, an API that fails, a refusal."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from flows.kinds.api.http.limits import HttpLimits
from flows.values.errors import DataRefused, SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.api.http_lists import Listing
from tests.kinds.api.http_servers import Answer, Request, raw, response, serve, status
from tests.kinds.api.loading import LISTS, keys, load, load_in_a_process
from tests.kinds.loading import landing_tables, loads, open_quarantine, rows, setting
from tests.nightly import nightly

ONE_TRY = HttpLimits(max_attempts=1)


def items(count: int) -> list[dict[str, Any]]:
    return [{"id": n, "at": f"2026-01-01T00:00:{n:02d}Z"} for n in range(1, count + 1)]


def asked(requests: list[Request]) -> list[str | None]:
    return [request.query.get("after") for request in requests]


def failing_at(token: str, answer: Answer, code: int = 503) -> Answer:
    async def answering(request: Request, writer: asyncio.StreamWriter) -> None:
        await (status(code) if request.query.get("after") == token else answer)(request, writer)

    return answering


@pytest.mark.parametrize("endpoint", [*nightly("items"), "refilled"])
async def test_a_load_killed_after_each_page_asks_for_no_page_that_had_landed(
    warehouse: TestDatabase, endpoint: str
) -> None:
    """Merge and replace, first load and later one. The page that was on its way at the kill is asked for once more."""
    for records in (items(12), [*items(12)[3:], {"id": 13, "at": "2026-01-02T00:00:00Z"}]):
        listing = Listing(records, delay=0.3)  # slower than a slice: each page commits by itself
        async with serve(forever=listing.by_token()) as server:
            ends = []
            for _ in range(5):
                ends.append(
                    await load_in_a_process(warehouse, server.url, endpoint, MEDALLION_FAILPOINT="after_slice_commit")
                )
                if ends[-1] == 0:
                    break
            if ends[-1] != 0:
                await load(warehouse, server.url, endpoint)
        times = Counter(asked(server.requests))
        assert ends.count(-9) == 4
        assert set(times) == {None, "3", "6", "9"}
        assert times[None] == 1
        assert max(times.values()) <= 2
        held = keys(warehouse, endpoint)
        wanted = [record["id"] for record in records]
        assert held == (wanted if endpoint == "refilled" else sorted({*range(1, 13), *wanted}))
    assert landing_tables(warehouse) == []
    published = [row for row in loads(warehouse) if row["status"] == "published"]
    assert len(published) == 2
    assert {row["_batch_id"] for row in rows(warehouse, f"select distinct _batch_id from raw_lists.{endpoint}")} <= {
        row["batch_id"] for row in published
    }


async def test_an_api_that_fails_in_the_middle_of_a_replace_is_gone_on_with(warehouse: TestDatabase) -> None:
    """Raw shows nothing of it until the list has been read whole."""
    listing = Listing(items(9))
    async with serve(forever=listing.by_token()) as server:
        await load(warehouse, server.url, "refilled")
    listing.records = items(9)[1:]
    answer = listing.by_token()
    async with serve(forever=failing_at("6", answer)) as server:
        for _ in range(2):
            with pytest.raises(SourceUnavailable):
                await load(warehouse, server.url, "refilled", limits=ONE_TRY)
        assert asked(server.requests) == [None, "3", "6", "6"]
        assert keys(warehouse, "refilled") == list(range(1, 10))
    async with serve(forever=answer) as server:
        result = await load(warehouse, server.url, "refilled")
    assert asked(server.requests) == ["6"]
    assert (result.counts.rows_read, result.counts.rows_deleted) == (8, 1)
    assert keys(warehouse, "refilled") == list(range(2, 10))


async def test_records_that_cannot_land_reach_quarantine_though_the_load_that_read_them_died(
    warehouse: TestDatabase,
) -> None:
    records = items(9)
    records[1]["note"] = "\0"
    records[4]["id"] = "not a number"
    endpoint = replace(LISTS.table("refilled"), max_quarantined=0.5)
    api = replace(LISTS, endpoints=[endpoint])
    answer = Listing(records).by_token()
    async with serve(forever=failing_at("6", answer)) as server:
        with pytest.raises(SourceUnavailable):
            await load(warehouse, server.url, "refilled", api, limits=ONE_TRY)
    async with serve(forever=answer) as server:
        result = await load(warehouse, server.url, "refilled", api)
    assert (asked(server.requests), result.counts.rows_read, result.counts.rows_quarantined) == (["6"], 9, 2)
    assert sorted(row["rule"] for row in open_quarantine(warehouse)) == ["key_present", "payload_holds_nul"]
    assert keys(warehouse, "refilled") == [1, 3, 4, 6, 7, 8, 9]
    assert {row["_batch_id"] for row in rows(warehouse, "select _batch_id from raw_lists.refilled")} == {
        result.batch_id
    }


async def test_what_was_refused_is_read_anew(warehouse: TestDatabase) -> None:
    """Its rows are what was wrong with it: publishing them again would be refused for ever."""
    listing = Listing([*items(4), {"id": None, "at": "2026-01-01T00:00:00Z"}])
    async with serve(forever=listing.by_token()) as server:
        with pytest.raises(DataRefused):
            await load(warehouse, server.url, "items")
        listing.records = items(5)
        result = await load(warehouse, server.url, "items")
    assert asked(server.requests) == [None, "3", None, "3"]
    assert result.counts.rows_read == 5


@pytest.mark.parametrize("code", [400, 404, 410])
async def test_a_place_that_the_api_refuses_is_given_up_and_the_list_begun_again(
    warehouse: TestDatabase, code: int
) -> None:
    listing = Listing(items(9))
    async with serve(forever=failing_at("6", listing.by_token())) as server:
        with pytest.raises(SourceUnavailable):
            await load(warehouse, server.url, "refilled", limits=ONE_TRY)
    async with serve(status(code), forever=listing.by_token()) as server:
        result = await load(warehouse, server.url, "refilled")
    assert asked(server.requests) == ["6", None, "3", "6"]
    assert (result.counts.rows_read, keys(warehouse, "refilled")) == (9, list(range(1, 10)))


async def test_what_a_crash_of_the_warehouse_emptied_is_not_gone_on_from(warehouse: TestDatabase) -> None:
    """An unlogged table is there afterwards, and empty."""
    listing = Listing(items(9))
    async with serve(forever=listing.by_token()) as server:
        await load(warehouse, server.url, "refilled")
    listing.records = items(10)
    async with serve(forever=failing_at("6", listing.by_token())) as server:
        with pytest.raises(SourceUnavailable):
            await load(warehouse, server.url, "refilled", limits=ONE_TRY)
    (table,) = landing_tables(warehouse)
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as connection:
        connection.execute(f'truncate landing."{table}"'.encode())
    async with serve(forever=listing.by_token()) as server:
        await load(warehouse, server.url, "refilled")
    assert asked(server.requests) == [None, "3", "6", "9"]
    assert keys(warehouse, "refilled") == list(range(1, 11))


async def test_an_etag_counts_only_once_its_list_has_been_read_whole(warehouse: TestDatabase) -> None:
    """Sent for a list that ended early, it would answer that nothing has changed, and the rest never come."""
    marked = replace(LISTS.table("items"), etag=True, cursor=None)
    api = replace(LISTS, endpoints=[marked])
    first = json.dumps({"data": items(1), "paging": {"next": "x", "more": True}}).encode()
    last = json.dumps({"data": items(2)[1:], "paging": {"more": False}}).encode()
    async with serve(raw(response(200, first, 'ETag: "v1"')), status(503)) as server:
        with pytest.raises(SourceUnavailable):
            await load(warehouse, server.url, "items", api, limits=ONE_TRY)
    assert rows(warehouse, "select etag from ops.list_reads") == [{"etag": None}]
    with setting(resume_hours=0):  # its place is too old to go on from
        async with serve(raw(response(200, first, 'ETag: "v2"')), raw(response(200, last))) as server:
            await load(warehouse, server.url, "items", api)
    assert "if-none-match" not in server.requests[0].headers
    assert (keys(warehouse, "items"), rows(warehouse, "select etag from ops.list_reads")) == (
        [1, 2],
        [{"etag": '"v2"'}],
    )
