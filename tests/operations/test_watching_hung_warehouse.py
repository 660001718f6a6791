"""A warehouse that hangs, which accepts connections and answers nothing more, is away like one that refuses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from flows.operations import watching as watching_module
from flows.operations.alerts import Condition
from flows.operations.checks.check import Check, Round
from tests.conftest import TestDatabase
from tests.operations.alerting import condition
from tests.operations.watches import check, watching

WAREHOUSE_DOWN = "warehouse down warehouse"


@dataclass
class Way:
    """A way to the warehouse. `free` unset: nothing passes it any more."""

    url: str
    free: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[Way]:
    parts = urlsplit(url)
    pumps: set[asyncio.Task[None]] = set()

    async def pump(way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await way.free.wait()
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(parts.hostname, parts.port)
        pumps.update({asyncio.create_task(pump(way, reader, to_there)), asyncio.create_task(pump(way, there, writer))})

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    way = Way(url.replace(f":{parts.port}/", f":{server.sockets[0].getsockname()[1]}/"))
    way.free.set()
    try:
        yield way
    finally:
        server.close()
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CONNECT_SECONDS", "_REPORT_SECONDS", "_OUTBOX_SECONDS"):
        monkeypatch.setattr(watching_module, name, 0.5)


async def test_one_that_hangs_between_rounds(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    async with way_to(warehouse.url("loader")) as way:
        with watching(monkeypatch, way.url, [check("a", lambda _: [condition()])]) as it:
            assert (await it.rounds()).good
            way.free.clear()
            assert not (await it.rounds(2)).good
            assert it.told == ["opened late shop.baskets", f"opened {WAREHOUSE_DOWN}"]
            way.free.set()
            assert (await it.rounds(2)).good
            assert it.told[2:] == [f"resolved {WAREHOUSE_DOWN}"]


async def test_one_that_hangs_while_a_check_asks_it(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    async with way_to(warehouse.url("loader")) as way:

        async def ask(at: Round) -> list[Condition]:
            asked.append("")
            if len(asked) == 2:
                way.free.clear()
            await at.connection.fetchval("select 1")
            return []

        with watching(monkeypatch, way.url, [Check("asks", ask, frozenset({"warehouse"}), patience=0.3)]) as it:
            assert (await it.rounds()).good
            async with asyncio.timeout(10):
                looked = await it.rounds()
            assert looked.away is not None
            assert it.told == [f"opened {WAREHOUSE_DOWN}"]
