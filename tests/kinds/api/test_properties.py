"""Records whose fields are requested by name, some by each request."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from flows.declare import Replace
from flows.kinds.api import (
    Api,
    Cursor,
    Endpoint,
    NamesAt,
    PageNumber,
    Properties,
    Since,
    SinglePage,
    When,
)
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.parts_of_record import Torn, joined
from flows.values.errors import DeclarationError, ListUnfinished, RateLimited, SourceError
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Request, response, serve, status
from tests.kinds.api.loading import load, place
from tests.kinds.api.rest_reading import QUICK
from tests.kinds.loading import open_quarantine, rows

NO_WAIT = HttpLimits(wait_budget_seconds=0)
NAMES = tuple(f"p{n}" for n in range(7))


@dataclass
class Contacts:
    """Records with properties, `most` of which are sent per request, as those of HubSpot."""

    count: int
    most: int = 4
    size: int = 3
    before: Callable[[Request, int], None] = field(default=lambda request, asked: None)
    broken: Callable[[], bool] = field(default=lambda: False)
    changed: dict[int, int] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    asked: list[tuple[int, list[str]]] = field(default_factory=list)
    turn: bool = False

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self.broken():
            await status(429, "Retry-After: 5")(request, writer)
            return
        if request.path == "/properties":
            writer.write(response(200, json.dumps({"results": [{"name": name} for name in NAMES]}).encode()))
            return
        body = json.loads(request.body) if request.method == "POST" else request.query
        names = body["properties"]
        names = names if isinstance(names, list) else names.split(",")
        begin = int(body.get("after", body.get("offset", (int(body.get("page", 1)) - 1) * self.size)))
        self.asked.append((begin, names))
        if len(names) > self.most:
            await status(400)(request, writer)
            return
        self.before(request, len(self.asked))
        listed = [self.record(number, names) for number in range(self.count) if number not in self.hidden]
        shown = listed[begin : begin + self.size]
        if self.turn and len(self.asked) % 2:
            shown.reverse()
        following = str(begin + self.size) if begin + self.size < len(listed) else None
        page = {"data": shown, "next": following, "total": len(listed)}
        writer.write(response(200, json.dumps(page).encode()))

    def record(self, number: int, names: list[str]) -> dict[str, Any]:
        at = self.changed.get(number, 1704067200)
        properties = {name: f"{name} of {number} at {at}" for name in names if name in NAMES}
        return {"id": number, "at": at, "properties": {"common": number, **properties}}


def declared(properties: Properties | None = None, **more: Any) -> Api:
    given: dict[str, Any] = {"pagination": Cursor("after", at="next"), "concurrent": 1} | more
    chosen = properties or Properties("properties", names=NAMES, most=3, at="properties")
    items = Endpoint("items", path="/items", key_type="bigint", properties=chosen, **given)
    return Api("lists", connection="lists", endpoints=[items])


def held(warehouse: TestDatabase) -> list[dict[str, Any]]:
    return [row["payload"] for row in rows(warehouse, "select payload from raw_lists.items order by id")]


def whole(contacts: Contacts) -> list[dict[str, Any]]:
    return [contacts.record(number, list(NAMES)) for number in range(contacts.count)]


@pytest.mark.parametrize("turn", [False, True], ids=["in one order", "in another order each time"])
@pytest.mark.parametrize("concurrent", [1, 3])
@pytest.mark.parametrize("pagination", [Cursor("after", at="next"), PageNumber()], ids=["token", "number"])
async def test_the_parts_of_each_record_are_one_record(
    warehouse: TestDatabase, pagination: Any, concurrent: int, turn: bool
) -> None:
    contacts = Contacts(8, turn=turn)
    async with serve(forever=contacts) as server:
        result = await load(warehouse, server.url, "items", declared(pagination=pagination, concurrent=concurrent))
    assert held(warehouse) == whole(contacts)
    assert (result.counts.rows_read, result.warning) == (8, None)
    assert {tuple(names) for _, names in contacts.asked} == {("p0", "p1", "p2"), ("p3", "p4", "p5"), ("p6",)}


async def test_the_api_may_list_the_names_and_a_body_has_them_as_a_list(warehouse: TestDatabase) -> None:
    names = NamesAt("/properties", at="results.*.name")
    chosen = Properties("properties", names=names, characters=8, at="properties", always=("common",), separator=";")
    contacts = Contacts(4)
    api = declared(chosen, body={"filters": []})
    async with serve(forever=contacts) as server:
        with pytest.raises(DeclarationError, match="no place for 'p0'"):
            await load(warehouse, server.url, "items", api)
        wider = Properties("properties", names=names, characters=12, at="properties", always=("common",), separator=";")
        await load(warehouse, server.url, "items", declared(wider, body={"filters": []}))
        asked = [request.path for request in server.requests]
    assert held(warehouse) == whole(contacts)
    assert asked.count("/properties") == 2
    assert contacts.asked[0] == (0, ["common", "p0", "p1"])


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        ({"results": []}, "there are no names"),
        ({"results": [{"name": 1}]}, "there are no names"),
        ({"names": []}, "there are no names"),
        ({"results": [{"name": "p1"}], "next": "/properties?page=2"}, "there are more names"),
    ],
)
async def test_names_that_are_not_all_there_are_an_error(
    warehouse: TestDatabase, listed: dict[str, Any], problem: str
) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, json.dumps(listed).encode()))

    chosen = Properties("properties", names=NamesAt("/properties", at="results.*.name"), most=3)
    async with serve(forever=answer) as server:
        with pytest.raises(DeclarationError, match=problem):
            await load(warehouse, server.url, "items", declared(chosen))


async def test_a_record_that_changes_between_its_parts_is_read_again(warehouse: TestDatabase) -> None:
    """Half of it would be from before, and half from afterwards."""
    contacts = Contacts(5)

    def change(request: Request, asked: int) -> None:
        if asked == 2:
            contacts.changed[1] = 1704067300

    contacts.before = change
    async with serve(forever=contacts) as server:
        await load(warehouse, server.url, "items", declared(), limits=QUICK)
    assert held(warehouse) == whole(contacts)
    assert [begin for begin, _ in contacts.asked] == [0] * 6 + [3] * 3


async def test_a_record_that_is_missing_in_a_part_is_read_again(warehouse: TestDatabase) -> None:
    contacts = Contacts(5)

    def hide(request: Request, asked: int) -> None:
        contacts.hidden = {1} if asked == 2 else set()

    contacts.before = hide
    async with serve(forever=contacts) as server:
        await load(warehouse, server.url, "items", declared(), limits=QUICK)
    assert held(warehouse) == whole(contacts)


@pytest.mark.parametrize("fault", ["torn", "missing", "empty"])
async def test_parts_that_never_fit_are_an_error_and_nothing_is_stored_in_half(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """What was read before is published, and the next run goes on at the page."""
    monkeypatch.setenv("MEDALLION_API_GROUP_SECONDS", "0")
    contacts = Contacts(7)

    def disturb(request: Request, asked: int) -> None:
        second = contacts.asked[-1][0] == 3 and "p6" in contacts.asked[-1][1]
        contacts.changed = {4: 1704067300 + asked} if second and fault == "torn" else {}
        contacts.hidden = (
            {4} if second and fault == "missing" else {*range(7)} if second and fault == "empty" else set()
        )

    contacts.before = disturb
    match = "differ in 'at'" if fault == "torn" else "in one part of a page, and not in another"
    async with serve(forever=contacts) as server:
        with pytest.raises(ListUnfinished, match=match):
            await load(warehouse, server.url, "items", declared(), limits=QUICK)
        assert held(warehouse) == whole(contacts)[:3]
        contacts.before = lambda request, asked: None
        contacts.hidden.clear()
        contacts.asked.clear()
        await load(warehouse, server.url, "items", declared(), limits=QUICK)
    assert (held(warehouse), contacts.asked[0][0]) == (whole(contacts), 3)


async def test_a_replace_of_parts_that_never_fit_deletes_nothing(warehouse: TestDatabase) -> None:
    contacts, api = Contacts(7), declared(load=Replace())
    async with serve(forever=contacts) as server:
        await load(warehouse, server.url, "items", api, limits=QUICK)

        def hide(request: Request, asked: int) -> None:
            contacts.hidden = {4} if "p6" in contacts.asked[-1][1] else set()

        contacts.before = hide
        with pytest.raises(ListUnfinished):
            await load(warehouse, server.url, "items", api, limits=QUICK)
    assert held(warehouse) == whole(contacts)


async def test_a_load_that_dies_between_parts_goes_on_at_its_page(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_API_GROUP_SECONDS", "0")
    contacts, asked, attempts = Contacts(30), 0, 0
    async with serve(forever=contacts) as server:
        for attempts in range(40):
            contacts.broken = lambda: len(contacts.asked) > asked + 4 + attempts % 3  # noqa: B023
            try:
                await load(warehouse, server.url, "items", declared(), limits=NO_WAIT)
                break
            except RateLimited:
                asked = len(contacts.asked)
    begins = [begin for begin, _ in contacts.asked]
    assert (held(warehouse), place(warehouse, "items"), attempts > 2) == (whole(contacts), None, True)
    assert begins == sorted(begins)


async def test_changes_are_requested_in_parts_as_well_with_the_cursor_in_each(warehouse: TestDatabase) -> None:
    """The cursor is among the names: each part has it, so that a change between them is noticed."""
    cursor = Since("since", field="properties.p5", form="text", column="p5", ordered=True)
    contacts = Contacts(4)
    async with serve(forever=contacts) as server:
        await load(warehouse, server.url, "items", declared(cursor=cursor))
        await load(warehouse, server.url, "items", declared(cursor=cursor))
        since = [request.query.get("since") for request in server.requests]
    assert {tuple(names) for _, names in contacts.asked} == {
        ("p5", "p0", "p1"), ("p5", "p2", "p3"), ("p5", "p4", "p6"),
    }  # fmt: skip
    assert since[-1] == "p5 of 3 at 1704067200"


async def test_more_names_than_the_api_takes_are_an_error(warehouse: TestDatabase) -> None:
    chosen = Properties("properties", names=NAMES, most=5, at="properties")
    async with serve(forever=Contacts(4)) as server:
        with pytest.raises(SourceError, match="400 from GET /items"):
            await load(warehouse, server.url, "items", declared(chosen))


async def test_a_field_that_is_different_each_time_is_declared(warehouse: TestDatabase) -> None:
    served = 0

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        record = {"id": 1, "shown": served} | {name: name for name in request.query["fields"].split(",")}
        writer.write(response(200, json.dumps({"data": [record]}).encode()))

    chosen = Properties("fields", names=NAMES, most=3, may_differ=("shown",))
    async with serve(forever=answer) as server:
        await load(warehouse, server.url, "items", declared(chosen, pagination=SinglePage()))
    assert held(warehouse) == [{"id": 1, "shown": 1} | {name: name for name in NAMES}]


async def test_a_record_that_raw_cannot_hold_is_quarantined_in_full(warehouse: TestDatabase) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        fields = ", ".join(f'"{name}": "\\ud800 {name}"' for name in request.query["fields"].split(","))
        writer.write(response(200, f'{{"data": [{{"id": 1, {fields}}}, {{"id": 2}}]}}'.encode()))

    async with serve(forever=answer) as server:
        chosen = Properties("fields", names=NAMES, most=3)
        await load(warehouse, server.url, "items", declared(chosen, pagination=SinglePage(), max_quarantined=0.9))
    assert held(warehouse) == [{"id": 2}]
    (kept,) = open_quarantine(warehouse)
    assert all(f"\\ud800 {name}" in json.dumps(kept["row_data"]).replace("\\\\", "\\") for name in NAMES)


def test_values_keep_their_bytes() -> None:
    parts = [b'{"id":1.00, "p":{"a":1e400}}', b'{"id":1.00,"p":{"b":12345678901234567890.10}}', b'{"id":1.00,"p":null}']
    assert joined(parts, ("p",), ()) == b'{"id":1.00,"p":{"a":1e400,"b":12345678901234567890.10}}'
    assert joined([b'{"a":{"x":1,"y":2}}', b'{"a":{"y":2,"x":1},"b":3}'], (), ()) == b'{"a":{"x":1,"y":2},"b":3}'
    assert joined([b"null", b"null"], (), ()) == b"null"
    with pytest.raises(Torn, match="a"):
        joined([b'{"a":1}', b'{"a":2}'], (), ())


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"names": ()}, "not a list of different texts"),
        ({"names": ("a", "a")}, "not a list of different texts"),
        ({"most": None}, "how many fields"),
        ({"characters": 10}, "how many fields"),
        ({"most": 1, "always": ("id",)}, "no place for"),
        ({"names": NamesAt("/a", at="*.name"), "most": 1, "always": ("id",)}, "no place for"),
    ],
)
def test_properties_that_cannot_be_requested_are_refused(written: dict[str, Any], problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        Properties("fields", **{"names": ("a", "b"), "most": 2, **written})


def test_properties_beside_what_they_contradict_are_refused() -> None:
    smaller: dict[str, Any] = {"page_size": 5, "answers": (When(status=413, then="smaller"),)}
    for more in ({"etag": True}, smaller):
        with pytest.raises(DeclarationError, match="records that come in parts"):
            declared(**more)
