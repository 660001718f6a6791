"""The declarations that ship, as they are, against servers that follow the vendors' documentation."""

import math
from dataclasses import replace

import pytest

from flows.kinds.api import Bearer
from flows.sources.catalog.fhir import fhir as shipped_fhir
from flows.sources.catalog.google_analytics import google_analytics
from flows.sources.catalog.shopify import shopify as shipped_shopify
from tests.conftest import TestDatabase
from tests.kinds.api.servers.analytics import Analytics
from tests.kinds.api.servers.fhir import TOKEN as FHIR_TOKEN
from tests.kinds.api.servers.fhir import Fhir, consent, observation, patient
from tests.kinds.api.servers.reading import load, raw_records
from tests.kinds.api.servers.shopify import TOKEN, Shopify, order
from tests.kinds.loading import rows


@pytest.mark.parametrize("name", ["orders", "products", "customers"])
async def test_shopify_s_lists_come_whole(warehouse: TestDatabase, shopify: Shopify, name: str) -> None:
    shopify.put(name, *(order(n, closed_at="2024-01-03T00:00:00Z" if n % 2 else None) for n in range(1, 261)))
    await load(warehouse, shipped_shopify, shopify.url, name, TOKEN)

    assert raw_records(warehouse, f"raw_shopify.{name}") == shopify.lists[name]


async def test_the_daily_report_of_google_analytics_comes_whole(warehouse: TestDatabase, analytics: Analytics) -> None:
    analytics.tokens.tokens["an-access-token"] = math.inf
    channels = ("Direct", "Organic Search")
    analytics.events += [
        {
            "date": f"202401{day:02}", "sessionDefaultChannelGroup": channel, "sessions": day, "totalUsers": 1,
            "conversions": 0,
        }
        for day in range(1, 8) for channel in channels
    ]  # fmt: skip
    await load(warehouse, google_analytics, analytics.url, "daily", "an-access-token")
    await load(warehouse, google_analytics, analytics.url, "daily", "an-access-token")

    found = rows(warehouse, "select date, channel, payload #>> '{metricValues,0,value}' as sessions "
                 "from raw_google_analytics.daily")  # fmt: skip
    assert {(row["date"], row["channel"]): row["sessions"] for row in found} == {
        (event["date"], event["sessionDefaultChannelGroup"]): str(event["sessions"]) for event in analytics.events
    }


async def test_patients_observations_and_consents_come_whole(warehouse: TestDatabase, fhir: Fhir) -> None:
    """With a token of our own: the imitation has no token endpoint below its base."""
    declared = replace(shipped_fhir, auth=Bearer())
    fhir.warns = True
    for endpoint, make in (("patients", patient), ("observations", observation), ("consents", consent)):
        resources = [make(number) for number in range(210)]
        fhir.put(*resources)
        await load(warehouse, declared, f"{fhir.url}/fhir", endpoint, FHIR_TOKEN)

        assert raw_records(warehouse, f"raw_fhir.{endpoint}") == {one["id"]: one for one in resources}
