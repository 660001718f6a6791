"""The declarations that ship, as they are, against servers that follow the vendors' documentation."""

import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from flows.access.kept_tokens import TokenFile
from flows.kinds.api import ApiKeyHeader, Bearer, Job, OAuth2, RefreshToken
from flows.sources.catalog.amazon import amazon
from flows.sources.catalog.fhir import fhir as shipped_fhir
from flows.sources.catalog.google_analytics import google_analytics
from flows.sources.catalog.salesforce import salesforce
from flows.sources.catalog.shopify import shopify as shipped_shopify
from flows.sources.catalog.xero import xero
from flows.values.connection import ApiConnection
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.api.servers import selling_partner
from tests.kinds.api.servers.analytics import Analytics
from tests.kinds.api.servers.fhir import TOKEN as FHIR_TOKEN
from tests.kinds.api.servers.fhir import Fhir, consent, observation, patient
from tests.kinds.api.servers.oauth import CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from tests.kinds.api.servers.reading import load, raw_records
from tests.kinds.api.servers.salesforce import Salesforce
from tests.kinds.api.servers.selling_partner import LoginWithAmazon, SellingPartner, Store
from tests.kinds.api.servers.shopify import TOKEN, Shopify, order
from tests.kinds.api.servers.xero import CLIENT_ID as XERO_ID
from tests.kinds.api.servers.xero import CLIENT_SECRET as XERO_SECRET
from tests.kinds.api.servers.xero import TENANT, Xero, XeroIdentity
from tests.kinds.loading import at as address
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
    declared = replace(google_analytics, auth=Bearer())
    await load(warehouse, declared, analytics.url, "daily", "an-access-token")
    await load(warehouse, declared, analytics.url, "daily", "an-access-token")

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


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "pause", property(lambda _: timedelta(milliseconds=5)))


async def test_accounts_of_salesforce_come_whole_and_then_those_that_changed(warehouse: TestDatabase) -> None:
    with TokenEndpoint() as tokens, Salesforce(tokens=tokens) as org:
        declared = replace(salesforce, auth=OAuth2(tokens.address))
        for version in (1, 2):
            org.put(*range(100 // version), version=version)
            await load(warehouse, declared, org.url, "accounts", CLIENT_SECRET, CLIENT_ID)
        assert raw_records(warehouse, "raw_salesforce.accounts") == org.accounts
        first, second = (json.loads(asked.body)["query"] for asked in org.asked if asked.method == "POST")
        assert first.endswith(">= 1970-01-01T00:00:00Z")
        assert second.endswith(">= 2024-01-01T23:51:39Z")  # the newest of the first, less ten minutes


async def test_orders_of_amazon_come_whole(warehouse: TestDatabase, tmp_path: Path) -> None:
    with Store() as store, LoginWithAmazon() as login, SellingPartner(store=store, login=login) as seller:
        auth = RefreshToken(f"{login.url}/token", client="body", sent_as=ApiKeyHeader("x-amz-access-token"))
        declared = replace(amazon, auth=auth, stores=(store.url.removeprefix("http://"),))
        seller.encoding = "utf-8"
        seller.put(*range(50))
        at = ApiConnection("amazon", seller.url, selling_partner.CLIENT_SECRET, selling_partner.CLIENT_ID,
                           login.refresh_token, tokens=TokenFile(tmp_path / "amazon.json"))  # fmt: skip
        await load_table(address(warehouse, "loader"), at, declared, declared.table("orders"))
        found = raw_records(warehouse, "raw_amazon.orders", "order_id")
        assert {key: record["product-name"] for key, record in found.items()} == {
            key: row[2] for key, row in seller.orders.items()
        }


async def test_invoices_of_xero_come_whole(warehouse: TestDatabase, tmp_path: Path) -> None:
    with XeroIdentity() as identity, Xero(identity=identity) as books:
        declared = replace(
            xero, auth=RefreshToken(f"{identity.url}/t"), headers=(("Xero-Tenant-Id", TENANT),), rate=None
        )
        books.invoices = [{"InvoiceID": str(UUID(int=number)), "Total": number / 4} for number in range(250)]
        at = ApiConnection("xero", books.url, XERO_SECRET, XERO_ID, identity.authorise(),
                           tokens=TokenFile(tmp_path / "xero.json"))  # fmt: skip
        await load_table(address(warehouse, "loader"), at, declared, declared.table("invoices"))
        found = raw_records(warehouse, "raw_xero.invoices", "invoice_id::text")
        assert found == {one["InvoiceID"]: one for one in books.invoices}
