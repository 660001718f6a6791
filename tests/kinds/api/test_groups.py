"""Several parents in one request."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from flows.declare import Replace
from flows.kinds.api import Api, Cursor, Endpoint, Field, Group, Parent, Partition, Since, When
from flows.kinds.api.http.limits import HttpLimits
from flows.values.errors import DeclarationError, ListUnfinished, MedallionError, RateLimited
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Request, response, serve, status
from tests.kinds.api.loading import load
from tests.kinds.loading import rows

NO_WAIT = HttpLimits(wait_budget_seconds=0)


@dataclass
class Orders:
    """Orders, and the refunds of those that are asked for: `most` of them at most, without a word about the others."""

    refunds: dict[int, list[int]]
    most: int = 1000
    size: int = 100
    reads: Callable[[list[str], int], list[str]] = field(default=lambda keys, most: keys[:most])
    refused: tuple[str, ...] = ()
    broken: Callable[[], bool] = field(default=lambda: False)
    asked: list[list[str]] = field(default_factory=list)

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/orders":
            data: list[dict[str, Any]] = [{"id": order, "n": len(lines)} for order, lines in self.refunds.items()]
            writer.write(response(200, json.dumps({"data": data, "next": None}).encode()))
            return
        if self.broken():
            await status(429, "Retry-After: 5")(request, writer)
            return
        keys = request.query["orders"].split(",")
        self.asked.append(keys)
        if set(keys) & set(self.refused):
            await status(403)(request, writer)
            return
        data = [{"id": line, "of": {"order": key}} for key in self.reads(keys, self.most) for line in self.lines(key)]
        at = int(request.query.get("after", 0))
        following = str(at + self.size) if at + self.size < len(data) else None
        body = {"data": data[at : at + self.size], "next": following}
        writer.write(response(200, json.dumps(body).encode()))

    def lines(self, key: str) -> list[int]:
        return self.refunds.get(int(key), [])


def declared(size: int = 4, *, concurrent: int = 1, every: bool = False, **more: Any) -> Api:
    parent = Parent("orders", column="order_id", type="bigint", every=every, group=Group(size, by="of.order"))
    refunds = Endpoint("refunds", path="/refunds", params=(("orders", "{id}"),), key=("order_id", "id"),
                       key_type="bigint", parent=parent, concurrent=concurrent, **more)  # fmt: skip
    orders = Endpoint("orders", path="/orders", key_type="bigint")
    return Api("lists", connection="lists", pagination=Cursor("after", at="next"), endpoints=[orders, refunds])


def held(warehouse: TestDatabase, condition: str = "_deleted_at is null") -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in rows(warehouse, f"select order_id, id from raw_lists.refunds where {condition} order by 1, 2"):
        found.setdefault(row["order_id"], []).append(row["id"])
    return found


async def both(warehouse: TestDatabase, url: str, api: Api) -> Any:
    await load(warehouse, url, "orders", api)
    return await load(warehouse, url, "refunds", api)


@pytest.mark.parametrize("concurrent", [1, 3])
async def test_the_children_of_several_parents_come_by_one_request(warehouse: TestDatabase, concurrent: int) -> None:
    shop = Orders({order: [order * 10 + line for line in range(order % 4)] for order in range(1, 12)}, size=3)
    async with serve(forever=shop) as server:
        result = await both(warehouse, server.url, declared(concurrent=concurrent))
    assert held(warehouse) == {order: lines for order, lines in shop.refunds.items() if lines}
    assert result.warning is None
    assert all(len(keys) <= 4 for keys in shop.asked)
    assert {tuple(keys) for keys in shop.asked} >= {("1", "10", "11", "2"), ("3", "4", "5", "6"), ("7", "8", "9")}


async def test_children_that_are_gone_are_marked_as_deleted_parent_by_parent(warehouse: TestDatabase) -> None:
    """Also all of a parent's, and those of the last parent of a request, whose place nothing has shown to be read."""
    shop = Orders({order: [order * 10, order * 10 + 1] for order in range(1, 9)})
    async with serve(forever=shop) as server:
        await both(warehouse, server.url, declared())
        shop.refunds |= {2: [20], 3: [], 4: [], 8: []}
        result = await both(warehouse, server.url, declared())
    assert shop.asked[2:] == [["2", "3", "4", "8"], ["3", "4", "8", "2"]]
    assert held(warehouse, "_deleted_at is not null") == {2: [21], 3: [30, 31], 4: [40, 41], 8: [80, 81]}
    assert held(warehouse)[1] == [10, 11]
    assert result.warning is None


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "reads",
    [lambda keys, most: keys[:most], lambda keys, most: keys[-most:]],
    ids=["the first ones", "the last ones"],
)
async def test_an_api_that_reads_some_of_the_keys_only_is_an_error(
    warehouse: TestDatabase, first: bool, reads: Callable[[list[str], int], list[str]]
) -> None:
    """Its answer looks as if the others had no children: none of theirs is deleted."""
    shop = Orders({order: [order * 10] for order in range(1, 9)}, reads=reads)
    async with serve(forever=shop) as server:
        if not first:
            await both(warehouse, server.url, declared())
        shop.most = 3
        for order in shop.refunds:
            shop.refunds[order].append(order * 10 + 1)
        with pytest.raises(ListUnfinished, match="of 4 parents in one request, the API answers for some only"):
            await both(warehouse, server.url, declared())
        shop.most = 1000
        await both(warehouse, server.url, declared())
    assert held(warehouse) == shop.refunds
    assert held(warehouse, "_deleted_at is not null") == {}


