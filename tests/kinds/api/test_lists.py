"""Lists published group by group: what a kill, a 410, a 304, a tombstone and a late change leave in raw."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.declare import Merge
from flows.failures.circuit import CircuitOpen
from flows.kinds.api.http.limits import HttpLimits
from flows.values.errors import ConfigurationError, PlaceLost, RateLimited, SchemaDrift, SourceError, SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.api.http_lists import Listing
from tests.kinds.api.http_servers import Answer, Request, raw, response, serve, status
from tests.kinds.api.loading import LISTS, keys, load, load_in_a_process, place
from tests.kinds.loading import cursor, landing_tables, loads, open_quarantine, raw_rows, rows, setting

EVERY_PAGE = {"api_group_mb": 0}


def items(count: int, day: int = 1) -> list[dict[str, Any]]:
    return [{"id": n, "at": f"2026-01-{day:02d}T00:00:{n:02d}Z"} for n in range(1, count + 1)]


def page(records: list[Any], *headers: str, **body: Any) -> Answer:
    return raw(response(200, json.dumps({"data": records, **body}).encode(), *headers))


def patient_until(token: str, answer: Answer) -> Answer:
    """The API asks for an hour's patience in front of the page at `token`: the load ends, and leaves its place."""

    async def answering(request: Request, writer: asyncio.StreamWriter) -> None:
        asked = request.query.get("after") == token
        await (status(429, "Retry-After: 3600") if asked else answer)(request, writer)

    return answering


async def stopped_at(warehouse: TestDatabase, endpoint: str, token: str, listing: Listing) -> None:
    """A load that ended early, with the pages before `token` published."""
    with setting(api_wait_budget_seconds=1):
        async with serve(forever=patient_until(token, listing.by_token())) as server:
            with pytest.raises(RateLimited):
                await load(warehouse, server.url, endpoint)


async def test_a_killed_load_goes_on_behind_the_last_group_that_committed(warehouse: TestDatabase) -> None:
    """Killed three times: behind the first group's commit, and twice in the second group, before its own."""
    listing = Listing(items(9))
    async with serve(forever=listing.by_token()) as server:
        for failpoint in ("after_chunk_commit", "after_copy", "in_publish_before_commit"):
            variables = {"MEDALLION_API_GROUP_MB": "0", "MEDALLION_FAILPOINT": failpoint}
            assert await load_in_a_process(warehouse, server.url, "items", **variables) == -9
            assert keys(warehouse, "items") == [1, 2, 3]
        result = await load(warehouse, server.url, "items")
    times = Counter(request.query.get("after") for request in server.requests)
    assert set(times) == {None, "3", "6"}
    assert (times[None], max(times.values())) == (1, 2)  # at most what was on its way is asked for again
    assert result.counts.rows_read == 6
    assert keys(warehouse, "items") == list(range(1, 10))
    assert (place(warehouse, "items"), landing_tables(warehouse)) == (None, [])


async def test_the_cursor_moves_at_the_end_of_a_list_in_no_order_and_with_each_group_of_an_ordered_one(
    warehouse: TestDatabase,
) -> None:
    listing = Listing(items(5))
    for name, reached in (("items", None), ("ordered", "2026-01-01 00:00:03+00")):
        await stopped_at(warehouse, name, "3", listing)
        assert cursor(warehouse, name) == reached
        async with serve(forever=listing.by_token()) as server:
            await load(warehouse, server.url, name)
        assert cursor(warehouse, name) == "2026-01-01 00:00:05+00"


async def test_a_change_on_a_page_already_read_is_not_passed_over(warehouse: TestDatabase) -> None:
    """It is stamped earlier than what a later page holds: a cursor at the latest stamp seen would step over it."""
    began = datetime.now(UTC).replace(microsecond=0)
    date = f"Date: {began:%a, %d %b %Y %H:%M:%S} GMT"
    late = (began + timedelta(milliseconds=900)).isoformat()
    first = page([{"id": 1, "at": "2026-01-01T00:00:00Z"}], date, paging={"next": "x", "more": True})
    async with serve(first, page([{"id": 2, "at": late}], date, paging={"more": False})) as server:
        result = await load(warehouse, server.url, "items")
    assert result.upper is not None
    assert datetime.fromisoformat(result.upper) <= began


