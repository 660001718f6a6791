"""Read a paginated API, page by page, each page whole or not at all.

    async with contextlib.aclosing(read_pages(api, endpoint, connection, since="2017-12-30")) as pages:
        async for page in pages:
            ...  # page.records: the source's own bytes

Order of reading: `read_pages` walks the pages (`pagination`), `Ahead` may have fetched them already, `Reader.fetch`
tries one until it is whole. Why not a library for the retries: what is tried again here is a page, its body and its
JSON included, and two kinds of waiting are bounded in two ways (see `HttpLimits`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

import httpx

from flows.kinds.api.declared.api import Api, Endpoint, SinglePage
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.pagination import Offset, PageNumber
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.auth import base_url_of, open_client
from flows.kinds.api.http.date import http_date
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.http.request import PageRequest, check_place, encoded
from flows.kinds.api.pages.ahead import Ahead
from flows.kinds.api.pages.offset_walk import OffsetWalk
from flows.kinds.api.pages.place import Place, place_after, request_at, without_key
from flows.kinds.api.pages.walk import NumberedWalk, Walk
from flows.values.connection import ApiConnection
from flows.values.errors import DeclarationError, MedallionError, SourceError
from flows.values.json_path import parse_path

__all__ = ["EndpointReader", "HttpLimits", "Page", "Place", "count_records", "open_reader", "read_pages"]

_DEFAULT_LIMITS = HttpLimits()
OnWait = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    `records`: each record's JSON as the source sent it, byte for byte.
    `received_bytes`: what came over the wire, compressed if it was.
    `total`: the API's own count, if the endpoint declares where it stands; it counts what this query matches.
    `number`: 1 for the first page.
    `place`: where to go on behind this page, after a restart; None when it is the last.
    `moment`: the API's clock when it answered, or ours before it was asked.
    `etag`: the answer's ETag; `token`: its change token, if declared.
    `parent`: of a child endpoint, the key of the record that they belong to.
    `unchanged`: the API said that nothing changed since the ETag that was sent (304); there are no records then.
    `gone`: the API said that there is no such page (of a child endpoint: no such parent any more).
    """

    records: list[bytes]
    received_bytes: int
    total: int | None
    number: int
    place: Place | None = None
    moment: datetime | None = None
    etag: str | None = None
    token: str | None = None
    parent: str | None = None
    unchanged: bool = False
    gone: bool = False