async def test_that_no_parent_of_any_request_has_children_is_not_believed(warehouse: TestDatabase) -> None:
    """As with a parameter that the API does not know. With one that has, it is: by one request more."""
    shop = Orders({1: [10], 2: [20], 3: [30]})
    async with serve(forever=shop) as server:
        await both(warehouse, server.url, declared())
        # Another order has a refund in raw, so that the API can be asked for both.
        shop.refunds |= {1: [], 2: []}
        result = await both(warehouse, server.url, declared())
        assert (held(warehouse), result.warning, shop.asked[-1]) == ({3: [30]}, None, ["3", "1"])
        shop.refunds |= {1: [11], 2: [21]}
        await both(warehouse, server.url, declared())
        shop.refunds = {order: [] for order in shop.refunds}
        result = await both(warehouse, server.url, declared())
    assert held(warehouse) == {1: [11], 2: [21], 3: [30]}
    assert "nothing shows that the lists of 3 parents are complete" in str(result.warning)


async def test_one_parent_that_is_refused_keeps_no_other_away(warehouse: TestDatabase) -> None:
    shop = Orders({order: [order * 10] for order in range(1, 9)}, refused=("6",))
    async with serve(forever=shop) as server:
        result = await both(warehouse, server.url, declared())
        assert held(warehouse) == {order: lines for order, lines in shop.refunds.items() if order != 6}
        assert "HTTP 403 for 1" in str(result.warning)
        shop.refused = ()
        shop.asked.clear()
        result = await load(warehouse, server.url, "refunds", declared())
    assert (held(warehouse), result.warning, shop.asked) == (shop.refunds, None, [["6"]])


async def test_a_parent_that_is_skipped_or_not_found_keeps_its_children(warehouse: TestDatabase) -> None:
    shop = Orders({order: [order * 10] for order in range(1, 9)})
    api = declared(every=True, answers=(When(status=403, then="skip"),))
    async with serve(forever=shop) as server:
        await both(warehouse, server.url, api)
        shop.refused = ("3",)
        shop.refunds |= {3: [], 4: []}
        result = await both(warehouse, server.url, api)
    assert held(warehouse, "_deleted_at is not null") == {4: [40]}
    assert result.warning is None


@pytest.mark.parametrize(
    ("ignored", "match"),
    [(True, "none of the parents that were requested"), (False, "403")],
)
async def test_an_api_that_answers_for_no_parent_is_an_error(
    warehouse: TestDatabase, ignored: bool, match: str
) -> None:
    shop = Orders({order: [order * 10] for order in range(1, 30)}, refused=() if ignored else tuple("123456789"))
    if ignored:
        shop.reads = lambda keys, most: [str(order) for order in shop.refunds]
    else:
        shop.refused = tuple(map(str, shop.refunds))
    async with serve(forever=shop) as server:
        with pytest.raises(MedallionError, match=match):
            await both(warehouse, server.url, declared(20, every=True))
    assert len(shop.asked) < 30


