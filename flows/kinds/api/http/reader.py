"""Fetch one complete page, with retries and rate limits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import httpx

from flows.kinds.api.bodies.document import Download
from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.changes import Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.format import Format
from flows.kinds.api.declared.pagination import Offset, PageNumber
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.body import Body, read_body, require_json
from flows.kinds.api.http.failure import AttemptFailed, PageTooLarge, expired, refused, too_slow, unreachable
from flows.kinds.api.http.json_walk import Document
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.pace import pace_of
from flows.kinds.api.http.policy import Answered, answered_by, rules_of
from flows.kinds.api.http.quota import pause_asked
from flows.kinds.api.http.records import split, whole_document
from flows.kinds.api.http.redirects import redirected
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.http.spool import spooled, spooled_body
from flows.kinds.api.http.stores import is_store, masked, store_url, url_in
from flows.observe.tracing import span
from flows.values.connection import ApiConnection
from flows.values.correlation import traceparent
from flows.values.json_path import plain_steps

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
        self.auth = api.auth
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
        self._answers = rules_of(api, endpoint)
        paths = [field.at for field in endpoint.key_fields if field.name not in {one.name for one in endpoint.copied}]
        if isinstance(endpoint.cursor, Since) and endpoint.cursor.missing == "quarantine":
            paths.append(endpoint.cursor.field)
        # By these fields a document is known to be a list.
        self.needed = frozenset(plain_steps(path)[0] for path in paths)
        self.may_lack_list = endpoint.may_be_absent
        self.counts_records = endpoint.job is not None and bool(endpoint.job.total)
        self._where = f"{api.name}.{endpoint.name}"

    async def fetch(self, request: PageRequest, number: int, *, shapeless: bool = False) -> Answer:
        """The response to `request`, the read's page `number`, retried until it is complete.

        `shapeless`: valid JSON of any shape, without records.

        Raises:
            MedallionError: as `flows.kinds.api.pages.endpoint.read_pages`.
        """

        async def take(answered: Answered, asked: PageRequest, _: asyncio.Timeout) -> Answer:
            body = await self._json_of(answered)
            if shapeless:
                headers = answered.response.headers
                return Answer([], None, whole_document(body), headers, asked.url, body.received_bytes)
            return self._page(body, answered, asked)

        return await self._tried(request, number, lambda now: self._answer(now, number, take, of_job=shapeless))

    async def download(self, request: PageRequest, number: int, form: Format, at: str = "") -> Download | Answer:
        """The body of the response, on the disk. An `Answer` if there is none: not modified, no such page.

        `at`: the path of the document's URL in the response, which is read instead. Each attempt requests another URL,
        since they expire.

        Raises:
            MedallionError: as `fetch`.
        """

        async def spool(answered: Answered, asked: PageRequest, deadline: asyncio.Timeout) -> Download:
            if answered.body is not None:
                found = spooled_body(answered.body, answered.response.headers, asked.url, form)
            else:
                found = await spooled(answered.response, asked.url, form, self.limits, deadline, answered.pieces)
            return replace(found, declared="end" if answered.then == "end" else "")

        async def look(answered: Answered, asked: PageRequest, _: asyncio.Timeout) -> PageRequest:
            document = whole_document(await self._json_of(answered))
            url = store_url(url_in(document, at), asked.url, self._api.stores, f"the URL at {at!r}")
            return PageRequest(url, at_store=is_store(url, self._api.stores))

        async def once(now: PageRequest) -> Download | Answer:
            found = await self._answer(replace(now, accept=""), number, look) if at else now
            return found if isinstance(found, Answer) else await self._answer(found, number, spool, of_document=True)

        return await self._tried(request, number, once)

    async def _json_of(self, answered: Answered) -> Body:
        body = answered.body or await read_body(answered.response, self.limits.max_body_bytes)
        require_json(answered.response.headers)
        return body

    async def _tried(self, request: PageRequest, number: int, once: Callable[[PageRequest], Awaitable[Found]]) -> Found:
        where = self.place(number)
        attempts = pauses = 0
        size = self._endpoint.page_size or 1
        while True:
            if (held := self._pace.held(self._endpoint.name)) > 0:
                await self._wait(AttemptFailed("the API's quota is used up", "", slow_down=True), held, where)
            # Errors below are raised outside of the except block, so that they have no inner exception.
            try:
                return await once(request)
            except AttemptFailed as failed:
                failure = failed
            if failure.slow_down:
                pauses += 1
                await self._wait(failure, max(failure.retry_after or 0.0, self._backoff(pauses)), where)
                continue
            if isinstance(failure, PageTooLarge) and size > 1:
                size //= 2
                request = request.having([(self._endpoint.page_size_parameter, size)])
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
        take: Callable[[Answered, PageRequest, asyncio.Timeout], Awaitable[Found]],
        *,
        of_job: bool = False,
        of_document: bool = False,
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
                    self._sent(request, url, extensions) as response,
                ):
                    if response.has_redirect_location:
                        request = redirected(request, response, self._api, self.base)
                        continue
                    if pause := pause_asked(response.headers):
                        self._pace.hold(self._endpoint.name, min(pause, self.limits.longest_wait_seconds))
                    if response.status_code == httpx.codes.NOT_MODIFIED and request.etag is not None:
                        return Answer([], None, _EMPTY, response.headers, request.url, unchanged=True)
                    if request.at_store and response.status_code != httpx.codes.OK:
                        # Statuses of a store are not those of the API: nothing declared or usual holds for them.
                        if response.status_code in _EXPIRED:
                            raise expired(response, request.line)
                        raise refused(response, request.line, self._api)
                    answered = await answered_by(
                        response, self._answers, self.limits.max_body_bytes, of_document=of_document
                    )
                    answered.refuse(request.line)
                    if (known := self._without_body(answered, request, number)) is not None:
                        return known
                    accepted = answered.then == "accept" or (of_job and self._is_created(response))
                    if response.status_code != httpx.codes.OK and not accepted:
                        raise refused(response, request.line, self._api)
                    # Links are relative to the API's URL, and a store's is not to be remembered.
                    return await take(answered, asked if request.at_store else request, deadline)
            except TimeoutError:
                failure = too_slow(request.line, self.limits.request_seconds)
            except httpx.HTTPError as error:
                failure = unreachable(error, request.line, self._api)
            raise failure
        raise AttemptFailed(
            f"more than {_MAX_REDIRECTS} redirects from {request.line}",
            f"declare the final URL's path in flows/sources/{self._api.name}.py",
        )

    @asynccontextmanager
    async def _sent(
        self, request: PageRequest, url: httpx.URL, extensions: dict[str, Any]
    ) -> AsyncIterator[httpx.Response]:
        """The response to a request, as a span. Its URL is not in it: parents' keys and cursors are values of rows."""
        template = "" if request.at_store else self._endpoint.path
        facts = {"http.request.method": request.method, "server.address": url.host, "url.template": template}
        with span(f"{request.method} {self._where}", "client", **facts) as one:
            headers = dict(request.headers)
            if self._api.traced and not request.at_store and (parent := traceparent()) is not None:
                headers["traceparent"] = parent
            async with self._client.stream(
                request.method, url, content=request.body, headers=headers, extensions=extensions
            ) as response:
                one.set(**{"http.response.status_code": response.status_code})
                yield response

    def _is_created(self, response: httpx.Response) -> bool:
        """Whether a job was created, or goes on. Its results are not ready with such a status."""
        return self._endpoint.job is not None and response.status_code in (httpx.codes.CREATED, httpx.codes.ACCEPTED)

    def _page(self, body: Body, answered: Answered, request: PageRequest) -> Answer:
        ends = answered.then == "end"
        # The last answer need not have a list: it may only say that there is nothing left.
        endpoint = replace(self._endpoint, may_be_absent=True) if ends else self._endpoint
        page = split(body, endpoint, believed=ends or answered.then == "accept")
        self._pace.took(len(page.records))
        return Answer(
            page.records,
            page.total,
            page.document,
            answered.response.headers,
            request.url,
            body.received_bytes,
            listed=page.listed,
            absent=page.absent,
            declared="end" if ends else "",
        )

    def _without_body(self, answered: Answered, request: PageRequest, number: int) -> Answer | None:
        """Answers without records that have a meaning: declared ones, no such page, parent deleted."""
        response, then, codes = answered.response, answered.then, httpx.codes
        status = response.status_code
        if then in ("ignore", "skip") or (then == "end" and status != codes.OK):
            body = answered.document
            return Answer([], None, body, response.headers, request.url, ended=then != "ignore", declared=then)
        # For a list's first page these mean that its parent is deleted; later, that a page or the position is lost.
        no_parent = self._is_child and number == 1 and status in (codes.NOT_FOUND, codes.GONE)
        ended = (status == self._past_end and number > 1) or status in request.beyond or no_parent
        if not ended or then == "accept":
            return None
        return Answer([], None, _EMPTY, response.headers, request.url, ended=True)
