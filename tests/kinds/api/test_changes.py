"""What changes between two attempts at a list: its declaration, raw, its parents, the fields of its records."""

import asyncio
import json
import secrets
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from flows.declare import Merge, Replace
from flows.kinds.api import Api, ChangeToken, Cursor, Endpoint, Parent, Since
from flows.kinds.api import parents as api_parents
from flows.kinds.api.http.limits import HttpLimits
from flows.values.errors import SourceError, SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.api.http_lists import Listing
from tests.kinds.api.http_servers import Answer, Request, raw, response, serve, status
from tests.kinds.api.loading import LISTS, keys, load
from tests.kinds.loading import landing_tables, open_quarantine, rows, setting

ONE_TRY = HttpLimits(max_attempts=1)


def items(count: int) -> list[dict[str, Any]]:
    return [{"id": n, "at": f"2026-01-01T00:00:{n:02d}Z"} for n in range(1, count + 1)]


def page(records: list[Any], **body: Any) -> Answer:
    return raw(response(200, json.dumps({"data": records, **body}).encode()))


def more(token: str) -> dict[str, Any]:
    return {"paging": {"next": token, "more": True}}


def failing_at(token: str, answer: Answer) -> Answer:
    async def answering(request: Request, writer: asyncio.StreamWriter) -> None:
        await (status(503) if request.query.get("after") == token else answer)(request, writer)

    return answering


def by_token(pages: dict[str | None, Answer]) -> Answer:
    async def answering(request: Request, writer: asyncio.StreamWriter) -> None:
        await pages[request.query.get("after")](request, writer)

    return answering


def only(endpoint: Endpoint) -> Api:
    return replace(LISTS, endpoints=[endpoint])


async def stopped(warehouse: TestDatabase, table: str, *answers: Answer, api: Api = LISTS) -> None:
    """A load that is cancelled while it waits for a page that never comes, when all before it have landed."""
    hangs = asyncio.Event()

    async def hanging(request: Request, writer: asyncio.StreamWriter) -> None:
        hangs.set()
        await asyncio.sleep(60)

    async with serve(*answers, forever=hanging) as server:
        task = asyncio.create_task(load(warehouse, server.url, table, api))
        await hangs.wait()
        await landed(warehouse, table)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def landed(warehouse: TestDatabase, table: str, pages: int = 1) -> None:
    query = (
        f"select from ops.list_reads where table_name = '{table}' "
        f"and (place is not null or (gathered ->> 'pages')::integer >= {pages})"
    )
    for _ in range(500):
        if await asyncio.to_thread(rows, warehouse, query):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nothing landed")


def execute(warehouse: TestDatabase, *statements: str) -> None:
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def test_a_list_that_was_merged_in_part_is_not_taken_for_whole_by_a_replace(warehouse: TestDatabase) -> None:
    """What the merge has published would be deleted, since it does not come again behind the place."""
    listing = Listing(items(9))
    merged = replace(LISTS.table("refilled"), load=Merge())
    async with serve(forever=listing.by_token()) as server:
        await load(warehouse, server.url, "refilled", only(merged))
    with setting(api_group_mb=0):
        async with serve(forever=failing_at("3", listing.by_token())) as server:
            with pytest.raises(SourceUnavailable):
                await load(warehouse, server.url, "refilled", only(merged), limits=ONE_TRY)
    async with serve(forever=listing.by_token()) as server:
        result = await load(warehouse, server.url, "refilled")
    assert (keys(warehouse, "refilled"), result.counts.rows_deleted) == (list(range(1, 10)), 0)


async def test_tombstones_that_are_declared_while_a_list_is_under_way_are_told(warehouse: TestDatabase) -> None:
    """Those that have landed were taken for records."""
    plain = replace(LISTS.table("items"), cursor=None)
    first = page([{"id": 1}, {"id": 2, "deleted": True}], **more("3"))
    await stopped(warehouse, "items", first, api=only(plain))
    async with serve(forever=by_token({None: first, "3": page([{"id": 3}], paging={"more": False})})) as server:
        await load(warehouse, server.url, "items", only(replace(plain, deleted="deleted")))
    assert keys(warehouse, "items") == [1, 3]


