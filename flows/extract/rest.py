"""Read a paginated API, page by page, each page whole or not at all.

    async with contextlib.aclosing(read_pages(api, endpoint, connection, since="2017-12-30")) as pages:
        async for page in pages:
            ...  # page.records: the source's own bytes

Order of reading: `read_pages` walks the pages, `_Reader.page` tries one until it is whole, `_Reader._answer` makes one
request. Why not a library for the retries: what is tried again here is a page, its body and its JSON included,
and two kinds of waiting are bounded in two ways (see `HttpLimits`).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace

import httpx

from flows.extract.auth import base_url_of, open_client
from flows.extract.http_body import Body, read_body
from flows.extract.http_failure import AttemptFailed, refused, too_slow, unreachable
from flows.extract.http_limits import HttpLimits
from flows.extract.http_pace import pace_of
from flows.extract.http_records import split
from flows.extract.pagination import Trail, next_page, require_origin
from flows.spec.api import Api, Endpoint, SinglePage
from flows.spec.connection import ApiConnection
from flows.spec.errors import DeclarationError

__all__ = ["HttpLimits", "Page", "count_records", "read_pages"]

_MAX_REDIRECTS = 5
# Spreads runs that failed together. Not a secret; SystemRandom because it needs no seed per process.
_chance = random.SystemRandom()
_DEFAULT_LIMITS = HttpLimits()


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    `records`: each record's JSON as the source sent it, byte for byte.
    `received_bytes`: what came over the wire, compressed if it was.
    `total`: the API's own count, if the endpoint declares where it stands; it counts what this query matches.
    `number`: 1 for the first page.
    """

    records: list[bytes]
    received_bytes: int
    total: int | None
    number: int


async def read_pages(
    api: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    *,
    since: str | None = None,
    limits: HttpLimits = _DEFAULT_LIMITS,
    on_wait: Callable[[str, float], None] | None = None,
) -> AsyncGenerator[Page, None]:
    """Yield the endpoint's pages in order; an empty list is one page without records.

    `since` goes out as the endpoint's declared cursor parameter. `on_wait(reason, seconds)` is called before every
    pause between two tries. Memory: one page, its body and its records. Leave it early through `aclosing`, which
    closes the connection at once.

    Raises:
        ConfigurationError: key or base URL missing or wrong; 401, 403; an untrusted certificate.
        DeclarationError: `since` for an endpoint without a cursor.
        RateLimited: the API asks for more patience than `limits` allow; `retry_after` says how much, in seconds.
        SourceUnavailable: failures that may pass, `limits.max_attempts` times for one page.
        SourceError: an answer that must not be taken for data, or a next link that must not be followed.
    """
    async with open_client(api, connection, limits) as client:
        reader = _Reader(client, api, endpoint, base_url_of(api, connection), limits, on_wait)
        first = _first_page(api, endpoint, reader.base, since)
        trail = Trail(first, limits.max_idle_pages)
        url: httpx.URL | None = first
        number = 0
        while url is not None:
            number += 1
            page, url = await reader.page(url, number, trail)
            yield page


async def count_records(
    api: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    *,
    limits: HttpLimits = _DEFAULT_LIMITS,
    on_wait: Callable[[str, float], None] | None = None,
) -> int | None:
    """The API's own count of all the endpoint's records, from one request for one record.

    None when the endpoint declares no `total` (then nothing is asked), or when the API leaves it null.

    Raises:
        As `read_pages`.
    """
    if endpoint.total is None:
        return None
    smallest = replace(endpoint, page_size=None if endpoint.page_size is None else 1, pagination=SinglePage())
    async with open_client(api, connection, limits) as client:
        reader = _Reader(client, api, smallest, base_url_of(api, connection), limits, on_wait)
        url = _first_page(api, smallest, reader.base, None)
        page, _ = await reader.page(url, 1, Trail(url, limits.max_idle_pages))
        return page.total


