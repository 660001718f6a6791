"""The servers, each started once per session by the first test that wants it, and emptied for each test."""

from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest

from flows.kinds.api.http.limits import HttpLimits
from tests.kinds.api.servers.analytics import Analytics
from tests.kinds.api.servers.fhir import Fhir
from tests.kinds.api.servers.json_server import MISSING, JsonServer, running_json_server
from tests.kinds.api.servers.kinto import Collection, Kinto, running_kinto
from tests.kinds.api.servers.oauth import TokenEndpoint
from tests.kinds.api.servers.rest_framework import RestFramework, running_rest_framework
from tests.kinds.api.servers.shopify import Shopify

_numbers = count(1)


@pytest.fixture(scope="session")
def running_collections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinto]:
    with running_kinto(tmp_path_factory.mktemp("kinto")) as kinto:
        yield kinto


@pytest.fixture
def orders(running_collections: Kinto) -> Iterator[Collection]:
    """An empty collection `orders` in a Kinto."""
    with running_collections.collection(f"bucket{next(_numbers)}") as collection:
        yield collection


@pytest.fixture(scope="session")
def running_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestFramework]:
    with running_rest_framework(tmp_path_factory.mktemp("rest_framework")) as app:
        yield app


@pytest.fixture
def items(running_app: RestFramework) -> RestFramework:
    """A Django REST framework app without items."""
    running_app.clear()
    return running_app


@pytest.fixture(scope="session")
def json_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JsonServer]:
    """A json-server with 35 items."""
    if MISSING:
        pytest.skip(MISSING)
    made = [{"id": number, "updated_at": f"2024-01-01T00:00:{number:02}Z"} for number in range(1, 36)]
    with running_json_server(tmp_path_factory.mktemp("json_server"), made) as server:
        yield server


@pytest.fixture(scope="session")
def running_shopify() -> Iterator[Shopify]:
    with Shopify() as shop:
        yield shop


@pytest.fixture
def shopify(running_shopify: Shopify) -> Shopify:
    """A Shopify without records, whose bucket leaks so fast that only tests of the limit meet it."""
    running_shopify.clear(leak=10_000)
    return running_shopify


@pytest.fixture(scope="session")
def running_analytics() -> Iterator[Analytics]:
    with TokenEndpoint() as tokens, Analytics(tokens=tokens) as analytics:
        yield analytics


@pytest.fixture
def analytics(running_analytics: Analytics) -> Analytics:
    """A GA4 property without events; its token endpoint is another server."""
    running_analytics.clear()
    running_analytics.tokens.begin()
    running_analytics.tokens.revoke()
    running_analytics.tokens.lifetime = 3600
    running_analytics.tokens.path = f"/token/{next(_numbers)}"
    return running_analytics


@pytest.fixture(scope="session")
def running_fhir() -> Iterator[Fhir]:
    with Fhir() as fhir:
        yield fhir


@pytest.fixture
def fhir(running_fhir: Fhir) -> Fhir:
    """A FHIR server without resources."""
    running_fhir.clear()
    return running_fhir


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds between two tries of what failed. What a server asks for is obeyed as it is."""
    monkeypatch.setattr("flows.kinds.api.kind.HttpLimits", partial(HttpLimits, backoff_seconds=0.005))
