"""The imitations keep to what the vendors document, the awkward parts above all; plain httpx asks, nothing of ours."""

import httpx
import pytest

from tests.kinds.api.servers.analytics import PROPERTY, Analytics, visit
from tests.kinds.api.servers.fhir import TOKEN as FHIR_TOKEN
from tests.kinds.api.servers.fhir import Fhir, patient
from tests.kinds.api.servers.imitation import cut, cut_unseen, refuse, reset
from tests.kinds.api.servers.oauth import CLIENT_ID, CLIENT_SECRET
from tests.kinds.api.servers.shopify import TOKEN, VERSION, Shopify, order

ORDERS = f"/admin/api/{VERSION}/orders.json"


def test_shopify_pages_by_link_and_refuses_filters_beside_page_info(shopify: Shopify) -> None:
    shopify.put("orders", *(order(number) for number in range(1, 6)), order(6, closed_at="2024-01-03T00:00:00Z"))
    with httpx.Client(base_url=shopify.url, headers={"X-Shopify-Access-Token": TOKEN}) as client:
        first = client.get(ORDERS, params={"limit": 4, "status": "any"})
        second = client.get(first.links["next"]["url"])
        open_only = client.get(ORDERS)
        mixed = client.get(first.links["next"]["url"] + "&status=any")

    assert [one["id"] for one in first.json()["orders"] + second.json()["orders"]] == [1, 2, 3, 4, 5, 6]
    assert "next" not in second.links
    assert len(open_only.json()["orders"]) == 5
    assert mixed.status_code == 400
    assert httpx.get(f"{shopify.url}{ORDERS}").status_code == 401


def test_shopify_s_bucket_overflows_after_its_size_and_says_for_how_long(shopify: Shopify) -> None:
    shopify.clear(bucket=3, leak=0.01)
    with httpx.Client(base_url=shopify.url, headers={"X-Shopify-Access-Token": TOKEN}) as client:
        answers = [client.get(ORDERS) for _ in range(4)]

    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["x-shopify-shop-api-call-limit"] for one in answers] == ["1/3", "2/3", "3/3", "3/3"]
    assert answers[-1].headers["retry-after"] == "2.0"


def test_analytics_leaves_out_rows_and_count_when_there_are_none(analytics: Analytics) -> None:
    analytics.events += [visit(1, "AT", 2), visit(1, "AT", 3), visit(2, "BE"), visit(9, "BE")]
    report = {
        "dateRanges": [{"startDate": "2024-01-01", "endDate": "2024-01-05"}],
        "dimensions": [{"name": "date"}, {"name": "country"}],
        "metrics": [{"name": "sessions"}],
    }
    grant = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    token = httpx.post(f"{analytics.tokens.url}/token", data=grant).json()["access_token"]
    with httpx.Client(base_url=analytics.url, headers={"Authorization": f"Bearer {token}"}) as client:

        def ask(**more: object) -> httpx.Response:
            return client.post(f"/v1beta/properties/{PROPERTY}:runReport", json=report | more)

        page, beyond = ask(limit="1", offset="1", returnPropertyQuota=True).json(), ask(offset=10).json()
        none = ask(dateRanges=[{"startDate": "2023-01-01", "endDate": "2023-01-02"}]).json()
        unknown = ask(pageToken="x")
        analytics.tokens.revoke()
        revoked = ask()

    (row,) = page["rows"]
    assert ([one["value"] for one in row["dimensionValues"]], page["rowCount"]) == (["20240102", "BE"], 2)
    assert page["propertyQuota"]["tokensPerDay"]["remaining"] < 200_000
    assert "rows" not in beyond
    assert beyond["rowCount"] == 2
    assert not {"rows", "rowCount"} & none.keys()
    assert (unknown.status_code, revoked.status_code) == (400, 401)
    assert httpx.post(f"{analytics.tokens.url}/token", data=grant | {"client_secret": "x"}).status_code == 401


def test_fhir_keeps_the_pages_of_a_search_as_they_were_until_it_forgets_them(fhir: Fhir) -> None:
    fhir.put(*(patient(number, f"2024-01-0{number}T00:00:00Z") for number in range(1, 6)))
    with httpx.Client(base_url=fhir.url, headers={"Authorization": f"Bearer {FHIR_TOKEN}"}) as client:
        first = client.get("/fhir/Patient", params={"_count": 2, "_lastUpdated": "ge2024-01-02T00:00:00Z"}).json()
        fhir.put(patient(9, "2024-01-02T12:00:00Z"))
        link = {one["relation"]: one["url"] for one in first["link"]}["next"]
        second = client.get(link)
        fhir.searches.clear()
        gone = client.get(link)
        none = client.get("/fhir/Consent").json()

    assert [one["resource"]["id"] for one in first["entry"] + second.json()["entry"]] == ["p2", "p3", "p4", "p5"]
    assert second.headers["content-type"].startswith("application/fhir+json")
    assert [one["relation"] for one in second.json()["link"]] == ["self"]
    assert (gone.status_code, gone.json()["resourceType"]) == (410, "OperationOutcome")
    assert "entry" not in none
    assert none["total"] == 0


def test_trouble_comes_at_the_request_it_was_planned_for(shopify: Shopify) -> None:
    shopify.put("orders", order(1))
    shopify.trouble |= {2: refuse(503), 3: cut, 4: reset, 5: cut_unseen}
    shopify.before[6] = lambda: shopify.put("orders", order(2))
    with httpx.Client(base_url=shopify.url, headers={"X-Shopify-Access-Token": TOKEN}) as client:
        first, second = client.get(ORDERS), client.get(ORDERS)
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(ORDERS)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.get(ORDERS)
        half, last = client.get(ORDERS), client.get(ORDERS)

    assert (first.status_code, second.status_code) == (200, 503)
    assert (half.status_code, first.content.startswith(half.content)) == (200, True)
    assert len(half.content) < len(first.content)
    assert len(last.json()["orders"]) == 2