async def test_a_raw_table_dropped_while_its_list_is_under_way_is_filled_and_outlives_a_crash(
    warehouse: TestDatabase,
) -> None:
    """What a later load gathers lies in an unlogged table, which must not become raw; and the ETag of the last whole
    list would be answered that nothing has changed."""
    api = only(replace(LISTS.table("refilled"), etag=True))
    listing = Listing(items(9))
    answer = listing.by_token()
    first = json.dumps({"data": items(3), **more("3")}).encode()

    async def marked(request: Request, writer: asyncio.StreamWriter) -> None:
        began = request.query.get("after") is None
        await (raw(response(200, first, 'ETag: "v1"')) if began else answer)(request, writer)

    async with serve(forever=marked) as server:
        await load(warehouse, server.url, "refilled", api)
    await stopped(warehouse, "refilled", raw(response(200, first, 'ETag: "v2"')), api=api)
    execute(warehouse, "drop table raw_lists.refilled")
    async with serve(forever=marked) as server:
        await load(warehouse, server.url, "refilled", api)
    assert "if-none-match" not in server.requests[0].headers
    assert keys(warehouse, "refilled") == list(range(1, 10))
    kind = "select relpersistence::text as kind from pg_class where oid = 'raw_lists.refilled'::regclass"
    assert rows(warehouse, kind) == [{"kind": "p"}]


async def test_fields_seen_before_a_load_ended_early_are_known_to_the_next(warehouse: TestDatabase) -> None:
    frozen = only(replace(LISTS.table("items"), cursor=None, on_drift="freeze"))
    await stopped(warehouse, "items", page([{"id": 1, "early": 1}], **more("3")), api=frozen)
    end = page([{"id": 2}], paging={"more": False})
    async with serve(end, page([{"id": 3, "early": 2}], paging={"more": False})) as server:
        await load(warehouse, server.url, "items", frozen)
        await load(warehouse, server.url, "items", frozen)
    assert keys(warehouse, "items") == [1, 2, 3]
    assert [row["field"] for row in rows(warehouse, "select field from ops.record_fields order by 1")] == [
        "early",
        "id",
    ]


async def test_new_fields_seen_before_a_load_ended_early_are_recorded_when_they_reach_raw(
    warehouse: TestDatabase,
) -> None:
    for contract in ("evolve", "quarantine"):
        api = replace(
            only(replace(LISTS.table("items"), cursor=None, on_drift=contract, max_quarantined=0.5)),
            name=f"new_{contract}",
        )
        end = page([{"id": 2}], paging={"more": False})
        async with serve(page([{"id": 1}], paging={"more": False})) as server:
            await load(warehouse, server.url, "items", api)
        await stopped(warehouse, "items", page([{"id": 1, "new": 1}], **more("3")), api=api)
        async with serve(end) as server:
            await load(warehouse, server.url, "items", api)
    assert rows(warehouse, "select source_system, column_name, applied from ops.schema_changes order by 1") == [
        {"source_system": "new_evolve", "column_name": "new", "applied": True},
        {"source_system": "new_quarantine", "column_name": "new", "applied": False},
    ]


async def test_a_first_list_that_was_given_up_is_still_the_first(warehouse: TestDatabase) -> None:
    """Its fields are all new: frozen, they would refuse it for ever."""
    frozen = only(replace(LISTS.table("items"), cursor=None, on_drift="freeze"))
    async with serve(page([{"id": 1}], **more("3")), status(503)) as server:
        with pytest.raises(SourceUnavailable):
            await load(warehouse, server.url, "items", frozen, limits=ONE_TRY)
    assert keys(warehouse, "items") == [1]
    with setting(resume_hours=0):
        async with serve(page([{"id": 1, "late": 1}], paging={"more": False})) as server:
            await load(warehouse, server.url, "items", frozen)
    assert [row["field"] for row in rows(warehouse, "select field from ops.record_fields order by 1")] == ["id", "late"]