async def test_a_list_that_fails_in_the_middle_keeps_what_had_come(warehouse: TestDatabase) -> None:
    listing = Listing(items(7))
    answer = listing.by_token()

    async def failing(request: Any, writer: Any) -> None:
        await (status(404) if request.query.get("after") == "3" and broken else answer)(request, writer)

    broken = True
    async with serve(forever=failing) as server:
        with pytest.raises(Exception, match="404"):
            await load(warehouse, server.url, "items")
        # A refusal is no matter of time, so the load is not gone on with by itself; it publishes nothing either.
        assert rows(warehouse, "select to_regclass('raw_lists.items') as raw") == [{"raw": None}]
        broken = False
        result = await load(warehouse, server.url, "items")
    assert result.counts.rows_read == 7


async def test_a_forgotten_place_is_read_again_from_the_durable_cursor(warehouse: TestDatabase) -> None:
    """The page token expired while nobody read: what had been published is met again, and adds nothing."""
    listing = Listing(items(9))
    await stopped_at(warehouse, "items", "3", listing)
    async with serve(status(410), forever=listing.by_token()) as server:
        result = await load(warehouse, server.url, "items")
    assert [request.query.get("after") for request in server.requests] == ["3", None, "3", "6"]
    assert (result.counts.rows_read, result.counts.rows_unchanged) == (9, 3)
    assert keys(warehouse, "items") == list(range(1, 10))


async def test_a_place_that_is_forgotten_each_time_ends_the_load(warehouse: TestDatabase) -> None:
    first = page(items(1), paging={"next": "x", "more": True})
    async with serve(first, status(410), first, status(410), first, status(410)) as server:
        with pytest.raises(PlaceLost):
            await load(warehouse, server.url, "items")


async def test_a_change_token_is_sent_back_and_its_loss_reads_everything_again(warehouse: TestDatabase) -> None:
    """Google's way: the last page of a list brings it, and 410 says that it is too old."""
    end = {"paging": {"more": False}}
    async with serve(
        page([{"id": 1}], paging={"next": "x", "more": True}), page([{"id": 2}], sync="token-1", **end)
    ) as server:
        await load(warehouse, server.url, "tokens")
    assert cursor(warehouse, "tokens") == "token-1"
    async with serve(page([{"id": 3}], sync="token-2", **end)) as server:
        await load(warehouse, server.url, "tokens")
    assert server.requests[0].query == {"sync": "token-1"}
    async with serve(status(410), page([{"id": 1}, {"id": 2}, {"id": 3}], sync="token-3", **end)) as server:
        result = await load(warehouse, server.url, "tokens")
    assert [request.query for request in server.requests] == [{"sync": "token-2"}, {}]
    assert (result.counts.rows_unchanged, cursor(warehouse, "tokens")) == (3, "token-3")


async def test_an_unchanged_list_is_not_read_again_and_takes_nothing_from_raw(warehouse: TestDatabase) -> None:
    """A replace that took a 304 for an empty list would delete everything."""
    etag = 'ETag: "v1"'
    async with serve(page([{"id": 1}, {"id": 2}], etag)) as server:
        await load(warehouse, server.url, "whole")
    assert "if-none-match" not in server.requests[0].headers
    before = raw_rows(warehouse, "whole", "raw_lists")
    async with serve(status(304), status(304)) as server:
        result = await load(warehouse, server.url, "whole")
        await load(warehouse, server.url, "whole")
    assert [request.headers["if-none-match"] for request in server.requests] == ['"v1"', '"v1"']
    assert (result.counts.rows_read, raw_rows(warehouse, "whole", "raw_lists")) == (0, before)
    async with serve(page([{"id": 1}], 'ETag: "v2"')) as server:
        assert (await load(warehouse, server.url, "whole")).counts.rows_deleted == 1


