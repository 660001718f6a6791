"""A shop with tickets: 12,000 rows made long ago, of which loads find thirty changed."""

from collections.abc import Iterator

import pytest

from tests.conftest import TestCluster, TestDatabase, copy_of, fresh_shop, fresh_warehouse
from tests.operations.tuning.tuned import ROWS, Tuned


@pytest.fixture
def empty(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Tuned:
    """Both ends without tickets, for histories that only the ledger has."""
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    return Tuned(warehouse, shop)


@pytest.fixture(scope="module")
def created(cluster: TestCluster) -> Iterator[Tuned]:
    """Made once: tests take copies."""
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop:
        ends = Tuned(warehouse, shop)
        ends.source(
            "create table tickets (id bigint generated always as identity primary key, sold_on date not null, "
            "note text, created_at timestamptz not null, updated_at timestamptz not null default now());"
            "insert into tickets (sold_on, note, created_at, updated_at) select current_date - 3650 + n / 4, "
            "repeat('x', 80), now() - interval '400 days', now() - interval '300 days' "
            f"from generate_series(1, {ROWS}) as n;"
            "analyze tickets"
        )
        yield ends


@pytest.fixture
def ends(created: Tuned, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tuned]:
    with copy_of(created.warehouse) as warehouse, copy_of(created.shop) as shop:
        monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
        yield Tuned(warehouse, shop)
