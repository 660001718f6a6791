"""Limits that were registered hold loads back. On a server of its own: elsewhere every test's loads would wait."""

from typing import Any

import pytest
from prefect.client.schemas.objects import State

from deployments.register import register
from flows.ingest import ingest
from flows.settings import settings
from tests.conftest import TestDatabase
from tests.loads.loading import addresses, loads

pytestmark = pytest.mark.xdist_group("deployments")


async def test_loads_hold_a_slot_of_their_source_and_of_the_warehouse(
    api: str, warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limits registered and one slot in all, loads follow one another."""
    for name, value in (*addresses(warehouse, shop).items(), ("MEDALLION_WAREHOUSE_PARALLEL", "1")):
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    register()
    try:
        state: State[Any] = await ingest("shop", ["stores", "products"], return_state=True)
    finally:
        settings.cache_clear()

    assert state.is_completed()
    first, second = sorted(loads(warehouse), key=lambda load: str(load["started_at"]))
    assert first["finished_at"] <= second["started_at"]