async def test_unreadable_records_that_a_crash_of_the_warehouse_took_are_read_again(warehouse: TestDatabase) -> None:
    """The first load's landing table survives a crash, the table beside it does not."""
    tolerant = only(replace(LISTS.table("items"), cursor=None, max_quarantined=0.9))
    bad = page([{"id": 1, "note": "\0"}], **more("3"))
    end = page([{"id": 2}], paging={"more": False})
    await stopped(warehouse, "items", bad, api=tolerant)
    (beside,) = [name for name in landing_tables(warehouse) if name.endswith("__u")]
    execute(warehouse, f'truncate landing."{beside}"')
    async with serve(forever=by_token({None: bad, "3": end})) as server:
        await load(warehouse, server.url, "items", tolerant)
    assert [row["row_key"] for row in open_quarantine(warehouse)] == [{"id": 1}]
    assert landing_tables(warehouse) == []


ORDERS = replace(LISTS, endpoints=[LISTS.table("orders"), LISTS.table("refunds")])


class Refunds:
    """Orders with a version each, and their refunds on one page."""

    def __init__(self) -> None:
        self.orders = {1: 1, 2: 1, 3: 1}
        self.refunds: dict[int, list[dict[str, Any]]] = {order: [{"id": 1}, {"id": 2}] for order in self.orders}
        self.waits_at = 0
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/v1/orders":
            return await page([{"id": order, "v": v} for order, v in self.orders.items()])(request, writer)
        order = int(request.path.split("/")[3])
        if order == self.waits_at:
            self.asked.set()
            await self.goes_on.wait()
        await page(self.refunds[order], paging={"more": False})(request, writer)

    async def stop(self, warehouse: TestDatabase, url: str, table: str, api: Api, order: int) -> None:
        """A load that is cancelled while it waits for the refunds of an order."""
        self.waits_at = order
        task = asyncio.create_task(load(warehouse, url, table, api))
        await landed(warehouse, table)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self.waits_at = 0


def children(warehouse: TestDatabase, table: str = "refunds") -> list[tuple[int, int]]:
    held = rows(warehouse, f"select order_id, id from raw_lists.{table} where _deleted_at is null order by 1, 2")
    return [(row["order_id"], row["id"]) for row in held]


async def test_an_unreadable_child_is_not_taken_for_one_that_vanished(warehouse: TestDatabase) -> None:
    """Its last good version stays, and it leaves quarantine when it is mended."""
    api = replace(ORDERS, endpoints=[ORDERS.table("orders"), replace(ORDERS.table("refunds"), max_quarantined=0.9)])
    shop = Refunds()
    async with serve(forever=shop) as server:
        await load(warehouse, server.url, "orders", api)
        await load(warehouse, server.url, "refunds", api)
        shop.refunds[1] = [{"id": 1}, {"id": 2, "note": "\0"}]
        shop.orders[1] = 2
        await load(warehouse, server.url, "orders", api)
        result = await load(warehouse, server.url, "refunds", api)
        assert (result.counts.rows_quarantined, result.counts.rows_deleted) == (1, 0)
        assert (1, 2) in children(warehouse)
        assert (result.counts.raw_rows, result.counts.quarantine_rows) == (6, 0)
        shop.orders[3] = 2
        await load(warehouse, server.url, "orders", api)
        elsewhere = await load(warehouse, server.url, "refunds", api)
        assert (elsewhere.counts.raw_rows, elsewhere.counts.quarantine_rows) == (6, 0)
        assert [row["row_key"] for row in open_quarantine(warehouse)] == [{"id": 2, "order_id": 1}]
        shop.refunds[1] = [{"id": 1}]
        shop.orders[1] = 3
        await load(warehouse, server.url, "orders", api)
        await load(warehouse, server.url, "refunds", api)
    assert (open_quarantine(warehouse), (1, 2) in children(warehouse)) == ([], False)


