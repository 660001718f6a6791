"""Read a paginated API page by page; each page is complete or an error.

    async with contextlib.aclosing(read_pages(api, endpoint, connection, Start(since="2017-12-30"))) as pages:
        async for page in pages:
            ...  # page.records: the source's own bytes

`read_pages` walks the pages (`pagination`), `Ahead` may have prefetched them, `Reader.fetch` retries one until it is
complete. Why no retry library: a retry here covers a page with its body and JSON, and two kinds of waits have
different limits (see `HttpLimits`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import Offset, PageNumber, SinglePage
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.auth import base_url_of, open_client
from flows.kinds.api.http.date import http_date
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.http.request import PageRequest, check_place, encoded
from flows.kinds.api.pages.ahead import Ahead
from flows.kinds.api.pages.numbered_walk import NumberedWalk
from flows.kinds.api.pages.offset_walk import OffsetWalk
from flows.kinds.api.pages.page import Page, Start
from flows.kinds.api.pages.place import Place, place_after, request_at, without_key
from flows.kinds.api.pages.walk import ListOf, Walk
from flows.values.connection import ApiConnection
from flows.values.errors import DeclarationError, ListUnfinished, MedallionError, SourceError
from flows.values.json_path import parse_path

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

    None if the endpoint declares no `total` (then nothing is requested), or if the API sends null.

    Raises:
        As `read_pages`.
    """
    if endpoint.total is None:
        return None
    smallest = replace(endpoint, page_size=None if endpoint.page_size is None else 1, pagination=SinglePage())
    async with open_reader(api, smallest, connection, limits=limits, on_wait=on_wait) as reader:
        return await reader.total()


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


class EndpointReader:
    """Reads the endpoint's list; with a parent, the list of each parent record."""

    def __init__(self, api: Api, endpoint: Endpoint, reader: Reader) -> None:
        self._api, self._endpoint, self._reader = api, endpoint, reader
        self._shows_next = False  # some list has shown where it names its next page
        self._has_tried = False

    async def pages(
        self,
        start: Start = _ALL,
        *,
        of: Mapping[str, str] | None = None,
        side_by_side: bool = True,
    ) -> AsyncGenerator[Page, None]:
        """The pages of one list. `of` are the parent's keys in the path."""
        try:
            first = self._first(start.since, start.etag, of or {})
            # The ETag is the list's and is sent with the first page only: 304 for a later page would end the list.
            walk = self._walk(replace(first, etag=None), is_all=start.since is None)
            request: PageRequest | None = first
            number = begun = 0
            if start.place is not None:
                request = request_at(start.place, first, self._reader.base)
                number = begun = start.place["number"]
                walk.resume(start.place["walk"])
                request = replace(request, beyond=walk.expects_end())
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
                if number - begun >= self._reader.limits.max_pages:
                    raise _too_many(number - begun).error(self._reader.place(number), 1)
                number += 1
                answer = await ahead.answer(request, number)
                try:
                    records, following = walk.take(request, answer)
                    if following is None and (proof := walk.proof()) is not None and not self._has_tried:
                        self._has_tried = True  # at most once, also for the lists of many parents
                        walk.prove(proof, await self._reader.fetch(proof, number))
                except AttemptFailed as failed:
                    error = failed.error(self._reader.place(number), 1)
                if error is not None:
                    raise error
                self._shows_next |= walk.shows_next
                if number == 1:
                    walk.began = (http_date(answer.headers.get("date", "")) or began).isoformat()
                if following is None and isinstance(walk, NumberedWalk) and await self._has_changed(walk, number):
                    following = walk.read_again()
                following = without_key(following, self._api.auth)
                if following is not None:
                    ahead.expect(following, answer, number)
                page = self._page(records, answer, number, place_after(following, number, walk), began)
                yield replace(page, is_proven=following is None and walk.is_proven)
                request = following

    async def _has_changed(self, walk: NumberedWalk, number: int) -> bool:
        """Whether records changed while their list was read, page by page, by one request with the cursor.

        Its value is the API's clock at the first page. Without a cursor, every load reads all pages, and the next one
        meets what this one has missed.
        """
        cursor = self._endpoint.cursor
        if not isinstance(cursor, Since) or walk.began is None or not walk.may_have_lost:
            return False
        began = replace(cursor, lag="0 s").lower(cursor.at(datetime.fromisoformat(walk.began)))
        first = self._first(began, None, {})
        if self._endpoint.page_size is not None:
            first = first.having([(self._endpoint.page_size_parameter, 1)])
        records = (await self._reader.fetch(first, number)).records
        return any(not _is_older(record, cursor, walk.began) for record in records)

    async def peek(self) -> tuple[bytes, httpx.Headers]:
        """The first page's body as received, and its headers, whatever its shape.

        Raises:
            As `pages`, except errors about shapes.
        """
        answer = await self._reader.fetch(self._first(None, None, {}), 1, shapeless=True)
        return answer.document.content, answer.headers

    async def total(self) -> int | None:
        """The API's count of its records, from the first page.

        Raises:
            As `pages`.
        """
        error: MedallionError | None = None
        try:
            first = self._first(None, None, {})
        except AttemptFailed as failed:
            error = failed.error(self._reader.place(1), 1)
        if error is not None:
            raise error
        return (await self._reader.fetch(first, 1)).total

    def no_list(self, parents: int) -> SourceError:
        """The error if none of so many parents has a list."""
        return SourceError(
            f"HTTP 404 for each of the first {parents} parents",
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
            gone=answer.ended and number == 1,
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
            "a start was given for an endpoint without a cursor",
            where=f"{self._api.name}.{self._endpoint.name}",
            fix=f'add cursor=Since("…", field="…") in flows/sources/{self._api.name}.py, or read the full list',
        )

    def _walk(self, first: PageRequest, *, is_all: bool) -> Walk:
        pagination = self._api.pagination_of(self._endpoint)
        idle = self._reader.limits.max_idle_pages
        of = ListOf(self._endpoint, self._reader.base, idle, is_all, self._shows_next)
        match pagination:
            case PageNumber():
                return NumberedWalk(pagination, first, of)
            case Offset():
                return OffsetWalk(pagination, first, of)
        return Walk(pagination, first, of)


def _too_many(pages: int) -> AttemptFailed:
    return AttemptFailed(
        f"{pages} pages of one list were read in this run, which is the bound max_pages",
        "run again: the next run goes on from there; declare a larger page_size, or raise the bound",
        kind=ListUnfinished,
    )


def _is_older(record: bytes, cursor: Since, began: str) -> bool:
    """Whether a record is known to be from before: an API that ignores the cursor's parameter sends such ones."""
    try:
        value = Document(record).token(parse_path(cursor.field))
        if cursor.form.startswith("epoch"):
            return int(value or 0) < int(cursor.at(datetime.fromisoformat(began)))
        return datetime.fromisoformat(str(value)) < datetime.fromisoformat(began) and cursor.form != "date"
    except (Absent, ValueError, TypeError):
        return False
