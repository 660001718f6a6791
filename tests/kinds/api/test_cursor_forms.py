"""Cursors in the forms that APIs write them: in records, and in their parameters."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flows.kinds.api import Api, Endpoint, PageNumber, Since, SinglePage
from flows.kinds.api.declared.pagination import Pagination
from flows.kinds.api.declared.stamps import earliest_local
from flows.kinds.api.declared.windows import Span
from flows.values.errors import DeclarationError
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, Request, response, serve
from tests.kinds.api.loading import keys, load
from tests.kinds.loading import open_quarantine, rows

VIENNA = ZoneInfo("Europe/Vienna")


def declared(cursor: Since, pagination: Pagination | None = None, **more: Any) -> Api:
    items = Endpoint("items", path="/v1/items", key_type="bigint", cursor=cursor,
                     pagination=pagination or SinglePage(), **more)  # fmt: skip
    return Api("lists", connection="lists", endpoints=[items])


def listing(records: list[dict[str, Any]], size: int = 100) -> Answer:
    """All records, whatever is asked for, page by page."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.query.get("page", 1))
        body = {"data": records[(number - 1) * size : number * size]}
        writer.write(response(200, json.dumps(body).encode()))

    return answer


async def asked_next(warehouse: TestDatabase, cursor: Since, *values: object) -> str | None:
    """What the parameter is in the load after one that has seen these values."""
    records = [{"id": n, "at": value} for n, value in enumerate(values, 1)]
    async with serve(forever=listing(records)) as server:
        await load(warehouse, server.url, "items", declared(cursor))
        await load(warehouse, server.url, "items", declared(cursor))
        assert open_quarantine(warehouse) == []
        return server.requests[-1].query.get(cursor.parameter)


