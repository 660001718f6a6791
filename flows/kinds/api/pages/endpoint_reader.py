"""Walk through the lists of one endpoint, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import Offset, PageNumber, SinglePage
from flows.kinds.api.declared.parts import Requested
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.auth import query_parameter
from flows.kinds.api.http.date import http_date
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.http.request import PageRequest, text_without_parameter
from flows.kinds.api.pages.ahead import Ahead, Fetches
from flows.kinds.api.pages.documents import document_pages, too_many
from flows.kinds.api.pages.first import first_request, values_of
from flows.kinds.api.pages.jobs import job_pages
from flows.kinds.api.pages.kept import Kept, is_older
from flows.kinds.api.pages.numbered_walk import NumberedWalk
from flows.kinds.api.pages.offset_walk import OffsetWalk
from flows.kinds.api.pages.page import Page, Start
from flows.kinds.api.pages.place import Place, place_after, request_at, without_key
from flows.kinds.api.pages.properties import PropertiesReader
from flows.kinds.api.pages.token_walk import TokenWalk
from flows.kinds.api.pages.walk import ListOf, Walk
from flows.values.errors import ListUnfinished, MedallionError, SourceError
from flows.values.json_path import parse_path

_ALL = Start()


class EndpointReader:
    """Reads the endpoint's list; with a parent, the list of each parent record.

    `at`: the path of a document's URL in the response, which is read instead.
    """

    def __init__(self, api: Api, endpoint: Endpoint, reader: Reader, at: str = "") -> None:
        self._api, self._endpoint, self._reader, self._at = api, endpoint, reader, at
        self._records: Fetches = reader
        if endpoint.properties is not None:
            self._records = PropertiesReader(reader, endpoint, endpoint.properties, api.concurrent_of(endpoint))
        self._shows_next = False  # some list has shown where it names its next page
        self._has_tried = False

    async def pages(
        self,
        start: Start = _ALL,
        *,
        of: Mapping[str, Requested] | None = None,
        side_by_side: bool = True,
    ) -> AsyncGenerator[Page, None]:
        """The pages of one list. `of` are values of the parent, and of partitions; without, the first partition's."""
        if self._endpoint.job is not None or self._endpoint.format is not None:
            async with aclosing(self._other_pages(start, of)) as pages:
                async for page in pages:
                    yield page
            return
        try:
            first = self._first(start, of)
            # The ETag is the list's and is sent with the first page only: 304 for a later page would end the list.
            cursor = self._endpoint.cursor
            begins = isinstance(cursor, Since) and start.since == cursor.begin
            walk = self._walk(replace(first, etag=None), is_all=start.since is None or begins)
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
        kept = Kept(self._endpoint.cursor, start.since)
        width = self._api.concurrent_of(self._endpoint) if side_by_side else 0
        here = last = start.place
        async with Ahead(self._records, walk, width) as ahead:
            began = datetime.now(UTC)
            while request is not None:
                if number - begun >= self._reader.limits.max_pages:
                    raise too_many(number - begun).error(self._reader.place(number), 1)
                number += 1
                answer = await ahead.answer(request, number)
                try:
                    records, following = walk.take(request, answer)
                    if kept.has_passed(answer.records):
                        following, walk.is_proven = None, True
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
                if following is None and isinstance(walk, NumberedWalk) and await self._has_changed(walk, number, of):
                    following = walk.read_again()
                following = without_key(following, self._api.auth)
                if following is not None:
                    ahead.expect(following, answer, number)
                last = here if answer.records else last
                here = place_after(following, number, walk)
                page = self._page(kept.of(records), answer, number, here, began)
                if following is None:
                    is_proven = walk.is_proven and not walk.ignored
                    page = replace(page, is_proven=is_proven, ignored=walk.ignored, last=last)
                yield page
                request = following

    def _other_pages(self, start: Start, of: Mapping[str, Requested] | None) -> AsyncGenerator[Page, None]:
        """The pages of a job's list, or of documents that are not JSON."""
        endpoint, job = self._endpoint, self._endpoint.job
        if job is not None:

            def read(results: Endpoint, begin: Start) -> AsyncGenerator[Page, None]:
                return EndpointReader(self._api, results, self._reader, at=job.download).pages(begin, of={})

            return job_pages(self._reader, endpoint, start, self._values(of), read)
        try:
            request = self._first(start, of)
            walk = self._walk(request, is_all=start.since is None)
            if start.place is not None:
                request = request_at(start.place, request, self._reader.base)
                walk.resume(start.place["walk"])
        except AttemptFailed as failed:
            error = failed.error(self._reader.place(1), 1)
        else:
            return document_pages(self._reader, endpoint, walk, request, start, self._at)
        raise error

    async def _has_changed(self, walk: NumberedWalk, number: int, of: Mapping[str, Requested] | None) -> bool:
        """Whether records changed while their list was read, page by page, by one request with the cursor.

        Its value is the API's clock at the first page. Without a cursor, every load reads all pages, and the next one
        meets what this one has missed.
        """
        cursor = self._endpoint.cursor
        is_time = isinstance(cursor, Since) and cursor.is_time and cursor.parameter
        if not isinstance(cursor, Since) or not is_time or walk.began is None or not walk.may_have_lost:
            return False
        began = cursor.at(datetime.fromisoformat(walk.began))
        first = self._first(Start(began), of)
        if self._endpoint.page_size is not None:
            first = first.having([(self._endpoint.page_size_parameter, 1)])
        records = (await self._records.fetch(first, number)).records
        # An API that ignores the cursor's parameter sends older ones.
        return any(not is_older(record, cursor, began) for record in records)

    def requests(self, name: str) -> bool:
        """Whether a value is part of the requests."""
        return name in self._endpoint.placeholders

    async def peek(self) -> tuple[bytes, httpx.Headers]:
        """The first page's body as received, and its headers, whatever its shape.

        Raises:
            As `pages`, except errors about shapes.
        """
        answer = await self._reader.fetch(self._first(), 1, shapeless=True)
        return answer.document.content, answer.headers

    async def total(self) -> int | None:
        """The API's count of its records, from the first page.

        Raises:
            As `pages`.
        """
        error: MedallionError | None = None
        try:
            first = self._first()
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

    def no_value(self, name: str) -> SourceError:
        """The error of a parent without a value that requests contain."""
        return SourceError(
            f"a parent has no value of {name!r}, which is part of the request",
            where=f"{self._api.name}.{self._endpoint.name}",
            fix=f"check fields= of its parent in flows/sources/{self._api.name}.py",
        )

    def cannot_group(self, problem: str) -> SourceError:
        """The error of a request for several parents whose answer is of no use."""
        return SourceError(
            f"{problem}, in a request for several parents",
            where=f"{self._api.name}.{self._endpoint.name}",
            fix=f"check group= of its parent in flows/sources/{self._api.name}.py against a response",
        )

    def reads_fewer(self, count: int) -> ListUnfinished:
        """The error of an API that reads some keys of a request only."""
        return ListUnfinished(
            f"of {count} parents in one request, the API answers for some only, as if the others had no children",
            where=f"{self._api.name}.{self._endpoint.name}",
            fix=f"declare a smaller Group(…) of its parent in flows/sources/{self._api.name}.py",
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
            gone=answer.ended and not answer.declared and number == 1,
            skipped=answer.declared == "skip",
        )

    def _token(self, answer: Answer, number: int) -> str | None:
        cursor = self._endpoint.cursor
        if not isinstance(cursor, ChangeToken):
            return None
        if cursor.header:
            return answer.headers.get(cursor.header) if number == 1 else None
        token = answer.document.token(parse_path(cursor.at))
        parameter = query_parameter(self._api.auth)
        if token is None or cursor.parameter or parameter is None:
            return None if token is None else str(token)
        # The token is a URL, and some APIs put the received key into their links.
        return text_without_parameter(str(token), parameter)

    def _first(self, start: Start = _ALL, of: Mapping[str, Requested] | None = None) -> PageRequest:
        cursor = self._endpoint.cursor
        if start.until is None and isinstance(cursor, Since) and cursor.until:
            start = replace(start, until=cursor.at(datetime.now(UTC)))
        return first_request(self._api, self._endpoint, self._reader.base, start, self._values(of))

    def _values(self, of: Mapping[str, Requested] | None) -> Mapping[str, Requested]:
        return values_of(self._endpoint.partitions, self._endpoint.combinations[0]) if of is None else of

    def _walk(self, first: PageRequest, *, is_all: bool) -> Walk:
        pagination = self._api.pagination_of(self._endpoint)
        idle = self._reader.limits.max_idle_pages
        of = ListOf(self._endpoint, self._reader.base, idle, is_all, self._shows_next)
        match pagination:
            case PageNumber():
                return NumberedWalk(pagination, first, of)
            case Offset():
                return OffsetWalk(pagination, first, of)
            case SinglePage():
                return Walk(pagination, first, of)
        return TokenWalk(pagination, first, of)
