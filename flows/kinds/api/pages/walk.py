"""Walk from page to page by the declared pagination style.

`walk_of` returns the walk through a list. Only its `take` decides the next page; `ahead` merely predicts it, so that
pages can be prefetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import (
    Cursor,
    LinkHeader,
    NextHeader,
    NextUrl,
    PageNumber,
    Pagination,
)
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document
from flows.kinds.api.http.link_header import linked_page, require_origin
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.trail import Trail
from flows.values.json_path import parse_path


class Walk:
    """A walk through a list. `seen` counts the records that `take` returned."""

    def __init__(self, pagination: Pagination, first: PageRequest, base: httpx.URL, max_idle_pages: int) -> None:
        self.pagination = pagination
        self.first = first
        self.base = base
        self.seen = 0
        self._max_idle_pages = max_idle_pages
        self._trail = Trail(first, max_idle_pages)

    def take(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """The page's new records, and the request for the next page; None at the end.

        Raises:
            AttemptFailed: the link to the next page is malformed, leads to another host, or is circular.
        """
        following = self.after(request, answer)
        self.seen += len(answer.records)
        if following is not None:
            self._trail.follow(following, answer.records)
        return answer.records, following

    def after(self, request: PageRequest, answer: Answer) -> PageRequest | None:
        """The request for the next page, by the pagination style."""
        if answer.unchanged:
            return None
        match self.pagination:
            case LinkHeader(rel=rel):
                url = linked_page(rel, answer.headers.get_list("link"), answer.url, self.base)
                return None if url is None else request.at(url)
            case NextUrl(at=at):
                return self._at(request, answer, _told(answer.document, at))
            case NextHeader(header=header, parameter=parameter):
                value = answer.headers.get(header, "").strip() or None
                if parameter is None:
                    return self._at(request, answer, value)
                return None if value is None else self.first.having([(parameter, value)])
            case Cursor(parameter=parameter, at=at, more=more):
                if more is not None and not answer.document.true(parse_path(more)):
                    return None
                token = _told(answer.document, at)
                return None if token is None else self.first.having([(parameter, token)])
        return None

    def ahead(self, request: PageRequest, answer: Answer) -> Iterator[PageRequest]:
        """The requests that will follow `request`, if they can be computed."""
        return iter(())

    def facts(self) -> dict[str, Any]:
        """The state that a later walk needs to resume, as JSON."""
        return {"seen": self.seen}

    def resume(self, facts: dict[str, Any]) -> None:
        """Resume an earlier walk."""
        self.seen = facts["seen"]

    def _at(self, request: PageRequest, answer: Answer, target: str | int | None) -> PageRequest | None:
        if target is None:
            return None
        try:
            url = answer.url.join(str(target)).copy_with(fragment=None)
        except (httpx.InvalidURL, ValueError):
            url = None
        if url is None:
            raise AttemptFailed(
                "the value for the next page is not a URL",
                "check the declared pagination against a response; nothing was skipped",
            )
        require_origin(url, self.base, "the link to the next page")
        return request.at(url)


class NumberedWalk(Walk):
    """A walk by page numbers."""

    pagination: PageNumber

    def __init__(self, pagination: PageNumber, first: PageRequest, base: httpx.URL, max_idle_pages: int) -> None:
        super().__init__(pagination, first, base, max_idle_pages)
        self._number = pagination.first
        self._total: int | None = None
        self._last: tuple[bytes, ...] = ()

    def take(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """The page's records and the next number; an earlier number if the list shrank while it was read."""
        if answer.ended or not answer.records or answer.unchanged:
            return answer.records, None
        page = tuple(answer.records)
        refuse_repeat(page, self._last)
        self._last = page
        self.seen += len(page)
        shrunk, self._total = max(0, (self._total or 0) - (answer.total or 0)), answer.total
        if shrunk and answer.total is not None and self._number > self.pagination.first:
            # Records after the deleted ones have moved up, some of them onto a page already read.
            back = min(self._number - self.pagination.first, -(-shrunk // len(page)))
            self.seen = max(0, self.seen - (back + 1) * len(page))
            self._number -= back
            self._last = ()
            return answer.records, self._request(self._number)
        if self._is_last(answer):
            return answer.records, None
        self._number += 1
        return answer.records, self._request(self._number)

    def _is_last(self, answer: Answer) -> bool:
        if self.pagination.pages is not None:
            pages = _told(answer.document, self.pagination.pages)
            return pages is None or self._number - self.pagination.first + 1 >= int(pages)
        return answer.total is not None and self.seen >= answer.total

    def ahead(self, request: PageRequest, answer: Answer) -> Iterator[PageRequest]:
        """Later numbers, up to the expected last page."""
        if not answer.records:
            return
        last = self._number
        if self.pagination.pages is not None and (pages := _told(answer.document, self.pagination.pages)):
            last = int(pages) + self.pagination.first - 1
        elif answer.total is not None:
            last = self._number + -(-(answer.total - self.seen) // len(answer.records)) - 1
        for number in range(self._number, last + 1):
            yield self._request(number)

    def _request(self, number: int) -> PageRequest:
        return self.first.having([(self.pagination.parameter, number)])

    def facts(self) -> dict[str, Any]:
        """Records seen, the next number, and the last total."""
        return {"seen": self.seen, "number": self._number, "total": self._total}

    def resume(self, facts: dict[str, Any]) -> None:
        """Resume an earlier walk."""
        self.seen, self._number, self._total = facts["seen"], facts["number"], facts["total"]


def refuse_repeat(page: Sequence[bytes], last: Sequence[bytes]) -> None:
    """Refuse a page that is byte-identical to the previous one.

    Raises:
        AttemptFailed: it is, so the API ignores the page parameter.
    """
    if page and len(page) == len(last) and page[0] == last[0] and page[-1] == last[-1]:
        raise AttemptFailed(
            "two consecutive pages have identical records",
            "the API seems to ignore its own page parameter: check params and pagination",
        )


def _told(document: Document, at: str) -> str | int | None:
    try:
        return document.token(parse_path(at))
    except Absent as absent:
        found = str(absent)
    raise AttemptFailed(
        f"the next page cannot be found: {found}",
        f"check {at!r} of the declared pagination against a response; nothing was skipped",
    )


def first_parameters(pagination: Pagination, endpoint: Endpoint) -> list[tuple[str, int]]:
    """The position parameters of the first page's request."""
    if isinstance(pagination, PageNumber):
        return [(pagination.parameter, pagination.first)]
    return []