async def test_a_child_that_vanished_while_its_list_was_under_way_is_marked_though_its_parent_came_twice(
    warehouse: TestDatabase,
) -> None:
    """The parent changes between two attempts; what the first one landed of it is not all there is."""
    shop = Refunds()
    async with serve(forever=shop) as server:
        await load(warehouse, server.url, "orders", ORDERS)
        await shop.stop(warehouse, server.url, "refunds", ORDERS, 2)
        shop.refunds |= {1: [{"id": 2}], 4: [{"id": 1}]}
        shop.orders |= {1: 2, 4: 1}
        await load(warehouse, server.url, "orders", ORDERS)
        await load(warehouse, server.url, "refunds", ORDERS)
        await load(warehouse, server.url, "refunds", ORDERS)
    assert children(warehouse) == [(1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1)]


async def test_a_replace_of_children_keeps_those_of_a_parent_that_changes_meanwhile(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parents are fetched from raw a thousand at one time; here one."""
    monkeypatch.setattr(api_parents, "_SLICE", 1)
    every = Parent("orders", column="order_id", type="bigint", every=True)
    declared = replace(ORDERS.table("refunds"), parent=every, load=Replace(), concurrent=1)
    api = replace(ORDERS, endpoints=[ORDERS.table("orders"), declared])
    shop = Refunds()
    async with serve(forever=shop) as server:
        await load(warehouse, server.url, "orders", api)
        await load(warehouse, server.url, "refunds", api)
        before = children(warehouse)
        shop.waits_at = 2
        task = asyncio.create_task(load(warehouse, server.url, "refunds", api))
        await shop.asked.wait()
        shop.orders |= {1: 2, 3: 2}
        await load(warehouse, server.url, "orders", api)
        shop.goes_on.set()
        result = await task
    assert (children(warehouse), result.counts.rows_deleted) == (before, 0)


async def test_a_list_of_children_from_before_deletes_were_found_is_gone_on_with(warehouse: TestDatabase) -> None:
    """An upgrade meets lists that are under way: of theirs nothing says which were whole."""
    shop = Refunds()
    async with serve(forever=shop) as server:
        await load(warehouse, server.url, "orders", ORDERS)
        await shop.stop(warehouse, server.url, "refunds", ORDERS, 2)
        for name in landing_tables(warehouse):
            if name.endswith("__f"):
                execute(warehouse, f'drop table landing."{name}"')
        await load(warehouse, server.url, "refunds", ORDERS)
    assert len(children(warehouse)) == 6


async def test_a_parent_that_is_gone_keeps_no_other_from_being_asked(warehouse: TestDatabase) -> None:
    """410 is no lost place there: it would come again each time, and the list never end."""
    shop = Refunds()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await (status(410) if "/2/" in request.path else shop)(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "orders", ORDERS)
        await load(warehouse, server.url, "refunds", ORDERS)
    assert children(warehouse) == [(1, 1), (1, 2), (3, 1), (3, 2)]


async def test_many_parents_in_a_row_that_are_not_found_are_believed_once_another_was(warehouse: TestDatabase) -> None:
    """An API that says 404 where there are no children would never get past the first ten of them."""
    shop = Refunds()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        order = request.path.split("/")[3:4]
        await (status(404) if order and int(order[0]) in missing else shop)(request, writer)

    missing = range(10, 30)
    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "orders", ORDERS)
        await load(warehouse, server.url, "refunds", ORDERS)
        shop.orders |= dict.fromkeys(range(10, 31), 1)
        shop.refunds[30] = [{"id": 5}]
        await load(warehouse, server.url, "orders", ORDERS)
        await load(warehouse, server.url, "refunds", ORDERS)
        assert (30, 5) in children(warehouse)
        missing = range(100)
        shop.orders |= dict.fromkeys(range(10, 31), 2)
        await load(warehouse, server.url, "orders", ORDERS)
        with pytest.raises(SourceError, match="404 for each of the first 10 parents"):
            await load(warehouse, server.url, "refunds", ORDERS)


async def test_children_of_a_parent_with_two_keys_are_not_taken_for_those_of_its_namesakes(
    warehouse: TestDatabase,
) -> None:
    parents = Endpoint(
        "lines", path="/v1/lines", key=("shop", "id"), key_type="bigint", pagination=Cursor("after", at="n")
    )
    notes = Endpoint(
        "notes", path="/v1/shops/{shop}/lines/{id}/notes", key_type="bigint", parent=Parent("lines", column="shop"),
        pagination=Cursor("after", at="n"),
    )  # fmt: skip
    api = replace(LISTS, endpoints=[parents, notes])
    version = {1: 1, 2: 1}

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/v1/lines":
            return await page([{"shop": 7, "id": n, "v": v} for n, v in version.items()])(request, writer)
        await page([{"id": int(request.path.split("/")[5])}])(request, writer)

    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "lines", api)
        await load(warehouse, server.url, "notes", api)
        version[1] = 2
        await load(warehouse, server.url, "lines", api)
        result = await load(warehouse, server.url, "notes", api)
    assert (keys(warehouse, "notes"), result.counts.rows_deleted) == ([1, 2], 0)


async def test_of_two_versions_the_one_that_came_last_stays_though_vacuum_made_room_before_it(
    warehouse: TestDatabase,
) -> None:
    uncursored = only(replace(LISTS.table("items"), cursor=None))
    first = page([{"id": str(n), "v": "old", "pad": secrets.token_hex(900)} for n in range(1, 5)], **more("3"))
    await stopped(warehouse, "items", first, api=uncursored)
    new = page([{"id": 1, "v": "new"}], paging={"more": False})

    async def after_vacuum(request: Request, writer: asyncio.StreamWriter) -> None:
        (name,) = landing_tables(warehouse)
        await asyncio.to_thread(execute, warehouse, f'vacuum landing."{name}"')
        await new(request, writer)

    async with serve(after_vacuum) as server:
        await load(warehouse, server.url, "items", uncursored)
    held = rows(warehouse, "select payload ->> 'v' as v, _batch_id from raw_lists.items order by id")
    assert [row["v"] for row in held] == ["new", "old", "old", "old"]
    assert len({row["_batch_id"] for row in held}) == 1


async def test_another_cursor_or_path_reads_every_page(warehouse: TestDatabase) -> None:
    """The value of one field says nothing of another, nor of another list."""
    cursor = Since("changed_since", field="at")
    first = Endpoint("lists", path="/items", key="id", records="data", cursor=cursor, load=Merge())
    others = [
        replace(first, cursor=Since("created_since", field="created")),
        replace(first, path="/v2/items"),
        replace(first, cursor=ChangeToken("token", at="next")),
    ]
    records = [{"id": n, "at": "2026-01-02T00:00:00Z", "created": "2025-01-01T00:00:00Z"} for n in range(1, 4)]
    for other in others:
        token = {"next": "t"} if isinstance(other.cursor, ChangeToken) else {}
        async with serve(forever=page(records)) as server:
            await load(warehouse, server.url, "lists", only(first))
            assert (await load(warehouse, server.url, "lists", only(first))).lower is not None
        async with serve(forever=page(records, **token)) as server:
            result = await load(warehouse, server.url, "lists", only(other))

            assert (result.strategy, result.lower) == ("reload", None)
            assert "another cursor or path" in str(result.warning)
            assert (await load(warehouse, server.url, "lists", only(other))).strategy == "merge"
        execute(warehouse, "drop table raw_lists.lists", "delete from ops.cursors", "delete from ops.list_reads")
