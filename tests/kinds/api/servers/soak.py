"""Sources that change while they are read through bad weather, until raw must hold what they hold.

    python -m tests.kinds.api.servers.soak --minutes 10 --seed 7

Each round changes the sources, loads them through random resets, cuts, 429, 503, HTML and slowness, in a process of its
own that is now and then killed. A load may fail; then the next goes on. After the last round the weather clears, and a
calm load must leave source = raw, every deleted record as a tombstone and every key once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flows.kinds.api.http.limits import HttpLimits
from flows.values.errors import SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.api.servers.declared import FHIR, KINTO, SHOPIFY
from tests.kinds.api.servers.fhir import TOKEN as FHIR_TOKEN
from tests.kinds.api.servers.fhir import Fhir, patient
from tests.kinds.api.servers.imitation import (
    Imitation,
    Storm,
    Trouble,
    closed,
    cut,
    cut_unseen,
    refuse,
    reset,
    slow,
    web_page,
)
from tests.kinds.api.servers.kinto import PASSWORD, USER, Collection, running_kinto
from tests.kinds.api.servers.reading import deleted_keys, load, load_and_kill, raw_records
from tests.kinds.api.servers.relay import Relay
from tests.kinds.api.servers.shopify import TOKEN as SHOPIFY_TOKEN
from tests.kinds.api.servers.shopify import Shopify, order
from tests.kinds.loading import setting

WEATHER: tuple[Trouble, ...] = (
    reset, cut, cut_unseen, closed, web_page, slow(0.02), refuse(429, "Retry-After: 0"), refuse(503), refuse(500),
)  # fmt: skip
#: Quick to try again; six tries per page as in production.
LIMITS = partial(HttpLimits, backoff_seconds=0.002, backoff_cap_seconds=0.02, wait_budget_seconds=20)
_NEWEST = 400  # ids are drawn from below this, so that records change, go and come back


@dataclass
class Source:
    """A list under test: how it changes, how it is loaded, and what it holds in truth."""

    name: str
    raw: str
    server: Imitation
    declared: tuple[str, str]
    change: Callable[[random.Random], None]
    load: Callable[[TestDatabase], Awaitable[Any]]
    address: str
    key: str
    user: str
    live: Callable[[], dict[Any, Any]]
    tells_deletes: bool = False

    def check(self, warehouse: TestDatabase) -> None:
        """Source = raw; what is in raw besides is a tombstone."""
        live = self.live()
        held = raw_records(warehouse, self.raw)
        assert held.keys() == live.keys(), (self.name, held.keys() ^ live.keys())
        assert held == live, self.name
        if self.tells_deletes:
            assert not deleted_keys(warehouse, self.raw) & live.keys(), self.name


def kinto_source(collection: Collection, relay: Relay) -> Source:
    """A real Kinto behind a relay: creates, changes, deletes."""

    def change(chance: random.Random) -> None:
        collection.put([{"id": f"o{chance.randrange(_NEWEST)}", "amount": chance.random()} for _ in range(40)])
        gone = set(chance.sample(range(_NEWEST), 12)) & {int(name[1:]) for name in collection.live()}
        collection.delete(*(f"o{number}" for number in gone))

    address = f"{relay.url}{collection.path.removesuffix('/records')}"
    return Source(
        "kinto",
        "raw_kinto.orders",
        relay,
        ("KINTO", "orders"),
        change,
        lambda warehouse: load(warehouse, KINTO, address, "orders", PASSWORD, USER),
        address,
        PASSWORD,
        USER,
        collection.live,
        tells_deletes=True,
    )


def shopify_source(shop: Shopify) -> Source:
    """The imitation of Shopify: creates and changes, stamped by the server's clock."""

    def change(chance: random.Random) -> None:
        shop.put("orders", *(order(chance.randrange(1, _NEWEST), _now(), note=chance.random()) for _ in range(40)))

    return Source(
        "shopify",
        "raw_shopify.orders",
        shop,
        ("SHOPIFY", "orders"),
        change,
        lambda warehouse: load(warehouse, SHOPIFY, shop.url, "orders", SHOPIFY_TOKEN),
        shop.url,
        SHOPIFY_TOKEN,
        "",
        lambda: shop.lists["orders"],
    )


