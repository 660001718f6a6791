"""Declarations and limits that the tests of API reading share."""

import json
from collections.abc import Callable
from contextlib import aclosing

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.declared.changes import Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import LinkHeader, Pagination
from flows.kinds.api.declared.sent import ApiKeyHeader
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.pages.endpoint import read_pages
from flows.kinds.api.pages.page import Page, Start
from flows.values.connection import ApiConnection

KEY = "canary-5f2b8c"

# Pauses of milliseconds, so that six attempts do not make a slow test.
QUICK = HttpLimits(
    max_attempts=3,
    backoff_seconds=0.002,
    backoff_cap_seconds=0.01,
    wait_budget_seconds=5,
    connect_seconds=2,
    read_seconds=2,
    request_seconds=4,
    max_body_bytes=1 << 20,
)

ITEMS = Endpoint("items", path="/v1/items", total="meta.total", cursor=Since("updated_since", field="updated_at"))


def api(
    endpoint: Endpoint = ITEMS,
    auth: Auth | None = None,
    pagination: Pagination | None = None,
    rate: float | None = None,
    name: str = "marketing",
) -> Api:
    """An API of one endpoint."""
    return Api(
        name,
        connection=name,
        endpoints=[endpoint],
        auth=auth or ApiKeyHeader(),
        pagination=pagination or LinkHeader(),
        rate=rate,
    )


def connection(url: str, key: str | None = KEY) -> ApiConnection:
    """Where the server of a test listens."""
    return ApiConnection("marketing", base_url=url, key=key)


async def read(
    url: str,
    endpoint: Endpoint = ITEMS,
    declared: Api | None = None,
    *,
    since: str | None = None,
    limits: HttpLimits = QUICK,
    key: str | None = KEY,
    on_wait: Callable[[str, float], None] | None = None,
) -> list[Page]:
    """All pages of an endpoint."""
    declared = declared or api(endpoint)
    stream = read_pages(declared, endpoint, connection(url, key), Start(since), limits=limits, on_wait=on_wait)
    async with aclosing(stream) as pages:
        return [page async for page in pages]


def values(pages: list[Page]) -> list[object]:
    """The records, decoded."""
    return [json.loads(record) for page in pages for record in page.records]
