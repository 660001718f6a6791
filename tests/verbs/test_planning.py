"""What a plan says, table by table."""

import pytest

from flows.values.settings import settings
from flows.verbs.plan import plan_sources
from tests.conftest import TestDatabase
from tests.kinds.loading import addresses, change, load


@pytest.fixture(autouse=True)
def addressed(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in addresses(warehouse, shop).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()


async def test_a_missing_grant_costs_only_its_own_line(shop: TestDatabase) -> None:
    change(shop, "revoke select on stores from medallion_extractor", role="admin")
    lines = {line.table: line for line in await plan_sources({"shop": ["stores", "baskets"]})}
    assert lines["baskets"].state == "pending"
    error = lines["stores"].error
    assert error is not None
    assert "permission denied for table stores" in error.what
    assert error.where == "shop.stores"


async def test_deletes_that_wait_are_due_though_no_row_waits(warehouse: TestDatabase, shop: TestDatabase) -> None:
    await load(warehouse, shop, "baskets")
    (line,) = await plan_sources({"shop": ["baskets"]})
    assert line.state == "up to date"
    change(
        shop, "delete from basket_items where basket_id = 31000001", "delete from baskets where basket_id = 31000001"
    )
    (line,) = await plan_sources({"shop": ["baskets"]})
    assert (line.rows, line.state) == (0, "pending: deletes")
    await load(warehouse, shop, "baskets")
    (line,) = await plan_sources({"shop": ["baskets"]})
    assert line.state == "up to date"