def fhir_source(fhir: Fhir) -> Source:
    """The imitation of a FHIR server, which also forgets its searches."""

    def change(chance: random.Random) -> None:
        fhir.put(*(patient(chance.randrange(_NEWEST), _now(), active=chance.random() < 0.5) for _ in range(40)))
        if chance.random() < 0.3:
            fhir.before[len(fhir.asked) + 3] = fhir.searches.clear

    return Source(
        "fhir",
        "raw_clinic.patients",
        fhir,
        ("FHIR", "patients"),
        change,
        lambda warehouse: load(warehouse, FHIR, f"{fhir.url}/fhir", "patients", FHIR_TOKEN),
        f"{fhir.url}/fhir",
        FHIR_TOKEN,
        "",
        lambda: fhir.resources["Patient"],
    )


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06}+00:00"


async def soak(
    warehouse: TestDatabase, sources: list[Source], chance: random.Random, until: Callable[[int], bool], kills: float
) -> dict[str, int]:
    """Rounds of change and bad weather while `until(round)` is false, then calm, then the comparison.

    Returns what happened: rounds, requests that met trouble, loads that failed, loads that were killed.
    """
    told = {"rounds": 0, "troubles": 0, "failed": 0, "killed": 0}
    while not until(told["rounds"]):
        told["rounds"] += 1
        for source in sources:
            source.change(chance)
            server = source.server
            storm = server.storm = Storm(chance, share=0.4, kinds=WEATHER, longest=4)
            # And a change in the middle of the read.
            server.before[len(server.asked) + chance.randrange(2, 5)] = partial(source.change, chance)
            if chance.random() < kills:
                with suppress(AssertionError):  # it was over before the request at which it was to die
                    number = len(server.asked) + chance.randrange(2, 6)
                    load_and_kill(warehouse, server, number, source.declared, source.address, source.key, source.user)
                told["killed"] += 1
            try:
                # Page by page, so that each failure has a place to be gone on from; or all at once.
                with setting(api_group_seconds=chance.choice((0, 10))):
                    await source.load(warehouse)
            except SourceUnavailable:  # RateLimited is one; nothing else may come of bad weather
                told["failed"] += 1
            told["troubles"] += storm.met
    for source in sources:
        source.server.begin()
        await source.load(warehouse)
        await source.load(warehouse)
        source.check(warehouse)
    return told


@asynccontextmanager
async def every_source(folder: Path) -> AsyncIterator[list[Source]]:
    """All sources of the soak, running."""
    async with AsyncExitStack() as stack:
        kinto = stack.enter_context(running_kinto(folder))
        collection = stack.enter_context(kinto.collection("soak"))
        relay = stack.enter_context(Relay(to=collection.base))
        shop = stack.enter_context(Shopify(leak=10_000))
        fhir = stack.enter_context(Fhir())
        yield [kinto_source(collection, relay), shopify_source(shop), fhir_source(fhir)]


async def _main(minutes: float, seed: int) -> None:
    from benchmarks.cluster import private_cluster

    ends = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory() as folder, private_cluster() as bench, pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.kinds.api.plan.HttpLimits", LIMITS)
        warehouse: Any = _Warehouse(bench.warehouse)
        async with every_source(Path(folder)) as sources:
            told = await soak(warehouse, sources, random.Random(seed), lambda _: time.monotonic() > ends, kills=0.15)
    print(f"source = raw after {told}")


@dataclass(frozen=True)
class _Warehouse:
    """A warehouse outside the tests' own cluster, with one role for everything."""

    address: str
    name: str = "warehouse"

    def url(self, _: str) -> str:
        return self.address


def main() -> None:
    """Soak for some minutes, and say what happened; an assertion names the records that differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.kinds.api.servers.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    asyncio.run(_main(options.minutes, options.seed))


if __name__ == "__main__":
    main()