async def test_a_tombstone_ends_its_row_which_keeps_its_last_values(warehouse: TestDatabase) -> None:
    """Kinto's way; with numbers for times, tombstones for records never seen, and one that a record follows."""
    seen = [{"id": n, "last_modified": 1000 + n, "name": f"n{n}"} for n in (1, 2, 3)]
    async with serve(page([*seen, {"id": 4, "last_modified": 900, "deleted": True}])) as server:
        first = await load(warehouse, server.url, "stamps")
    assert (first.counts.rows_inserted, first.counts.rows_deleted, first.upper) == (4, 0, "1003")
    later = [
        {"id": 1, "last_modified": 1010, "deleted": True},
        {"id": 9, "last_modified": 1011, "deleted": True},
        {"id": 2, "last_modified": 1012, "deleted": True},
        {"id": 2, "last_modified": 1012, "name": "back", "deleted": False},
        {"id": 3, "last_modified": "soon", "deleted": None},
    ]
    async with serve(page(later), page([later[0]])) as server:
        second = await load(warehouse, server.url, "stamps")
        third = await load(warehouse, server.url, "stamps")
    assert [request.query for request in server.requests] == [{"_since": "1003"}, {"_since": "1012"}]
    counts = second.counts
    assert (counts.rows_deleted, counts.rows_deduplicated, counts.rows_quarantined) == (2, 1, 1)
    assert (counts.rows_inserted, counts.rows_updated) == (1, 2)
    assert (keys(warehouse, "stamps"), keys(warehouse, "stamps", "_deleted_at is not null")) == ([2, 3], [1, 4, 9])
    (ended,) = rows(warehouse, "select payload from raw_lists.stamps where id = 1")
    assert ended["payload"]["name"] == "n1"
    assert [row["rule"] for row in open_quarantine(warehouse)] == ["cursor_present"]
    async with serve(page([{"id": 3, "last_modified": 1020, "deleted": True}])) as server:
        await load(warehouse, server.url, "stamps")
    assert rows(warehouse, "select resolution from quarantine.rows") == [{"resolution": "deleted at the source"}]
    assert (third.counts.rows_unchanged, third.counts.rows_deleted) == (1, 0)


async def test_a_replace_meets_the_same_tombstone_each_time_and_ends_its_row_once(warehouse: TestDatabase) -> None:
    api = replace(LISTS, endpoints=[replace(LISTS.table("refilled"), deleted="deleted")])
    end = {"paging": {"more": False}}
    ended = page([{"id": 1, "v": 2}, {"id": 2, "v": 9, "deleted": True}], **end)
    async with serve(page([{"id": 1, "v": 1}, {"id": 2, "v": 1}], **end), ended, ended) as server:
        for deleted, updated in ((0, 0), (1, 2), (0, 0)):
            counts = (await load(warehouse, server.url, "refilled", api)).counts
            assert (counts.rows_deleted, counts.rows_updated) == (deleted, updated)
    held = rows(
        warehouse, "select payload ->> 'v' as v, _deleted_at is null as lives from raw_lists.refilled order by id"
    )
    assert held == [{"v": "2", "lives": True}, {"v": "1", "lives": False}]


async def test_a_place_noted_under_another_declaration_is_not_gone_on_from(warehouse: TestDatabase) -> None:
    listing = Listing(items(5))
    await stopped_at(warehouse, "items", "3", listing)
    with setting(resume_hours=0):
        async with serve(forever=listing.by_token()) as server:
            await load(warehouse, server.url, "items")
    assert server.requests[0].query == {}


async def test_a_shifting_list_ends_with_the_count_that_the_api_gives(warehouse: TestDatabase) -> None:
    listing = Listing(items(13), cap=4)

    def shift(request: Any) -> None:
        if len(server.requests) == 2:
            listing.records = listing.records[2:]

    listing.before = shift
    with setting(**EVERY_PAGE):
        async with serve(forever=listing.by_offset()) as server:
            result = await load(warehouse, server.url, "shifting")
    assert set(range(3, 14)) <= set(keys(warehouse, "shifting"))
    assert (result.counts.source_rows, result.counts.raw_rows, result.counts.reconciliation) == (11, 13, "extra")
    assert {row["status"] for row in loads(warehouse)} == {"published"}


def refunds_of(refunds: dict[int, list[int]], at_work: list[int], delay: float = 0.0) -> Answer:
    """Orders, and two refunds a page of each; an order that the API does not know any more is a 404."""

    async def answering(request: Request, writer: asyncio.StreamWriter) -> None:
        at_work[0] += 1
        at_work[1] = max(at_work)
        await asyncio.sleep(delay)
        at_work[0] -= 1
        *_, order, _ = request.path.split("/")
        if request.path == "/v1/orders":
            await page([{"id": n} for n in refunds])(request, writer)
        elif not refunds.get(int(order)):
            await status(404)(request, writer)
        else:
            begin = int(request.query.get("after", 0))
            found = [{"id": n, "note": "né"} for n in refunds[int(order)]][begin : begin + 2]
            more = begin + 2 < len(refunds[int(order)])
            await page(found, paging={"next": str(begin + 2), "more": more})(request, writer)

    return answering


