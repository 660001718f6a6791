"""Walk from page to page by the declared pagination style, to an end that the API has shown.

`walk_of` returns the walk through a list. Only its `take` decides the next page; `ahead` merely predicts it, so that
pages can be prefetched.

What ends a list, and when that is proven:

    the declared `total` has been read                          proven
    null, "", false at the path of the next page, `more: false` proven
    the path is missing, and was there on an earlier page       proven
    an answer that is declared to be the end                    proven, unless the `total` contradicts it
    the path has never been there                               not proven: one request for a single record may show it
    anything else (`more: true` without a token, …)             not an end: `ListUnfinished`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx

from flows.kinds.api.declared.changes import ChangeToken
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import (
    Cursor,
    LinkHeader,
    NextHeader,
    NextUrl,
    Offset,
    PageNumber,
    Pagination,
    SinglePage,
)
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.signs import more_in
from flows.kinds.api.pages.trail import Trail
from flows.kinds.api.pages.values import flag, unfinished

# "There is no such page": behind the expected end of a list they prove it.
_NO_SUCH_PAGE = frozenset({404, 416})
# "This is no valid request" proves it only if the last page was short: a cap on offsets is refused in the same way.
_REFUSED = frozenset({400, 422})


@dataclass(frozen=True, slots=True)
class ListOf:
    """The list that is walked.

    `is_all`: nothing limits it to changes, so undeclared totals may be compared. `shows_next`: an earlier list of the
    same endpoint has shown where it names its next page.
    """

    endpoint: Endpoint
    base: httpx.URL
    max_idle_pages: int
    is_all: bool = True
    shows_next: bool = False


class Walk:
    """A walk through a list.

    `seen` counts the records that `take` returned; `began` is the API's clock at the first page.
    At the end, `is_proven` says whether the API has shown that it is the end; of a list with `ignored` pages it proves
    nothing. `shows_next`: the declared place of the
    next page has been there.
    """

    def __init__(self, pagination: Pagination, first: PageRequest, of: ListOf) -> None:
        self.pagination = pagination
        self.first = first
        self.of = of
        self.seen = self.ignored = 0
        self.is_proven = False
        self.shows_next = of.shows_next
        self._listed = self._taken = 0
        self._least: int | None = None
        self._names = frozenset[str]()
        self.began: str | None = None
        may_be_empty = not isinstance(pagination, SinglePage) and pagination.empty_pages
        self._trail = Trail(first, of.max_idle_pages, may_be_empty=may_be_empty)

    def take(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """The page's new records, and the request for the next page; None at the end.

        Raises:
            AttemptFailed: the link to the next page is malformed, leads to another host, or is circular; or the
                response contradicts itself.
        """
        self.is_proven = answer.unchanged
        if answer.declared == "end":
            totals = [total for total in (self._least, answer.total) if total is not None]
            return self.end_as_declared(answer, self._listed, min(totals, default=None)), None
        if answer.unchanged or answer.ended:
            return answer.records, None
        if answer.declared:
            return self._take_ignored(request, answer)
        self.note_shape(answer)
        following = self.after(request, answer)
        self.seen += len(answer.records)
        self._listed += answer.listed
        if answer.total is not None:
            # Records that come and go while the list is read change its total: the least one must be reached.
            self._least = answer.total if self._least is None else min(self._least, answer.total)
        if following is None:
            self._end(answer)
        else:
            self.shows_next = True
            self._trail.follow(following, answer.records)
        return answer.records, following

    def end_as_declared(self, answer: Answer, read: int, total: int | None) -> list[bytes]:
        """The records of an answer that is declared to end the list, behind `read` records of `total`.

        Raises:
            AttemptFailed: the total says that there is more.
        """
        self.seen += len(answer.records)
        self._listed += answer.listed
        self.end_at(read + answer.listed, total, "the declared answers")
        return answer.records

    def end_at(self, read: int, total: int | None, why: str) -> None:
        """Here the list ends as declared, by `why`.

        Raises:
            AttemptFailed: the declared total says that there is more.
        """
        if total is not None and read < total:
            raise unfinished(f"the list ends by {why}, after {read} of {total} records")
        self.is_proven = True

    def _take_ignored(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """Nothing of an answer that is to be ignored, and the next page if it can be known."""
        self.ignored += 1
        following = self.after(request, answer)
        self.is_proven = False
        if following is not None:
            self._trail.follow(following, ())
        return [], following

    def after(self, request: PageRequest, answer: Answer) -> PageRequest | None:
        """The request for the next page, by the pagination style; a single page has none."""
        return None

    def says_more(self, answer: Answer) -> bool | None:
        """Whether there is a next page by the declared `more` or `last`; None if nothing says so.

        Raises:
            AttemptFailed: what it says is neither true nor false.
        """
        style = self.pagination
        if not isinstance(style, Cursor | NextUrl | PageNumber | Offset):
            return None
        told = flag(answer.document, style.more) if style.more else None
        if style.last and (last := flag(answer.document, style.last)) is not None:
            told = not last
        if isinstance(style, PageNumber | Offset):
            self.shows_next |= told is True
            if told is None and style.more and self.shows_next and not answer.ended:
                return False  # some APIs omit what is false
        return told

    def _end(self, answer: Answer) -> None:
        """Whether this page is proven to be the last one.

        Raises:
            AttemptFailed: the API says that there is more.
        """
        if isinstance(self.pagination, SinglePage) and self.pagination.first:
            self.is_proven = False
            return
        if self._least is not None:
            if self._listed < self._least:
                raise unfinished(f"the list ends after {self._listed} of {self._least} records")
            self.is_proven = True
            return
        if not self.is_proven and not self.shows_next:
            self.refuse_signs(answer)
        self.is_proven |= self.shows_next or isinstance(self.pagination, SinglePage) or not self._listed
        # A list that is not in the response was not shown to be empty.
        self.is_proven &= not answer.absent

    def note_shape(self, answer: Answer) -> None:
        """Note the fields of a page. A response without a list that has others is an error, or that of a proxy.

        Raises:
            AttemptFailed: it has.
        """
        names = answer.document.names
        if answer.absent and self._names and not names <= self._names:
            raise unfinished(
                f"there is no list at {self.of.endpoint.records!r}, and the response has fields that no page before had"
            )
        self._names |= names
        self._taken += 1

    def refuse_signs(self, answer: Answer) -> None:
        """Refuse an end that the response contradicts, at whatever place.

        Raises:
            AttemptFailed: it does.
        """
        compared = self.of.is_all and self.of.endpoint.total is None
        cursor = self.of.endpoint.cursor
        token = cursor.at if isinstance(cursor, ChangeToken) else None
        if (where := more_in(answer, self._listed if compared else None, self._taken, token)) is not None:
            raise unfinished(f"the declared pagination ends here, and the response says at {where} that there is more")

    def proof(self) -> PageRequest | None:
        """A request that may show that the declared place of the next page is right: for the first record only.

        Only if the list has several records, and their number per page can be requested.
        """
        endpoint = self.of.endpoint
        by_token = isinstance(self.pagination, LinkHeader | NextUrl | NextHeader | Cursor)
        if self.is_proven or not by_token or self._listed < 2 or (endpoint.page_size or 1) < 2:
            return None
        return replace(self.first.having([(endpoint.page_size_parameter, 1)]), beyond=_NO_SUCH_PAGE | _REFUSED)

    def prove(self, request: PageRequest, answer: Answer) -> None:
        """Judge the response to `proof`.

        Raises:
            AttemptFailed: it names no next page, though the list has more than its record.
        """
        if answer.ended:
            return  # the API does not send single records
        if self.after(request, answer) is not None:
            self.is_proven = self.shows_next = True
        elif answer.listed == 1:
            raise unfinished(
                f"a page with one of {self._listed} records names no next page where the declared pagination looks"
            )
        self.is_proven = self.shows_next

    def expects_end(self) -> frozenset[int]:
        """Statuses of the page to resume from that mean that there is none, if it is behind the expected end."""
        return frozenset()

    def beyond(self, request: PageRequest, *, short: bool) -> PageRequest:
        """The request, if it looks behind the expected end of the list."""
        return replace(request, beyond=_NO_SUCH_PAGE | (_REFUSED if short else frozenset()))

    def ahead(self, request: PageRequest, answer: Answer) -> Iterator[PageRequest]:
        """The requests that will follow `request`, if they can be computed."""
        return iter(())

    def facts(self) -> dict[str, Any]:
        """The state that a later walk needs to resume, as JSON."""
        return {
            "seen": self.seen,
            "listed": self._listed,
            "taken": self._taken,
            "least": self._least,
            "shows_next": self.shows_next,
            "ignored": self.ignored,
        }

    def resume(self, facts: dict[str, Any]) -> None:
        """Resume an earlier walk."""
        self.seen = facts["seen"]
        self._listed, self._least = facts.get("listed", self.seen), facts.get("least")
        self._taken, self.began = facts.get("taken", 0), facts.get("began")
        self.ignored = facts.get("ignored", 0)
        self.shows_next |= facts.get("shows_next", False)