async def read_pages(
    api: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    *,
    since: str | None = None,
    place: Place | None = None,
    etag: str | None = None,
    limits: HttpLimits = _DEFAULT_LIMITS,
    on_wait: OnWait | None = None,
) -> AsyncGenerator[Page, None]:
    """Yield the endpoint's pages in order; an empty list is one page without records.

    `since` goes out as the endpoint's declared cursor parameter; `place` goes on behind an earlier page, `etag` asks
    only for what differs from it. `on_wait(reason, seconds)` is called before every pause between two tries. Memory:
    one page, its body and its records, and as many more as are fetched at one time. Leave it early through `aclosing`,
    which closes the connections at once.

    Raises:
        ConfigurationError: a credential or the base URL missing or wrong; 401, 403; an untrusted certificate.
        DeclarationError: `since` for an endpoint without a cursor.
        PlaceLost: the API has forgotten the list we walk (410).
        RateLimited: the API asks for more patience than `limits` allow; `retry_after` says how much, in seconds.
        SourceUnavailable: failures that may pass, `limits.max_attempts` times for one page.
        SourceError: an answer that must not be taken for data, or a next link that must not be followed.
    """
    async with open_reader(api, endpoint, connection, limits=limits, on_wait=on_wait) as reader:
        async for page in reader.pages(since=since, place=place, etag=etag):
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

    None when the endpoint declares no `total` (then nothing is asked), or when the API leaves it null.

    Raises:
        As `read_pages`.
    """
    if endpoint.total is None:
        return None
    smallest = replace(endpoint, page_size=None if endpoint.page_size is None else 1, pagination=SinglePage())
    async with open_reader(api, smallest, connection, limits=limits, on_wait=on_wait) as reader:
        async for page in reader.pages():
            return page.total
    return None


@asynccontextmanager
async def open_reader(
    api: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    *,
    limits: HttpLimits = _DEFAULT_LIMITS,
    on_wait: OnWait | None = None,
) -> AsyncIterator[EndpointReader]:
    """An endpoint under one client, for one list or, with a parent, for many."""
    async with open_client(api, connection, limits) as client:
        base = base_url_of(api, connection)
        reader = Reader(client, api, endpoint, connection, base, limits, on_wait)
        yield EndpointReader(api, endpoint, reader)


class EndpointReader:
    """Reads the endpoint's list; of an endpoint with a parent, the list of each of its records."""

    def __init__(self, api: Api, endpoint: Endpoint, reader: Reader) -> None:
        self._api, self._endpoint, self._reader = api, endpoint, reader

    async def pages(
        self,
        *,
        since: str | None = None,
        place: Place | None = None,
        etag: str | None = None,
        of: Mapping[str, str] | None = None,
        side_by_side: bool = True,
    ) -> AsyncGenerator[Page, None]:
        """The pages of one list. `of` holds the parent's keys that stand in the path."""
        try:
            first = self._first(since, etag, of or {})
            # The ETag is the list's, and was asked about with its first page: of a later one 304 would end the list.
            walk = self._walk(replace(first, etag=None))
            request: PageRequest | None = first
            number = 0
            if place is not None:
                request, number = request_at(place, first, self._reader.base), place["number"]
                walk.resume(place["walk"])
        except AttemptFailed as failed:
            error: MedallionError | None = failed.error(self._reader.place(1), 1)
        else:
            error = None
        if error is not None:
            raise error
        width = self._api.concurrent_of(self._endpoint) if side_by_side else 0
        async with Ahead(self._reader, walk, width) as ahead:
            began = datetime.now(UTC)
            while request is not None:
                number += 1
                answer = await ahead.answer(request, number)
                try:
                    records, following = walk.take(request, answer)
                except AttemptFailed as failed:
                    error = failed.error(self._reader.place(number), 1)
                if error is not None:
                    raise error
                following = without_key(following, self._api.auth)
                if following is not None:
                    ahead.expect(following, answer, number)
                yield self._page(records, answer, number, place_after(following, number, walk), began)
                request = following

    async def peek(self) -> tuple[bytes, httpx.Headers]:
        """The first page's body as it came, and its headers, whatever its shape.

        Raises:
            As `pages`, but for what is about shapes.
        """
        answer = await self._reader.fetch(self._first(None, None, {}), 1, shapeless=True)
        return answer.document.content, answer.headers

    def no_list(self, parents: int) -> SourceError:
        """The error when none of so many parents has a list."""
        return SourceError(
            f"404 for each of the first {parents} parents",
            where=f"{self._api.name}.{self._endpoint.name}",
            fix=f"check the path {self._endpoint.path} in flows/sources/{self._api.name}.py",
        )

    def _page(self, records: list[bytes], answer: Answer, number: int, place: Place | None, began: datetime) -> Page:
        return Page(
            records,
            answer.received_bytes,
            answer.total,
            number,
            place,
            http_date(answer.headers.get("date", "")) or began,
            answer.headers.get("etag"),
            self._token(answer, number),
            unchanged=answer.unchanged,
            gone=answer.ended,
        )

    def _token(self, answer: Answer, number: int) -> str | None:
        cursor = self._endpoint.cursor
        if not isinstance(cursor, ChangeToken):
            return None
        if cursor.header:
            return answer.headers.get(cursor.header) if number == 1 else None
        token = answer.document.token(parse_path(cursor.at))
        return None if token is None else str(token)

    def _first(self, since: str | None, etag: str | None, of: Mapping[str, str]) -> PageRequest:
        endpoint = self._endpoint
        path = endpoint.path
        for name, value in of.items():
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        url = httpx.URL(str(self._reader.base).rstrip("/") + path)
        if endpoint.params:
            url = url.copy_merge_params(list(endpoint.params))
        request = PageRequest(url, None if endpoint.body is None else encoded(endpoint.body), etag)
        values: list[tuple[str, str | int]] = []
        if endpoint.page_size is not None:
            values.append((endpoint.page_size_parameter, endpoint.page_size))
        pagination = self._api.pagination_of(endpoint)
        if isinstance(pagination, PageNumber | Offset):
            values.append((pagination.parameter, pagination.first))
        if since is not None:
            values.append(self._asked(since))
        if endpoint.body is not None:
            for name, _ in values:
                check_place(endpoint.body, name)
        return request.having(values)

    def _asked(self, since: str) -> tuple[str, str]:
        match self._endpoint.cursor:
            case Since(parameter=parameter, prefix=prefix):
                return parameter, prefix + since
            case ChangeToken(parameter=parameter):
                return parameter, since
        raise DeclarationError(
            "a start was given for an endpoint that declares no cursor",
            where=f"{self._api.name}.{self._endpoint.name}",
            fix=f'add cursor=Since("…", field="…") in flows/sources/{self._api.name}.py, or read it whole',
        )

    def _walk(self, first: PageRequest) -> Walk:
        pagination, base = self._api.pagination_of(self._endpoint), self._reader.base
        idle = self._reader.limits.max_idle_pages
        match pagination:
            case PageNumber():
                return NumberedWalk(pagination, first, base, idle)
            case Offset():
                return OffsetWalk(pagination, self._endpoint, first, base, idle)
        return Walk(pagination, first, base, idle)