async def test_children_are_asked_for_by_the_parents_that_changed(warehouse: TestDatabase) -> None:
    """Several at one time; ids repeat from parent to parent, and one parent is gone meanwhile."""
    refunds = {order: [1, 2, 3][: order % 4] for order in range(1, 41)}
    at_work = [0, 0]
    async with serve(forever=refunds_of(refunds, at_work, delay=0.005)) as server:
        await load(warehouse, server.url, "orders")
        first = await load(warehouse, server.url, "refunds")
        asked = len(server.requests)
        again = await load(warehouse, server.url, "refunds")
        assert len(server.requests) == asked
        refunds |= {41: [7], 42: [7]}
        await load(warehouse, server.url, "orders")
        later = await load(warehouse, server.url, "refunds")
    expected = {(order, refund) for order, list_ in refunds.items() for refund in list_}
    held = rows(warehouse, "select order_id, id, payload from raw_lists.refunds")
    assert {(row["order_id"], row["id"]) for row in held} == expected
    assert {row["payload"]["note"] for row in held} == {"né"}
    assert (first.counts.rows_read, again.counts.rows_read, later.counts.rows_read) == (60, 0, 2)
    assert at_work[1] == 4


async def test_children_are_gone_on_with_behind_the_last_parent_that_committed(warehouse: TestDatabase) -> None:
    refunds = {order: [1, 2, 3] for order in range(1, 6)}
    answer = refunds_of(refunds, [0, 0])

    async def patient(request: Request, writer: asyncio.StreamWriter) -> None:
        await (status(429, "Retry-After: 3600") if "/3/" in request.path else answer)(request, writer)

    with setting(api_wait_budget_seconds=1, **EVERY_PAGE):
        async with serve(forever=patient) as server:
            await load(warehouse, server.url, "orders")
            with pytest.raises(RateLimited):
                await load(warehouse, server.url, "refunds")
    assert {row["order_id"] for row in rows(warehouse, "select order_id from raw_lists.refunds")} == {1, 2}
    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "refunds")
    assert {request.path.split("/")[3] for request in server.requests} == {"3", "4", "5"}
    assert len(keys(warehouse, "refunds")) == 15


