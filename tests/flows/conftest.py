"""Flows on the run's Prefect server, against small databases."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from flows import tasks
from flows.settings import settings
from tests.conftest import TestDatabase
from tests.flows.prefect_facts import forget_senders
from tests.flows.scripted_api import ScriptedApi
from tests.loads.loading import addresses


@dataclass(frozen=True)
class Ends:
    """Where the flows read and write."""

    warehouse: TestDatabase
    shop: TestDatabase


@pytest.fixture
def ends(
    prefect_server: str, warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ends]:
    """The platform's settings point to the databases of this test; retries do not wait."""
    for name, value in addresses(warehouse, shop).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tasks, "load", tasks.load.with_options(retry_delay_seconds=0))
    monkeypatch.setattr(tasks, "check_gate", tasks.check_gate.with_options(retry_delay_seconds=0))
    settings.cache_clear()
    forget_senders()
    yield Ends(warehouse, shop)
    settings.cache_clear()


@pytest.fixture
def marketing_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedApi]:
    """A small commerce API, counting what it is asked."""
    with ScriptedApi() as api:
        monkeypatch.setenv("MEDALLION_SOURCE_MARKETING_URL", api.url)
        monkeypatch.setenv("MEDALLION_SOURCE_MARKETING_KEY", api.key)
        monkeypatch.setenv("MEDALLION_SOURCE_CURRENCY_URL", api.url)
        monkeypatch.setenv("MEDALLION_SOURCE_CURRENCY_KEY", api.key)
        yield api
