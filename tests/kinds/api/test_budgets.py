"""Lists of an API with a budget: what a page more costs, and where the next load goes on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.declare import Budget, Merge
from flows.kinds.api import Api
from flows.kinds.registry import kind_of
from flows.publish.session import LoadResult
from flows.values.settings import settings
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.api.conformance import SOURCE, ApiEnd, start
from tests.publish.two_ends import TwoEnds


@pytest.fixture
def end(shop: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiEnd]:
    with start(shop, tmp_path) as started:
        for name, value in started.variables.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        assert isinstance(started, ApiEnd)
        started.write(*((number, f"item {number}", number) for number in range(1, 61)))
        yield started
    settings.cache_clear()


async def load(ends: TwoEnds, budget: Budget | None) -> LoadResult:
    merged = replace(SOURCE.endpoints[0], load=Merge(), budget=budget)
    source: Api = replace(SOURCE, endpoints=[merged])
    return await load_table(ends.warehouse_address, kind_of(source).address(source), source, merged)


async def test_what_a_list_has_brought_is_published_and_the_next_load_goes_on_at_its_place(
    end: ApiEnd, warehouse: TestDatabase, shop: TestDatabase
) -> None:
    ends = TwoEnds(warehouse, shop)

    first = await load(ends, Budget(rows=20))

    assert first.stopped is not None
    assert (first.counts.rows_read, first.counts.rows_inserted) == (24, 24)
    assert ends.raw("select count(*) from raw_conform.items") == [(24,)]
    second = await load(ends, Budget(rows=20))
    assert second.counts.rows_inserted == 24
    last = await load(ends, Budget(rows=20))
    assert (last.stopped, last.counts.rows_inserted, last.counts.reconciliation) == (None, 12, "match")
    assert ends.raw("select count(*), count(distinct id) from raw_conform.items") == [(60, 60)]


async def test_requests_cost_money(
    end: ApiEnd, warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_PRICE_PER_THOUSAND_REQUESTS", "100")
    settings.cache_clear()

    result = await load(TwoEnds(warehouse, shop), Budget(money=0.3))

    assert "budget of 0.30 EUR" in str(result.stopped)
    assert result.counts.rows_read == 18


async def test_each_page_is_a_request_that_is_paid_for(
    end: ApiEnd, warehouse: TestDatabase, shop: TestDatabase
) -> None:
    ends = TwoEnds(warehouse, shop)

    first = await load(ends, Budget(rows=20))
    rest = await load(ends, None)

    assert first.requests > 0
    assert rest.requests > first.requests
