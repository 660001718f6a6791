"""How the servers of the tests are declared: what a user would write for them, one line for each property."""

from dataclasses import replace

from flows.kinds.api import (
    Api,
    ApiKeyHeader,
    Basic,
    Bearer,
    Endpoint,
    Field,
    LinkHeader,
    NextHeader,
    NextUrl,
    OAuth2,
    Offset,
    PageNumber,
    Since,
)
from flows.sources.catalog.elasticsearch import elasticsearch
from flows.sources.catalog.github import github
from flows.sources.catalog.hubspot import hubspot
from flows.sources.catalog.jira import jira
from flows.sources.catalog.microsoft_graph import microsoft_graph
from flows.sources.catalog.slack import slack
from flows.sources.catalog.stripe import stripe
from flows.sources.catalog.zendesk import zendesk
from tests.kinds.api.servers.analytics import PROPERTY
from tests.kinds.api.servers.shopify import VERSION

KINTO = Api(
    "kinto",
    connection="kinto",
    auth=Basic(),
    pagination=NextHeader("Next-Page"),
    endpoints=[
        Endpoint(
            "orders",
            path="/records",
            params=(("_sort", "last_modified"),),
            page_size=50,
            page_size_parameter="_limit",
            cursor=Since("_since", field="last_modified", form="epoch_ms", ordered=True),
            deleted="deleted",
        )
    ],
)


def _items(name: str, path: str, pagination: PageNumber | Offset | NextUrl, size: str, total: str | None) -> Endpoint:
    return Endpoint(
        name,
        path=path,
        key_type="bigint",
        records="results",
        total=total,
        cursor=Since("updated_since", field="updated_at", lag="1 s"),
        pagination=pagination,
        page_size=50,
        page_size_parameter=size,
    )


REST_FRAMEWORK = Api(
    "app",
    connection="app",
    auth=Bearer("Token"),
    endpoints=[
        _items("by_page", "/page/items/", PageNumber(past_end=404), "page_size", "count"),
        _items("by_offset", "/offset/items/", Offset(), "limit", "count"),
        _items("by_cursor", "/cursor/items/", NextUrl("next"), "page_size", None),
        _items("throttled", "/throttled/items/", NextUrl("next"), "page_size", None),
    ],
)

JSON_SERVER = Api(
    "files",
    connection="files",
    pagination=LinkHeader(),
    endpoints=[
        Endpoint(
            "items",
            path="/items",
            records="",
            key_type="bigint",
            params=(("_page", "1"),),
            page_size=10,
            page_size_parameter="_limit",
            cursor=Since("updated_at_gte", field="updated_at"),
        )
    ],
)

SHOPIFY = Api(
    "shopify",
    connection="shopify",
    auth=ApiKeyHeader("X-Shopify-Access-Token"),
    endpoints=[
        Endpoint(
            name,
            path=f"/admin/api/{VERSION}/{name}.json",
            records=name,
            key_type="bigint",
            params=(("status", "any"),) if name == "orders" else (),
            page_size=50,
            cursor=Since("updated_at_min", field="updated_at"),
        )
        for name in ("orders", "products", "customers")
    ],
)

FHIR = Api(
    "clinic",
    connection="clinic",
    auth=Bearer(),
    pagination=NextUrl("link[relation=next].url"),
    endpoints=[
        Endpoint(
            f"{kind.lower()}s",
            path=f"/{kind}",
            records="entry[].resource",
            only=f"resourceType={kind}",
            may_be_absent=True,
            page_size=20,
            page_size_parameter="_count",
            cursor=Since("_lastUpdated", field="meta.lastUpdated", prefix="ge"),
        )
        for kind in ("Patient", "Observation", "Consent")
    ],
)

# Those of the catalog as they are, but for the pace and the place of tokens.
ZENDESK, STRIPE = replace(zendesk, rate=None), replace(stripe, rate=None)
HUBSPOT = replace(hubspot, rate=None, endpoints=[
    replace(hubspot.table("contacts"), cursor=replace(hubspot.table("contacts").cursor, cap=40))  # type: ignore[type-var]
])  # fmt: skip
GRAPH = replace(microsoft_graph, auth=Bearer())
JIRA, SLACK, GITHUB, ELASTICSEARCH = jira, slack, github, elasticsearch


def analytics(token_url: str) -> Api:
    """A daily report by country; the address of the token endpoint is part of the declaration."""
    return Api(
        "analytics",
        connection="analytics",
        auth=OAuth2(token_url, client="body"),
        pagination=Offset(overlap=0),
        concurrent=3,
        endpoints=[
            Endpoint(
                "daily",
                path=f"/v1beta/properties/{PROPERTY}:runReport",
                body={
                    "dateRanges": [{"startDate": "2024-01-01", "endDate": "today"}],
                    "dimensions": [{"name": "date"}, {"name": "country"}],
                    "metrics": [{"name": "sessions"}],
                },
                records="rows",
                total="rowCount",
                may_be_absent=True,
                key=(
                    Field("date", at="dimensionValues.0.value"),
                    Field("country", at="dimensionValues.1.value"),
                ),
                page_size=10,
                cursor=Since("dateRanges.0.startDate", field="dimensionValues.0.value", form="date", column="day"),
            )
        ],
    )