async def test_a_load_that_dies_between_groups_goes_on_behind_the_last_parent(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_API_GROUP_SECONDS", "0")
    shop = Orders({order: [order * 10 + line for line in range(3)] for order in range(1, 40)}, size=5)
    asked, attempts = 0, 0
    async with serve(forever=shop) as server:
        await load(warehouse, server.url, "orders", declared())
        for attempts in range(40):
            shop.broken = lambda: len(shop.asked) > asked + 2 + attempts % 3  # noqa: B023
            try:
                await load(warehouse, server.url, "refunds", declared(), limits=NO_WAIT)
                break
            except RateLimited:
                asked = len(shop.asked)
    assert held(warehouse) == shop.refunds
    assert attempts > 2
    firsts = [keys[0] for keys in shop.asked]
    assert firsts == sorted(firsts), "parents that were published are requested again"


async def test_keys_go_into_paths_and_bodies_as_well(warehouse: TestDatabase) -> None:
    seen: list[Any] = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        data: list[dict[str, Any]] = [{"id": "a"}, {"id": "b,c"}, {"id": "d"}]
        if request.path != "/orders":
            seen.append((request.target, json.loads(request.body)))
            data = [{"id": f"{key}1", "order": key} for key in seen[-1][1]["keys"]]
        writer.write(response(200, json.dumps({"data": data}).encode()))

    endpoints = [
        Endpoint("orders", path="/orders"),
        Endpoint("refunds", path="/orders/{id}/refunds", body={"keys": "{id}", "text": "id in ({id})"},
                 parent=Parent("orders", column="order_id", group=Group(3, by="order", separator=";"))),
    ]  # fmt: skip
    async with serve(forever=answer) as server:
        await both(warehouse, server.url, Api("lists", connection="lists", endpoints=endpoints))
    assert seen == [("/orders/a;b%2Cc;d/refunds", {"keys": ["a", "b,c", "d"], "text": "id in (a;b,c;d)"})]
    found = rows(warehouse, "select order_id, id from raw_lists.refunds order by 1")
    assert [tuple(row.values()) for row in found] == [("a", "a1"), ("b,c", "b,c1"), ("d", "d1")]


async def test_a_parameter_may_occur_once_for_each_key(warehouse: TestDatabase) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        data: list[dict[str, Any]] = [{"id": "a"}, {"id": "b,c"}, {"id": "d"}]
        if request.path != "/orders":
            data = [{"id": f"{key}1", "order": key} for key in parse_qs(urlsplit(request.target).query)["of[]"]]
        writer.write(response(200, json.dumps({"data": data, "next": None}).encode()))

    endpoints = [
        Endpoint("orders", path="/orders"),
        Endpoint("refunds", path="/refunds", params=(("of[]", "{id}"),), pagination=Cursor("after", at="next"),
                 parent=Parent("orders", column="order_id", group=Group(3, by="order", repeated=True))),
    ]  # fmt: skip
    async with serve(forever=answer) as server:
        result = await both(warehouse, server.url, Api("lists", connection="lists", endpoints=endpoints))
    found = rows(warehouse, "select order_id from raw_lists.refunds order by 1")
    assert ([row["order_id"] for row in found], result.warning) == (["a", "b,c", "d"], None)
    assert server.targets[-1].count("of%5B%5D=") == 3


async def test_a_group_that_is_ignored_as_declared_shows_nothing(warehouse: TestDatabase) -> None:
    shop = Orders({order: [order * 10] for order in range(1, 9)})
    api = declared(every=True, answers=(When(status=403, then="ignore"),))
    async with serve(forever=shop) as server:
        await both(warehouse, server.url, api)
        shop.refused = ("6",)
        shop.refunds |= {1: [], 5: []}
        result = await both(warehouse, server.url, api)
    assert held(warehouse, "_deleted_at is not null") == {1: [10]}
    assert "1 answers were ignored as declared" in str(result.warning)


async def test_a_key_that_contains_the_separator_is_refused_alone(warehouse: TestDatabase) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        data: list[dict[str, Any]] = [{"id": "a"}, {"id": "b,c"}, {"id": "d"}]
        if request.path != "/orders":
            data = [{"id": f"{key}1", "order": key} for key in request.query["of"].split(",")]
        writer.write(response(200, json.dumps({"data": data}).encode()))

    endpoints = [
        Endpoint("orders", path="/orders"),
        Endpoint("refunds", path="/refunds", params=(("of", "{id}"),),
                 parent=Parent("orders", column="order_id", group=Group(3, by="order"))),
    ]  # fmt: skip
    async with serve(forever=answer) as server:
        result = await both(warehouse, server.url, Api("lists", connection="lists", endpoints=endpoints))
    assert [row["order_id"] for row in rows(warehouse, "select order_id from raw_lists.refunds order by 1")] == [
        "a",
        "d",
    ]
    assert "an invalid list for 1" in str(result.warning)


async def test_a_replace_of_grouped_parents_deletes_what_is_gone(warehouse: TestDatabase) -> None:
    shop = Orders({order: [order * 10, order * 10 + 1] for order in range(1, 9)})
    async with serve(forever=shop) as server:
        await both(warehouse, server.url, declared(every=True, load=Replace()))
        shop.refunds |= {2: [20], 4: []}
        await both(warehouse, server.url, declared(every=True, load=Replace()))
    assert held(warehouse) == {order: lines for order, lines in shop.refunds.items() if lines}


def test_a_group_that_contradicts_the_endpoint_is_refused() -> None:
    with pytest.raises(DeclarationError, match="at least two parents"):
        Group(1, by="id")
    with pytest.raises(DeclarationError, match="neither a cursor each nor"):
        declared(cursor=Since("since", field="at"))
    with pytest.raises(DeclarationError, match="neither a cursor each nor"):
        declared(partitions=(Partition("kind", ("a", "b")),), body={"kind": "{kind}"})
    with pytest.raises(DeclarationError, match="one value of each"):
        Endpoint("b", path="/b/{id}/{x}", parent=Parent("a", column="a", fields=(Field("x"),), group=Group(2, by="a")))
    with pytest.raises(DeclarationError, match="a key of several values"):
        Api("lists", connection="lists", endpoints=[
            Endpoint("a", path="/a", key=("x", "y")),
            Endpoint("b", path="/b/{x}", parent=Parent("a", column="a", group=Group(2, by="a"))),
        ])  # fmt: skip
