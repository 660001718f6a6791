"""Random faults against a real Kinto and two imitations: in the end source = raw.

The long one: `python -m tests.kinds.api.servers.soak`.
"""

import random

import pytest

from tests.conftest import TestDatabase
from tests.kinds.api.servers.fhir import Fhir
from tests.kinds.api.servers.kinto import Collection
from tests.kinds.api.servers.relay import Relay
from tests.kinds.api.servers.shopify import Shopify
from tests.kinds.api.servers.soak import LIMITS, fhir_source, kinto_source, shopify_source, soak


@pytest.mark.xdist_group("kinto")
async def test_random_faults_end_with_source_equal_to_raw(
    warehouse: TestDatabase, orders: Collection, shopify: Shopify, fhir: Fhir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.kinds.api.kind.HttpLimits", LIMITS)
    with Relay(to=orders.base) as relay:
        sources = [kinto_source(orders, relay), shopify_source(shopify), fhir_source(fhir)]
        told = await soak(warehouse, sources, random.Random(11), lambda rounds: rounds == 3, kills=0.0)

    assert told["troubles"] >= 8
