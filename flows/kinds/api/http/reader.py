"""Fetch one complete page, with retries and rate limits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import httpx

from flows.kinds.api.bodies.document import Download
from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.format import Format
from flows.kinds.api.declared.pagination import Offset, PageNumber
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.body import Body, read_body
from flows.kinds.api.http.failure import AttemptFailed, expired, refused, too_slow, unreachable
from flows.kinds.api.http.json_walk import Absent, Document
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.link_header import require_origin
from flows.kinds.api.http.pace import pace_of
from flows.kinds.api.http.quota import pause_asked
from flows.kinds.api.http.records import split, whole_document
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.http.spool import spooled
from flows.kinds.api.http.stores import is_store, masked, store_url
from flows.values.connection import ApiConnection
from flows.values.json_path import parse_path

_MAX_REDIRECTS = 5
_EMPTY = Document(b"{}")
# A store's answers to a presigned URL that is no longer valid.
_EXPIRED = frozenset({400, 401, 403, 404, 410})
Found = TypeVar("Found")
# Spreads runs that failed together. Not a secret; SystemRandom because it needs no seed per process.
_chance = random.SystemRandom()


class Reader:
    """One read of one endpoint: its client, its pace, and how long it has waited for rate limits."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        api: Api,
        endpoint: Endpoint,
        connection: ApiConnection,
        base: httpx.URL,
        limits: HttpLimits,
        on_wait: Callable[[str, float], None] | None,
    ) -> None:
        self.base = base
        self.limits = limits
        self._client = client
        self._api = api
        self._endpoint = endpoint
        self._on_wait = on_wait
        self._pace = pace_of(api, connection.base_url)
        self._waited = 0.0
        self._charged_until = 0.0
        pagination = api.pagination_of(endpoint)
        self._past_end = pagination.past_end if isinstance(pagination, PageNumber | Offset) else None
        self._is_child = endpoint.parent is not None
        self._where = f"{api.name}.{endpoint.name}"

    async def fetch(self, request: PageRequest, number: int, *, shapeless: bool = False) -> Answer:
        """The response to `request`, the read's page `number`, retried until it is complete.

        `shapeless`: valid JSON of any shape, without records.

        Raises:
            MedallionError: as `flows.kinds.api.pages.endpoint.read_pages`.
        """

        async def take(response: httpx.Response, asked: PageRequest, _: asyncio.Timeout) -> Answer:
            body = await read_body(response, self.limits.max_body_bytes)
            if shapeless:
                return Answer([], None, whole_document(body), response.headers, asked.url, body.received_bytes)
            return self._page(body, response, asked)

        return await self._tried(number, lambda: self._answer(request, number, take))

    async def download(self, request: PageRequest, number: int, form: Format, at: str = "") -> Download | Answer:
        """The body of the response, on the disk. An `Answer` if there is none: not modified, no such page.

        `at`: the path of the document's URL in the response, which is read instead. Each attempt requests another URL,
        since they expire.

        Raises:
            MedallionError: as `fetch`.
        """

        async def spool(response: httpx.Response, asked: PageRequest, deadline: asyncio.Timeout) -> Download:
            return await spooled(response, asked.url, form, self.limits, deadline)

        async def look(response: httpx.Response, asked: PageRequest, _: asyncio.Timeout) -> PageRequest:
            document = whole_document(await read_body(response, self.limits.max_body_bytes))
            url = store_url(_text_at(document, at), asked.url, self._api.stores, f"the URL at {at!r}")
            return PageRequest(url, at_store=is_store(url, self._api.stores))

        async def once() -> Download | Answer:
            found = await self._answer(replace(request, accept=""), number, look) if at else request
            return found if isinstance(found, Answer) else await self._answer(found, number, spool)

        return await self._tried(number, once)

    async def _tried(self, number: int, once: Callable[[], Awaitable[Found]]) -> Found:
        where = self.place(number)
        attempts = pauses = 0
        while True:
            if (held := self._pace.held(self._endpoint.name)) > 0:
                await self._wait(AttemptFailed("the API's quota is used up", "", slow_down=True), held, where)
            # Errors below are raised outside of the except block, so that they have no inner exception.
            try:
                return await once()
            except AttemptFailed as failed:
                failure = failed
            if failure.slow_down:
                pauses += 1
                await self._wait(failure, max(failure.retry_after or 0.0, self._backoff(pauses)), where)
                continue
            attempts += 1
            if not failure.again or attempts >= self.limits.max_attempts:
                raise failure.error(where, attempts)
            await self.pause(failure, attempts, where)

    async def pause(self, failure: AttemptFailed, attempts: int, where: str) -> None:
        """Wait before another attempt."""
        wait = self._backoff(attempts)
        self.say(f"{where}: {failure.what}", wait)
        await asyncio.sleep(wait)

    def say(self, reason: str, seconds: float) -> None:
        """Tell the caller about a pause."""
        if self._on_wait is not None:
            self._on_wait(reason, seconds)

    def place(self, number: int) -> str:
        """The location of a failure, for messages."""
        return self._where if number == 1 else f"{self._where} (page {number})"

    async def _wait(self, failure: AttemptFailed, wait: float, where: str) -> None:
        """Wait as long as the API requests, within the budget; parallel pages wait once."""
        now, ceiling = time.monotonic(), self.limits.longest_wait_seconds
        if wait > ceiling:
            raise failure.rate_limited_above(where, wait, ceiling)
        charge = max(0.0, now + wait - max(now, self._charged_until))
        if self._waited + charge > self.limits.wait_budget_seconds:
            raise failure.rate_limited(where, wait, self._waited, self.limits.wait_budget_seconds)
        self._waited += charge
        self._charged_until = max(self._charged_until, now + wait)
        self._pace.hold(self._endpoint.name, wait)
        self.say(f"{where}: {failure.what}", wait)
        await asyncio.sleep(wait)

    def _backoff(self, tries: int) -> float:
        longest = self.limits.backoff_seconds * 2.0 ** min(tries - 1, 30)
        return min(longest, self.limits.backoff_cap_seconds) * _chance.uniform(0.5, 1)

    async def _answer(
        self,
        request: PageRequest,
        number: int,
        take: Callable[[httpx.Response, PageRequest, asyncio.Timeout], Awaitable[Found]],
    ) -> Found | Answer:
        """What `take` makes of the response, with redirects within the origin, and to declared stores, followed."""
        asked = request
        for _ in range(_MAX_REDIRECTS + 1):
            await self._pace.turn()
            url, extensions = masked(request.url) if request.at_store else (request.url, {})
            try:
                # The deadline includes the body: a read timeout alone is reset by every byte of a slow drip.
                async with (
                    asyncio.timeout(self.limits.request_seconds) as deadline,
                    self._client.stream(
                        request.method, url, content=request.body, headers=request.headers, extensions=extensions
                    ) as response,
                ):
                    if response.has_redirect_location:
                        request = self._redirected(request, response)
                        continue
                    if pause := pause_asked(response.headers):
                        self._pace.hold(self._endpoint.name, min(pause, self.limits.longest_wait_seconds))
                    if (known := self._without_body(response, request, number)) is not None:
                        return known
                    if request.at_store and response.status_code in _EXPIRED:
                        raise expired(response, request.line)
                    if response.status_code != httpx.codes.OK and not self._is_created(request, response):
                        raise refused(response, request.line, self._api)
                    # Links are relative to the API's URL, and a store's is not to be remembered.
                    return await take(response, asked if request.at_store else request, deadline)
            except TimeoutError:
                failure = too_slow(request.line, self.limits.request_seconds)
            except httpx.HTTPError as error:
                failure = unreachable(error, request.line, self._api)
            raise failure
        raise AttemptFailed(
            f"more than {_MAX_REDIRECTS} redirects from {request.line}",
            f"declare the final URL's path in flows/sources/{self._api.name}.py",
        )

    def _is_created(self, request: PageRequest, response: httpx.Response) -> bool:
        """Whether it is the answer to a request for a job."""
        return self._endpoint.job is not None and response.status_code in (httpx.codes.CREATED, httpx.codes.ACCEPTED)

    def _page(self, body: Body, response: httpx.Response, request: PageRequest) -> Answer:
        page = split(body, self._endpoint)
        self._pace.took(len(page.records))
        return Answer(
            page.records,
            page.total,
            page.document,
            response.headers,
            request.url,
            body.received_bytes,
            listed=page.listed,
            absent=page.absent,
        )

    def _without_body(self, response: httpx.Response, request: PageRequest, number: int) -> Answer | None:
        """Statuses with a meaning of their own: not modified, no such page, parent deleted."""
        status, codes = response.status_code, httpx.codes
        unchanged = status == codes.NOT_MODIFIED and request.etag is not None
        # For a list's first page these mean that its parent is deleted; later, that a page or the position is lost.
        no_parent = self._is_child and number == 1 and status in (codes.NOT_FOUND, codes.GONE)
        ended = (status == self._past_end and number > 1) or status in request.beyond or no_parent
        if not unchanged and not ended:
            return None
        return Answer([], None, _EMPTY, response.headers, request.url, ended=ended, unchanged=unchanged)

    def _redirected(self, request: PageRequest, response: httpx.Response) -> PageRequest:
        # An invalid URL has already failed inside httpx.
        target = request.url.join(response.headers["location"])
        if request.body is None and (request.at_store or is_store(target, self._api.stores)):
            target = store_url(str(target), request.url, self._api.stores, f"the redirect from {request.line}")
            return PageRequest(target, accept=request.accept, at_store=True)
        require_origin(target, self.base, f"the redirect ({response.status_code}) from {request.line}")
        if request.body is not None and response.status_code not in (307, 308):
            raise AttemptFailed(
                f"a redirect ({response.status_code}) from {request.line} would drop the body",
                f"declare the final URL's path in flows/sources/{self._api.name}.py",
            )
        return replace(request, url=target)


def _text_at(document: Document, path: str) -> str:
    try:
        return str(document.token(parse_path(path)) or "")
    except Absent:
        return ""