def _first_page(api: Api, endpoint: Endpoint, base: httpx.URL, since: str | None) -> httpx.URL:
    params: list[tuple[str, str | int | float | bool | None]] = [*endpoint.params]
    if endpoint.page_size is not None:
        params.append((endpoint.page_size_parameter, str(endpoint.page_size)))
    if since is not None:
        if endpoint.cursor is None:
            raise DeclarationError(
                "a start was given for an endpoint that declares no cursor",
                where=f"{api.name}.{endpoint.name}",
                next_move=f'add cursor=Since("…", field="…") in flows/sources/{api.name}.py, or read it whole',
            )
        params.append((endpoint.cursor.parameter, since))
    url = httpx.URL(str(base).rstrip("/") + endpoint.path)
    return url.copy_merge_params(params) if params else url


class _Reader:
    """One read of one endpoint: its client, its pace, and how long it has waited at the API's request."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        api: Api,
        endpoint: Endpoint,
        base: httpx.URL,
        limits: HttpLimits,
        on_wait: Callable[[str, float], None] | None,
    ) -> None:
        self.base = base
        self._client = client
        self._api = api
        self._endpoint = endpoint
        self._limits = limits
        self._on_wait = on_wait
        self._pace = pace_of(api)
        self._waited = 0.0
        self._where = f"{api.name}.{endpoint.name}"

    async def page(self, url: httpx.URL, number: int, trail: Trail) -> tuple[Page, httpx.URL | None]:
        """The page at `url` and the address of the next, tried until it is whole."""
        where = self._where if number == 1 else f"{self._where} (page {number})"
        attempts = pauses = 0
        while True:
            # Whatever is raised below stands outside the except block, so that it drags no inner exception along.
            try:
                return await self._whole_page(url, number, trail)
            except AttemptFailed as failed:
                failure = failed
            if failure.slow_down:
                pauses += 1
                wait = max(failure.retry_after or 0.0, self._backoff(pauses))
                if self._waited + wait > self._limits.wait_budget_seconds:
                    raise failure.rate_limited(where, wait, self._waited, self._limits.wait_budget_seconds)
                self._waited += wait
            else:
                attempts += 1
                if not failure.again or attempts >= self._limits.max_attempts:
                    raise failure.error(where, attempts)
                wait = self._backoff(attempts)
            if self._on_wait is not None:
                self._on_wait(f"{where}: {failure.what}", wait)
            await asyncio.sleep(wait)

    def _backoff(self, tries: int) -> float:
        longest = self._limits.backoff_seconds * 2.0 ** min(tries - 1, 30)
        return min(longest, self._limits.backoff_cap_seconds) * _chance.uniform(0.5, 1)

    async def _whole_page(self, url: httpx.URL, number: int, trail: Trail) -> tuple[Page, httpx.URL | None]:
        body, links, address = await self._answer(url)
        records, total = split(body, self._endpoint)
        following = next_page(self._api.pagination_of(self._endpoint), links, address, self.base)
        if following is not None:
            trail.follow(following, records)
        return Page(records, body.received_bytes, total, number), following

    async def _answer(self, url: httpx.URL) -> tuple[Body, list[str], httpx.URL]:
        """The body, the Link fields, and the address that answered, redirects within the origin followed."""
        for _ in range(_MAX_REDIRECTS + 1):
            if self._pace is not None:
                await self._pace.turn()
            # As sent, so still escaped: a path decoded could break a log line in two. The query stays out.
            request_line = f"GET {url.raw_path.partition(b'?')[0].decode('ascii')}"
            try:
                # The deadline covers the body too: a read timeout alone is reset by every byte of a slow drip.
                async with asyncio.timeout(self._limits.request_seconds), self._client.stream("GET", url) as response:
                    if response.has_redirect_location:
                        url = self._redirected(url, response, request_line)
                        continue
                    if response.status_code != httpx.codes.OK:
                        raise refused(response, request_line, self._api)
                    body = await read_body(response, self._limits.max_body_bytes)
                    return body, response.headers.get_list("link"), url
            except TimeoutError:
                failure = too_slow(request_line, self._limits.request_seconds)
            except httpx.HTTPError as error:
                failure = unreachable(error, request_line, self._api)
            raise failure
        raise AttemptFailed(
            f"more than {_MAX_REDIRECTS} redirects from {request_line}",
            f"give the final address as path in flows/sources/{self._api.name}.py",
        )

    def _redirected(self, url: httpx.URL, response: httpx.Response, request_line: str) -> httpx.URL:
        target = url.join(response.headers["location"])  # one that is no address has already failed inside httpx
        require_origin(target, self.base, f"the redirect ({response.status_code}) from {request_line}")
        return target
