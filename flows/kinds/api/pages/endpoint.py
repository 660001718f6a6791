"""Read a paginated API page by page; each page is complete or an error.

    async with contextlib.aclosing(read_pages(api, endpoint, connection, Start(since="2017-12-30"))) as pages:
        async for page in pages:
            ...  # page.records: the source's own bytes

`read_pages` walks the pages (`pagination`), `Ahead` may have prefetched them, `Reader.fetch` retries one until it is
complete. Why no retry library: a retry here covers a page with its body and JSON, and two kinds of waits have
different limits (see `HttpLimits`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import SinglePage
from flows.kinds.api.http.auth import base_url_of, open_client
from flows.kinds.api.http.failure import WindowTooLong
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.pages.endpoint_reader import EndpointReader
from flows.kinds.api.pages.page import Page, Start
from flows.values.connection import ApiConnection

_DEFAULT_LIMITS = HttpLimits()
OnWait = Callable[[str, float], None]


_ALL = Start()


async def read_pages(
    api: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    start: Start = _ALL,
    *,
    limits: HttpLimits = _DEFAULT_LIMITS,
    on_wait: OnWait | None = None,
) -> AsyncGenerator[Page, None]:
    """Yield the endpoint's pages in order; an empty list is one page without records.

    `on_wait(reason, seconds)` is called before every pause between two attempts. Memory: one
    page with its body and records, plus prefetched ones. To leave it early, use `aclosing`, which closes the
    connections immediately.

    Raises:
        ConfigurationError: a credential or the base URL missing or wrong; 401, 403; an untrusted certificate.
        DeclarationError: `start.since` for an endpoint without a cursor.
        PlaceLost: the API no longer has the list or the position in it (410).
        RateLimited: the API requests a longer wait than `limits` allow; `retry_after` has the seconds.
        SourceUnavailable: transient failures, `limits.max_attempts` times for one page.
        SourceError: a response that must not be treated as data, or a next link that must not be followed.
    """
    async with open_reader(api, endpoint, connection, limits=limits, on_wait=on_wait) as reader:
        async for page in reader.pages(start):
            yield page


async def count_records(
    api: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    *,
    limits: HttpLimits = _DEFAULT_LIMITS,
    on_wait: OnWait | None = None,
) -> int | None:
    """The API's own count of all the endpoint's records, from one request for one record.

    None if the endpoint declares no `total`, or has partitions (then nothing is requested: each list has been compared
    with its own), or if the API sends null or answers that this is more than a query returns (`halve`).

    Raises:
        As `read_pages`.
    """
    if endpoint.total is None or endpoint.partitions:
        return None
    smallest = replace(endpoint, page_size=None if endpoint.page_size is None else 1, pagination=SinglePage())
    async with open_reader(api, smallest, connection, limits=limits, on_wait=on_wait) as reader:
        try:
            return await reader.total()
        except WindowTooLong:
            return None  # each window has been compared with its own


@asynccontextmanager
async def open_reader(
    api: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    *,
    limits: HttpLimits = _DEFAULT_LIMITS,
    on_wait: OnWait | None = None,
) -> AsyncIterator[EndpointReader]:
    """An endpoint with one client, for one list or, with a parent, for many."""
    async with open_client(api, connection, limits) as client:
        base = base_url_of(api, connection)
        reader = Reader(client, api, endpoint, connection, base, limits, on_wait)
        yield EndpointReader(api, endpoint, reader)