@pytest.mark.parametrize(
    ("cursor", "value", "asked"),
    [
        (Since("p", "at"), "2024-03-01T10:00:00.123456Z", "2024-03-01T10:00:00.123456Z"),
        (Since("p", "at", digits=0), "2024-03-01T10:00:00.999Z", "2024-03-01T10:00:00Z"),
        (Since("p", "at", digits=3), "2024-03-01T12:00:00.9999+02:00", "2024-03-01T10:00:00.999Z"),
        (Since("p", "at", digits=3), "2024-03-01T10:00:00Z", "2024-03-01T10:00:00.000Z"),
        (Since("p", "at"), "2024-03-01 10:00:00", "2024-03-01T10:00:00Z"),
        (Since("p", "at", sent="epoch"), "2024-03-01T10:00:00.9Z", "1709287200"),
        (Since("p", "at", sent="epoch_ms"), "2024-03-01T10:00:00.9Z", "1709287200900"),
        (Since("p", "at", sent="epoch_us", lag="1 s"), "2024-03-01T10:00:00.9Z", "1709287199900000"),
        (Since("p", "at", sent="date"), "2024-03-01T10:00:00Z", "2024-03-01"),
        (Since("p", "at", sent="%d/%m/%Y %H:%M"), "2024-03-01T10:07:59Z", "01/03/2024 10:07"),
        (Since("p", "at", sent="%Y-%m-%dT%H:%M:%S.%fZ", digits=3), "2024-03-01T10:07:59.1239Z",
         "2024-03-01T10:07:59.123Z"),
        (Since("p", "at", sent="%Y-%m-%dT%H:%M:%S%z", zone="Europe/Vienna"), "2024-03-01T10:07:59Z",
         "2024-03-01T11:07:59+0100"),
        (Since("p", "at", form="epoch"), 1709287200, "1709287200"),
        (Since("p", "at", form="epoch", sent="iso"), 1709287200, "2024-03-01T10:00:00Z"),
        (Since("p", "at", form="epoch_ms", sent="date"), 1709287200999, "2024-03-01"),
        (Since("p", "at", form="epoch_decimal"), "1709287200.000216", "1709287200.000216"),
        (Since("p", "at", form="epoch_decimal", lag="1 min"), "1709287200.000216", "1709287140.000216"),
        (Since("p", "at", form="epoch_decimal", sent="epoch"), "1709287200.900216", "1709287200"),
        (Since("p", "at", form="date"), "2024-03-01", "2024-03-01"),
        (Since("p", "at", form="date", lag="3 days"), "20240301", "2024-02-27"),
        (Since("p", "at", form="date", zone="Europe/Vienna"), "2024-03-01", "2024-03-01"),
        (Since("p", "at", form="%d.%m.%Y"), "01.03.2024", "01.03.2024"),
        (Since("p", "at", form="%d.%m.%Y %H:%M:%S", zone="Europe/Vienna", lag="1 h"), "01.03.2024 10:00:00",
         "01.03.2024 09:00:00"),
        (Since("p", "at", form="%d %b %Y %I:%M %p", sent="iso"), "05 Mar 2024 01:30 PM", "2024-03-05T13:30:00Z"),
        (Since("p", "at", form="%Y-%m-%dT%H:%M:%S.%f%z", sent="iso"), "2024-03-01T10:00:00.120+0200",
         "2024-03-01T08:00:00.120000Z"),
        (Since("p", "at", zone="Europe/Vienna"), "2024-07-01T10:00:00", "2024-07-01T10:00:00"),
        (Since("p", "at", zone="Europe/Vienna", sent="epoch"), "2024-07-01T10:00:00", "1719820800"),
        (Since("p", "at", zone="Europe/Vienna"), "2024-07-01T10:00:00Z", "2024-07-01T12:00:00"),
        (Since("p", "at", form="number", ordered=True), 9007199254740993, "9007199254740993"),
        (Since("p", "at", form="number", ordered=True, lag="100"), 1000, "900"),
        (Since("p", "at", form="text", ordered=True), "01HQ", "01HQ"),
        (Since("p", "at", prefix="updated >= '", suffix="'", digits=0), "2024-03-01T10:00:00Z",
         "updated >= '2024-03-01T10:00:00Z'"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, Since) else None,
)  # fmt: skip
async def test_the_next_load_asks_from_the_latest_value_in_the_parameter_s_form(
    warehouse: TestDatabase, cursor: Since, value: object, asked: str
) -> None:
    assert await asked_next(warehouse, cursor, value) == asked


async def test_texts_are_ordered_by_their_bytes_and_numbers_by_their_value(warehouse: TestDatabase) -> None:
    texts = Since("p", "at", form="text", ordered=True)
    assert await asked_next(warehouse, texts, "B", "a", "C", "é", "_") == "é"


async def test_numbers_are_no_texts(warehouse: TestDatabase) -> None:
    assert await asked_next(warehouse, Since("p", "at", form="number", ordered=True), 9, 10, 2) == "10"


async def test_of_numbers_that_begin_with_the_highest_later_ones_do_not_move_the_cursor(
    warehouse: TestDatabase,
) -> None:
    """A record that came on a page that was read later may have had others before it that nobody has seen."""
    cursor = Since("p", "at", form="number", ordered="desc")
    first = [{"id": n, "at": 100 - n} for n in range(1, 4)]
    async with serve(forever=listing([*first, {"id": 9, "at": 500}], size=3)) as server:
        await load(warehouse, server.url, "items", declared(cursor, PageNumber()))
        await load(warehouse, server.url, "items", declared(cursor, PageNumber()))
        assert server.requests[-1].query["p"] == "99"


def test_a_local_clock_that_is_set_back_is_read_from_the_first_of_its_hours() -> None:
    """In Vienna, 2:00 to 3:00 came twice on 27 October 2024: at 0:00 and at 1:00 UTC."""
    utc = datetime(2024, 10, 27, 0, 0, tzinfo=UTC)
    for minutes, expected in (
        (-61, "00:59"),
        (-30, "01:30"),
        (1, "02:00"),
        (40, "02:00"),
        (61, "02:00"),
        (120, "03:00"),
    ):
        local = earliest_local(utc + timedelta(minutes=minutes), VIENNA)
        assert f"{local:%H:%M}" == expected, minutes
    assert f"{earliest_local(datetime(2024, 3, 31, 1, 30, tzinfo=UTC), VIENNA):%H:%M}" == "03:30"


@pytest.mark.parametrize(("missing", "loaded"), [("quarantine", [1]), ("include", [1, 2, 3]), ("exclude", [1])])
async def test_a_record_without_a_value_is_handled_as_declared(
    warehouse: TestDatabase, missing: Any, loaded: list[int]
) -> None:
    cursor = Since("p", "at", missing=missing)
    records: list[dict[str, Any]] = [{"id": 1, "at": "2024-01-01T00:00:00Z"}, {"id": 2, "at": None}, {"id": 3}]
    async with serve(forever=listing(records)) as server:
        result = await load(warehouse, server.url, "items", declared(cursor, max_quarantined=0.9))
    assert keys(warehouse, "items") == loaded
    assert len(open_quarantine(warehouse)) == (2 if missing == "quarantine" else 0)
    assert result.counts.rows_read == (1 if missing == "exclude" else 3)


async def test_what_the_api_cannot_filter_is_filtered_here(warehouse: TestDatabase) -> None:
    cursor = Since("", "at", form="epoch", lag="5 s")
    records: list[dict[str, Any]] = [{"id": n, "at": 1000 + n} for n in range(1, 10)]
    async with serve(forever=listing(records)) as server:
        first = await load(warehouse, server.url, "items", declared(cursor))
        records += [{"id": 20, "at": 1006}, {"id": 21, "at": 1020}, {"id": 22, "at": "x"}, {"id": 23}]
        second = await load(warehouse, server.url, "items", declared(cursor, max_quarantined=0.9))
        assert all(request.query == {} for request in server.requests)
    assert (first.counts.rows_read, second.counts.rows_read) == (9, 6 + 4)
    assert keys(warehouse, "items") == [*range(1, 10), 20, 21]


async def test_a_list_that_begins_with_the_newest_is_read_up_to_those_of_before(warehouse: TestDatabase) -> None:
    cursor = Since("", "at", form="epoch", ordered="desc")
    records: list[dict[str, Any]] = [{"id": n, "at": 1000 + n} for n in range(30, 0, -1)]
    async with serve(forever=listing(records, size=5)) as server:
        await load(warehouse, server.url, "items", declared(cursor, PageNumber()))
        records[:0] = [{"id": n, "at": 1000 + n} for n in range(36, 30, -1)]
        server.requests.clear()
        second = await load(warehouse, server.url, "items", declared(cursor, PageNumber()))
        assert [request.query["page"] for request in server.requests] == ["1", "2", "3"]
    assert (second.counts.rows_inserted, second.warning) == (6, None)
    assert keys(warehouse, "items") == [*range(1, 37)]


async def test_the_upper_end_is_the_time_of_the_load_and_the_first_read_begins_as_declared(
    warehouse: TestDatabase,
) -> None:
    cursor = Since("from", "at", until="to", begin="2020-01-01", sent="epoch")
    async with serve(forever=listing([{"id": 1, "at": "2024-01-01T00:00:00Z"}])) as server:
        before = int(datetime.now(UTC).timestamp())
        await load(warehouse, server.url, "items", declared(cursor))
        await load(warehouse, server.url, "items", declared(cursor))
        first, second = (request.query for request in server.requests)
    assert (first["from"], second["from"]) == ("1577836800", "1704067200")
    assert before <= int(first["to"]) <= int(second["to"]) <= datetime.now(UTC).timestamp()


async def test_another_way_to_ask_keeps_the_cursor_and_another_meaning_reads_all(warehouse: TestDatabase) -> None:
    async with serve(forever=listing([{"id": 1, "at": "2024-07-01T10:00:00"}])) as server:
        for cursor in (Since("p", "at"), Since("p", "at", digits=0), Since("p", "at", zone="Europe/Vienna")):
            await load(warehouse, server.url, "items", declared(cursor))
        await load(warehouse, server.url, "items", declared(Since("p", "at", zone="Europe/Vienna")))
        asked = [request.query.get("p") for request in server.requests]
    assert asked == [None, "2024-07-01T10:00:00Z", None, "2024-07-01T10:00:00"]
    stored = rows(warehouse, "select at::timestamptz at time zone 'UTC' as at from raw_lists.items")
    assert stored[0]["at"] == datetime(2024, 7, 1, 8)


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({"form": "rfc"}, "use iso"),
        ({"form": "%H:%M"}, "year, month and day"),
        ({"sent": "%Q"}, "use iso"),
        ({"zone": "Vienna"}, "Europe/Vienna"),
        ({"digits": 7}, "digits=3"),
        ({"missing": "drop"}, "use quarantine"),
        ({"ordered": "asc"}, "use True"),
        ({"form": "number"}, "ordered=True"),
        ({"form": "text", "ordered": True, "lag": "1 s"}, "none for texts"),
        ({"form": "number", "ordered": True, "sent": "iso"}, "remove sent"),
        ({"begin": "soon"}, "2020-01-01"),
        ({"window": "1 day"}, "begin="),
        ({"window": "1 day", "until": "to", "begin": "2020-01-01", "form": "number", "ordered": True}, "remove until"),
        ({"window": "sometimes", "until": "to", "begin": "2020-01-01"}, "1 month"),
        ({"lag": "soon"}, "10 min"),
    ],
)
def test_a_cursor_that_contradicts_itself_is_refused(wrong: dict[str, Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=fix):
        Since("p", "at", **wrong)
    with pytest.raises(DeclarationError, match="remove until"):
        Since("", "at", until="to")


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("1 day", ["30T00", "31T00"]),
        ("12 h", ["30T00", "30T12", "31T00", "31T12"]),
        ("1 month", []),
        ("7 days", []),
    ],
)
def test_windows_of_days_begin_at_midnight_of_the_zone(span: str, expected: list[str]) -> None:
    begin, end = (datetime(2024, 3, day, hour, tzinfo=VIENNA) for day, hour in ((29, 12), (31, 20)))
    edges = Span.parse(span, "").edges(begin, end, VIENNA)
    assert [f"{edge.astimezone(VIENNA):%dT%H}" for edge in edges][:3] == expected[:3]


def test_windows_of_months_begin_with_the_first() -> None:
    begin, end = datetime(2023, 11, 15, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
    assert [f"{edge:%Y-%m-%d}" for edge in Span.parse("1 month", "").edges(begin, end, UTC)] == [
        "2023-12-01", "2024-01-01", "2024-02-01",
    ]  # fmt: skip
