"""One warehouse and one shop for all exercises of a module."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from flows.values.settings import settings
from tests.conftest import TestCluster, fresh_shop, fresh_warehouse
from tests.docs.runbooks.night import Night
from tests.operations.watches import watching
from tests.publish.two_ends import TwoEnds


@pytest.fixture(scope="module")
def ends(cluster: TestCluster) -> Iterator[TwoEnds]:
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop:
        yield TwoEnds(warehouse, shop)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def night(ends: TwoEnds, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    ends.raw("delete from ops.watches")  # beside one that looks, another only stands by
    shop = ends.shop.url("extractor")
    with watching(monkeypatch, ends.warehouse.url("loader"), MEDALLION_SOURCE_SHOP_URL=shop) as it:
        it.watch.once = True
        yield Night(ends, it, monkeypatch, runner)
        runner.run(it.watch.close())
    settings.cache_clear()
