"""Pagination by page numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flows.kinds.api.declared.pagination import PageNumber
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.values import is_repeat, refuse_repeat, told, unfinished
from flows.kinds.api.pages.walk import ListOf, Walk


class NumberedWalk(Walk):
    """A walk by page numbers.

    A total or a number of pages is no brake: behind the page that reaches it one more is requested, since totals are
    capped. Only an empty page, or the API's word that there is none, ends the list.
    """

    pagination: PageNumber

    def __init__(self, pagination: PageNumber, first: PageRequest, of: ListOf) -> None:
        super().__init__(pagination, first, of)
        self._number = pagination.first
        self._total: int | None = None
        self._pages: int | None = None
        self._width = 0
        self._last: tuple[bytes, ...] = ()
        self._grows: tuple[bytes, ...] = ()  # the last page, which is read once more because of
        self._doubt: AttemptFailed | None = None  # what the page behind it says
        self._looks = False  # the current page is the one behind the expected end
        self._is_capped = False  # there were records behind it: total and pages say nothing
        self._again: int | None = None  # the page of the second pass that is read now
        self._meets = False  # the second pass has met records: the pages before them exist

    @property
    def _read(self) -> int:
        """How many pages have been read, with the current one."""
        return self._number - self.pagination.first + 1

    def take(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """The page's records and the next number; an earlier number if the list shrank while it was read."""
        page = tuple(answer.records)
        if answer.unchanged:
            self.is_proven = True
            return answer.records, None
        if self._again is not None:
            return self._take_again(answer)
        if answer.declared == "end":
            return self.end_as_declared(answer, self.seen, None if self.pagination.empty_pages else self._total), None
        if answer.declared == "skip":
            return [], None
        if answer.declared == "ignore":
            return self._pass_over(page)
        self.note_shape(answer)
        if self._looks and is_repeat(page, self._last):
            page = ()  # behind the end, some APIs repeat the last page
        refuse_repeat(page, self._last)
        last, self._last = self._last, page
        self._note(answer)
        self.seen += len(page)
        if (back := self._shrunk_by(answer)) and not self._is_capped:
            self._number -= back
            self._trail.back(back + 1, self._read + back)
            self.seen = max(0, self.seen - len(page) - back * self._width)
            self._last, self._looks = (), False
            return list(page), self._request(self._number)
        self._width = max(self._width, len(page))
        if answer.ended or (not page and not self._goes_on_empty()):
            if not answer.ended and self.says_more(answer):
                raise unfinished(f"page {self._number} is empty, and says that there is more")
            try:
                self._end(answer)
            except AttemptFailed as doubt:
                if not last:
                    raise
                return [], self._read_last_again(last, doubt)
            return list(page), None
        if self._doubt is not None:
            return self._take_grown(page, answer, self._doubt)
        told = self.says_more(answer)
        if self._is_over(answer, told):
            return list(page), None
        self._is_capped |= self._looks and bool(page)
        reached = () if self._is_capped or told else self._reached()
        if reached and (all(reached) and len(reached) > 1):
            # Total and pages agree.
            self.is_proven = True
            return list(page), None
        self._looks = any(reached)
        self._trail.page(page)
        self._number += 1
        return list(page), self._request(self._number)

    def _is_over(self, answer: Answer, told: bool | None) -> bool:
        """Whether this page is declared to be the last one; `told` is what it says of a next page.

        Raises:
            AttemptFailed: the declared total or number of pages says that there is more.
        """
        style = self.pagination
        is_short = style.short_ends and answer.listed < (self.of.endpoint.page_size or 0)
        if told is False or (is_short and told is None):
            why = repr(style.more or style.last) if told is False else "the length of its page"
            if self._pages is not None and self._read < self._pages:
                raise unfinished(f"page {self._number} of {self._pages} is the last one by {why}")
            self.end_at(self.seen, None if style.empty_pages else self._total, why)
            return True
        return style.most is not None and self._read >= style.most

    def _pass_over(self, page: tuple[bytes, ...]) -> tuple[list[bytes], PageRequest | None]:
        """The next number, behind a page that is to be ignored. Behind the expected end, it ends the list."""
        self.ignored += 1
        self._trail.page(page)
        self._number += 1
        return [], None if self._looks else self._request(self._number)

    def _read_last_again(self, last: tuple[bytes, ...], doubt: AttemptFailed) -> PageRequest:
        """The page before, since the API says behind it that there is more: a record may have been added to it."""
        self._trail.back(2, self._read)
        self._number -= 1
        self.seen -= len(last)
        self._listed -= len(last)
        self._grows, self._doubt, self._last, self._looks = last, doubt, (), False
        return self._request(self._number)

    def _take_grown(
        self, page: tuple[bytes, ...], answer: Answer, doubt: AttemptFailed
    ) -> tuple[list[bytes], PageRequest | None]:
        """What is new on the last page. There was nothing behind it: it is the end, if it does not say otherwise.

        Raises:
            AttemptFailed: nothing is new, and the API says that there is more.
        """
        known, self._grows, self._doubt = set(self._grows), (), None
        new = [record for record in page if record not in known]
        try:
            self._end(answer)
        except AttemptFailed:
            if not new:
                raise doubt from None
            self._number += 1
            return new, self._request(self._number)
        return new, None

    def read_again(self) -> PageRequest | None:
        """The list changed while it was read: the first page of a second pass, from the end to the beginning.

        A record that leaves its place lets those behind it move up, and the first record of a page moves onto a page
        already read. Towards the beginning, such a record is met twice, and never missed. The pass costs as many
        requests as the first one; pages that are unchanged are not landed again.
        """
        self._again = self._number - 1
        return self._request_again()

    def _take_again(self, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        assert self._again is not None
        self._again -= 1
        self.ignored += answer.declared == "ignore"
        self._meets |= bool(answer.records)
        return [] if self._trail.has(answer.records) else answer.records, self._request_again()

    def _request_again(self) -> PageRequest | None:
        if self._again is None or self._again < self.pagination.first:
            return None
        request = self.first.having([(self.pagination.parameter, self._again)])
        return self.beyond(request, short=True) if self._may_lack else request

    @property
    def _may_lack(self) -> bool:
        """Whether a page of the second pass may be missing: behind all that exist, if the list has become shorter."""
        return self._again is not None and self._again > self.pagination.first and not self._meets

    @property
    def may_have_lost(self) -> bool:
        """Whether the first pass has ended, over several pages."""
        return self._again is None and self._number > self.pagination.first + 1

    def _note(self, answer: Answer) -> None:
        self._listed += answer.listed
        if self.pagination.pages is None or answer.ended:
            return
        pages = told(answer.document, self.pagination.pages)
        text = str(pages)
        if pages is None and answer.absent:
            return
        if not (text.isascii() and text.isdecimal()):
            raise AttemptFailed(
                f"the number of pages cannot be found: there is no number at {self.pagination.pages!r}",
                "compare a response with pages= of the declared pagination; nothing was skipped",
            )
        self._pages = int(text)

    def _shrunk_by(self, answer: Answer) -> int:
        """The pages to go back: records behind deleted ones have moved up, some of them onto a page already read."""
        if answer.total is None or self._looks:
            return 0
        shrunk, self._total = max(0, (self._total or 0) - answer.total), answer.total
        if not shrunk or not self._width:
            return 0
        return min(self._number - self.pagination.first, -(-shrunk // self._width))

    def _reached(self) -> tuple[bool, ...]:
        """Whether the declared total, and the declared number of pages, have been read."""
        counted = self._read * (self.of.endpoint.page_size or 0) if self.pagination.empty_pages else self.seen
        by_total = () if self._total is None else (counted >= self._total,)
        return (*by_total, *(() if self._pages is None else (self._read >= self._pages,)))

    def _goes_on_empty(self) -> bool:
        if not self.pagination.empty_pages or self._looks:
            return False
        reached = self._reached()
        return not (reached and all(reached))

    def _end(self, answer: Answer) -> None:
        """The end of the list is this page, which is empty or does not exist.

        Raises:
            AttemptFailed: the API says that there is more.
        """
        if not self._is_capped:
            if self._total is not None and self._total > self.seen and not self.pagination.empty_pages:
                raise unfinished(f"page {self._number} is empty after {self.seen} of {self._total} records")
            if self._pages is not None and self._pages > self._read:
                raise unfinished(f"page {self._number} of {self._pages} is empty")
            if self._total is None and self._pages is None and not answer.ended:
                self.refuse_signs(answer)
        self.is_proven = not answer.absent or self._total is not None

    def ahead(self, request: PageRequest, answer: Answer) -> Iterator[PageRequest]:
        """Later numbers, up to the expected last page."""
        if not answer.records or self._looks or self._is_capped or self._again is not None:
            return
        last = self._number
        if self._pages is not None:
            last = self._pages + self.pagination.first - 1
        elif answer.total is not None:
            last = self._number + -(-(answer.total - self.seen) // len(answer.records)) - 1
        for number in range(self._number, last + 1):
            yield self._request(number)

    def _request(self, number: int) -> PageRequest:
        request = self.first.having([(self.pagination.parameter, number)])
        return self.beyond(request, short=0 < len(self._last) < self._width) if self._looks else request

    def expects_end(self) -> frozenset[int]:
        """As the walk that stored the position, but it is unknown whether the last page was short."""
        is_unsure = self._looks or self._may_lack
        return self.beyond(self.first, short=False).beyond if is_unsure else frozenset()

    def facts(self) -> dict[str, Any]:
        """Records seen, the next number, and the last total."""
        return super().facts() | {
            "number": self._number,
            "total": self._total,
            "width": self._width,
            "looks": self._looks,
            "capped": self._is_capped,
            "again": self._again,
            "meets": self._meets,
            "proven": self.is_proven,
        }

    def resume(self, facts: dict[str, Any]) -> None:
        """Resume an earlier walk."""
        super().resume(facts)
        self._number, self._total = facts["number"], facts["total"]
        self._width = facts.get("width", 0)
        self._again, self._meets = facts.get("again"), facts.get("meets", False)
        self.is_proven = self._again is not None and facts.get("proven", False)
        self._looks, self._is_capped = facts.get("looks", False), facts.get("capped", False)