async def test_a_child_that_stands_in_its_parents_list_no_more_is_marked_deleted(warehouse: TestDatabase) -> None:
    """Only in lists that were read whole: a parent that is not found says nothing of its children."""
    refunds = {1: [1, 2, 3], 2: [1, 2], 3: [1], 4: [1]}
    orders = dict.fromkeys(refunds, 1)
    answer = refunds_of(refunds, [0, 0])

    async def changing(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/v1/orders":
            return await page([{"id": order, "v": v} for order, v in orders.items()])(request, writer)
        if request.path.split("/")[3] in empty:
            return await page([], paging={"more": False})(request, writer)
        await answer(request, writer)

    empty = set[str]()
    async with serve(forever=changing) as server:
        await load(warehouse, server.url, "orders")
        await load(warehouse, server.url, "refunds")
        orders |= {1: 2, 2: 2, 3: 2}
        refunds |= {1: [3, 4], 2: []}  # of order 2 the API knows nothing any more
        empty.add("3")
        await load(warehouse, server.url, "orders")
        later = await load(warehouse, server.url, "refunds")
        orders[3] = 3
        empty.clear()
        await load(warehouse, server.url, "orders")
        back = await load(warehouse, server.url, "refunds")

    gone = rows(warehouse, "select order_id, id from raw_lists.refunds where _deleted_at is not null order by 1, 2")
    assert [(row["order_id"], row["id"]) for row in gone] == [(1, 1), (1, 2)]
    assert (later.counts.rows_read, later.counts.rows_inserted, later.counts.rows_deleted) == (2, 1, 3)
    assert (back.counts.rows_updated, back.counts.rows_deleted) == (1, 0)
    held = rows(warehouse, "select order_id, id from raw_lists.refunds where _deleted_at is null order by 1, 2")
    assert [(row["order_id"], row["id"]) for row in held] == [(1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]
    assert landing_tables(warehouse) == []


async def test_a_wrong_path_is_not_taken_for_parents_without_children(warehouse: TestDatabase) -> None:
    async with serve(forever=refunds_of({order: [] for order in range(1, 15)}, [0, 0])) as server:
        await load(warehouse, server.url, "orders")
        with pytest.raises(SourceError, match="404 for each of the first 10 parents"):
            await load(warehouse, server.url, "refunds")


async def test_children_of_a_parent_that_was_never_loaded_are_refused(warehouse: TestDatabase) -> None:
    async with serve() as server:
        with pytest.raises(ConfigurationError, match="parent orders has not been loaded"):
            await load(warehouse, server.url, "refunds")


async def test_plain_pages_and_others_land_alike_in_the_order_in_which_they_came(warehouse: TestDatabase) -> None:
    """From the first page on that is not plain PostgreSQL reads the values; of a key's versions the last one stays."""
    at = "2026-01-01T00:00:00Z"
    pages = [
        page([{"id": 1, "at": at, "v": "plain"}, {"id": 2, "at": at}], paging={"next": "b", "more": True}),
        page([{"id": "1", "at": "2026-01-01 01:00+01", "v": "not plain"}], paging={"next": "c", "more": True}),
        page([{"id": 3, "at": at}, {"id": None, "at": at}], paging={"more": False}),
    ]
    async with serve(*pages) as server:
        endpoint = replace(LISTS.table("items"), max_quarantined=0.5)
        result = await load(warehouse, server.url, "items", replace(LISTS, endpoints=[endpoint]))
    held = rows(warehouse, "select id, at, payload ->> 'v' as v from raw_lists.items order by id")
    assert [(row["id"], row["v"]) for row in held] == [(1, "not plain"), (2, None), (3, None)]
    assert len({row["at"] for row in held}) == 1
    assert (result.counts.rows_deduplicated, result.counts.rows_quarantined) == (1, 1)


async def test_new_fields_are_taken_in_refused_or_quarantined_as_declared(warehouse: TestDatabase) -> None:
    for contract in ("evolve", "quarantine", "freeze"):
        declared = replace(LISTS.table("whole"), etag=False, on_drift=contract, max_quarantined=0.5, load=Merge())
        api = replace(LISTS, endpoints=[declared], name=f"fields_{contract}")
        async with serve(
            page([{"id": 1, "n": 1}]), page([{"id": 2, "n": 2}, {"id": 3, "n": "3", "z": True}])
        ) as server:
            await load(warehouse, server.url, "whole", api)
            if contract == "freeze":
                with pytest.raises(SchemaDrift, match=r"n retyped \(number or text\); z added \(boolean\)"):
                    await load(warehouse, server.url, "whole", api)
            else:
                await load(warehouse, server.url, "whole", api)
    held = {
        contract: [row["id"] for row in rows(warehouse, f"select id from raw_fields_{contract}.whole order by id")]
        for contract in ("evolve", "quarantine", "freeze")
    }
    assert held == {"evolve": [1, 2, 3], "quarantine": [1, 2], "freeze": [1]}
    (kept,) = open_quarantine(warehouse)
    assert (kept["rule"], kept["row_key"]) == ("fields_as_known", {"id": 3})
    changes = rows(warehouse, "select source_system, column_name, applied from ops.schema_changes order by 1, 2")
    assert [(row["source_system"], row["column_name"], row["applied"]) for row in changes] == [
        (f"fields_{contract}", name, contract == "evolve")
        for contract in ("evolve", "freeze", "quarantine")
        for name in ("n", "z")
    ]
    fields = rows(
        warehouse, "select field, kinds from ops.record_fields where source_system = 'fields_evolve' order by 1"
    )
    assert fields == [
        {"field": "id", "kinds": ["number"]},
        {"field": "n", "kinds": ["number", "text"]},
        {"field": "z", "kinds": ["boolean"]},
    ]


async def test_an_api_that_is_down_is_left_alone_by_its_other_endpoints_too(warehouse: TestDatabase) -> None:
    with setting(circuit_failures=1, circuit_seconds=60):
        with pytest.raises(SourceUnavailable):
            await load(warehouse, "http://127.0.0.1:1", "items", limits=HttpLimits(max_attempts=1))
        async with serve() as server:
            with pytest.raises(CircuitOpen, match=r"lists is open for (60|5\d) s more: no connection"):
                await load(warehouse, server.url, "orders")
    assert [row["status"] for row in loads(warehouse)] == ["failed", "failed"]
