"""Limits that were registered hold loads back. On a server of its own: elsewhere every test's loads would wait."""

import pytest

from deployments.register import register
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.flows.front_door import medallion
from tests.kinds.loading import addresses, loads

pytestmark = pytest.mark.xdist_group("deployments")


def test_loads_hold_a_slot_of_their_source_and_of_the_warehouse(
    api: str, warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limits registered and one slot in all, loads follow one another.

    In a process of its own: Prefect keeps what acquires slots for as long as a process lives, with the server it asks.
    """
    monkeypatch.setenv("MEDALLION_WAREHOUSE_PARALLEL", "1")
    settings.cache_clear()
    try:
        register()
    finally:
        settings.cache_clear()

    ended = medallion("run", "shop.stores", "shop.products", "--ingest-only", variables=addresses(warehouse, shop))

    assert ended.code == 0, ended.text
    first, second = sorted(loads(warehouse), key=lambda load: str(load["started_at"]))
    assert first["finished_at"] <= second["started_at"]
