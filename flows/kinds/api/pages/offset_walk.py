"""Offset pagination that verifies at each page boundary that no record was skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from flows.kinds.api.declared.pagination import Offset
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.json_walk import Absent, Document
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.values import is_repeat, refuse_repeat, unfinished
from flows.kinds.api.pages.walk import ListOf, Walk
from flows.values.json_path import parse_path

# Fingerprints of the previous page kept for a restart: enough to cover records deleted meanwhile.
_MARKS_KEPT = 50


class OffsetWalk(Walk):
    """Each page starts with the last `overlap` records of the previous page: they are its anchors.

    If none of them is on the page, earlier records were deleted and the page starts too late. Reading then steps back,
    and everything from there on is read again; merging by key makes that harmless.
    """

    pagination: Offset

    def __init__(self, pagination: Offset, first: PageRequest, of: ListOf) -> None:
        super().__init__(pagination, first, of)
        self._paths = [parse_path(field.at) for field in of.endpoint.key_fields]
        self._offset = pagination.first
        self._before: Sequence[bytes] = ()
        self._marks: frozenset[str] = frozenset()
        self._steps_back = 0
        self._width = self._pages = 0
        self._total: int | None = None
        self._looks = False  # the current page is the one behind the expected end
        self._is_capped = False  # there were records behind it: the total says nothing
        self._is_unanchored = False  # the page before was ignored
        self._found_nothing = False  # the page from which it stepped back was empty

    def take(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """The page's new records and the next offset; a smaller one if no anchor was found."""
        page = answer.records
        self.is_proven = answer.unchanged
        if answer.unchanged:
            return page, None
        if answer.declared == "end":
            return self.end_as_declared(answer, self.seen, self._total), None
        if answer.declared == "skip":
            return [], None
        if answer.declared == "ignore":
            return self._pass_over()
        self.note_shape(answer)
        self._listed += answer.listed
        grows = self._looks and (answer.total or 0) > (self._total or 0)
        self._total = answer.total if answer.total is not None else self._total
        if self._looks and is_repeat(page, self._before):
            page = []  # behind the end, some APIs repeat the last page
        if not self._steps_back:
            refuse_repeat(page, self._before)
        if answer.ended:
            self._end(answer)
            return page, None
        begins = self._offset == self.pagination.first
        is_free = begins or self._is_unanchored or not self.pagination.overlap
        repeated, joined = (0, True) if is_free else self._join(page)
        self._is_unanchored = False
        if not joined and (page or ((answer.total or 0) < self._offset and not self._looks)):
            self._steps_back += 1
            self._looks, self._found_nothing = False, not page
            back = max(len(page), self.pagination.overlap, 1) << min(self._steps_back - 1, 20)
            self._offset = max(self.pagination.first, self._offset - back)
            # A list in no order would be read for ever: half of its pages lead back.
            self._trail.back(1, self._taken // 4)
            return page, self._request(self._offset)
        if self._steps_back and self._found_nothing and self._ends_as_before(page):
            # There was nothing behind the last record, and it is where it was: the list has not shifted.
            self._end(answer)
            return page, None
        self._steps_back = 0
        self._width = max(self._width, len(page))
        self.seen = max(self.seen if self._looks else 0, self._offset - self.pagination.first + len(page))
        self._pages += 1
        told = self.says_more(answer)
        if len(page) <= repeated and not self._goes_on_empty():
            if told:
                raise unfinished(f"the page at offset {self._offset} has nothing new, and says that there is more")
            self._end(answer)
            return page[repeated:], None
        if self._is_over(answer, told):
            return page[repeated:], None
        if grows and not told and self._counted == self._total:
            # A total that grows with the list is not capped. Without this, a list that grows with each page has no end.
            self.is_proven = True
            return page[repeated:], None
        self._is_capped |= self._looks
        reached = self._total is not None and self._counted >= self._total
        self._looks = reached and not self._is_capped and not told
        self._trail.page(page[repeated:])
        short = 0 < len(page) < self._width
        self._before, self._marks = page, frozenset()
        self._offset += self._step(page)
        following = self._request(self._offset)
        return page[repeated:], self.beyond(following, short=short) if self._looks else following

    def _is_over(self, answer: Answer, told: bool | None) -> bool:
        """Whether this page is declared to be the last one; `told` is what it says of a next page.

        Raises:
            AttemptFailed: the declared total says that there is more.
        """
        style = self.pagination
        is_short = style.short_ends and answer.listed < (self.of.endpoint.page_size or 0)
        if told is False or (is_short and told is None):
            why = repr(style.more or style.last) if told is False else "the length of its page"
            self.end_at(self._counted, None if style.empty_pages else self._total, why)
            return True
        return style.most is not None and self._pages >= style.most

    def _pass_over(self) -> tuple[list[bytes], PageRequest | None]:
        """The next offset, behind a page that is to be ignored. Behind the expected end, it ends the list.

        Without its last record, nothing shows whether the list shifted, so the next page starts
        after the last one, without overlap.
        """
        self.ignored += 1
        self._trail.page(())
        self._before, self._marks, self._is_unanchored = (), frozenset(), True
        self._offset += self.of.endpoint.page_size or self._width or 1
        return [], None if self._looks else self._request(self._offset)

    @property
    def _counted(self) -> int:
        """How much of the total has been read."""
        if self.pagination.empty_pages:
            return self._offset - self.pagination.first + (self.of.endpoint.page_size or 0)
        return self.seen

    def _step(self, page: Sequence[bytes]) -> int:
        if self.pagination.empty_pages:
            return self.of.endpoint.page_size or 1
        return max(1, len(page) - self.pagination.overlap)

    def _goes_on_empty(self) -> bool:
        if not self.pagination.empty_pages or self._looks:
            return False
        return self._total is None or self._counted < self._total

    def _end(self, answer: Answer) -> None:
        """The end of the list is this page, which has nothing new or does not exist.

        Raises:
            AttemptFailed: the API says that there is more.
        """
        if self._total is None:
            if not answer.ended:
                self.refuse_signs(answer)
        elif self._counted < self._total and not self._is_capped:
            raise unfinished(f"the page at offset {self._offset} is empty after {self.seen} of {self._total} records")
        self.is_proven = not answer.absent or self._total is not None

    def _join(self, page: Sequence[bytes]) -> tuple[int, bool]:
        """How many records at the page's start are the repeated ones, and whether any anchor was found."""
        overlap = self.pagination.overlap
        expected = self._before[-overlap:]
        if expected and len(page) >= len(expected):
            marks = [self._mark(record) for record in expected]
            if [self._mark(record) for record in page[: len(expected)]] == marks:
                # Only byte-identical records are skipped: a record that changed meanwhile is new.
                same = 0
                while same < len(expected) and page[same] == expected[same]:
                    same += 1
                return same, True
        known = self._marks | {self._mark(record) for record in self._before}
        return 0, any(self._mark(record) in known for record in page)

    def _ends_as_before(self, page: Sequence[bytes]) -> bool:
        """Whether the page ends with the record that the last page before it ended with."""
        return bool(page) and bool(self._before) and self._mark(page[-1]) == self._mark(self._before[-1])

    def _mark(self, record: bytes) -> str:
        """The identity of a record: the hash of its keys' bytes; without such keys, of all its bytes."""
        try:
            document = Document(record)
            parts = [bytes(document.at(path)) for path in self._paths]
        except (Absent, ValueError):
            parts = [record]
        return blake2b(b"\0".join(parts), digest_size=12).hexdigest()

    def ahead(self, request: PageRequest, answer: Answer) -> Iterator[PageRequest]:
        """Later offsets, up to the total."""
        width = len(answer.records) - self.pagination.overlap
        if answer.total is None or width < 1 or self._looks or self._is_capped or self.pagination.empty_pages:
            return
        for offset in range(self._offset, self.pagination.first + answer.total - self.pagination.overlap, width):
            yield self._request(offset)

    def _request(self, offset: int) -> PageRequest:
        return self.first.having([(self.pagination.parameter, offset)])

    def expects_end(self) -> frozenset[int]:
        """As the walk that stored the position, but it is unknown whether the last page was short."""
        return self.beyond(self.first, short=False).beyond if self._looks else frozenset()

    def facts(self) -> dict[str, Any]:
        """Records seen, the next offset, and fingerprints of the last records before it."""
        marks = [self._mark(record) for record in self._before[-_MARKS_KEPT:]] if self.pagination.overlap else []
        return super().facts() | {
            "offset": self._offset,
            "marks": marks or sorted(self._marks),
            "total": self._total,
            "width": self._width,
            "looks": self._looks,
            "capped": self._is_capped,
            "unanchored": self._is_unanchored,
            "pages": self._pages,
        }

    def resume(self, facts: dict[str, Any]) -> None:
        """Resume an earlier walk."""
        super().resume(facts)
        self._offset, self._marks = facts["offset"], frozenset(facts["marks"])
        self._total, self._width = facts.get("total"), facts.get("width", 0)
        self._looks, self._is_capped = facts.get("looks", False), facts.get("capped", False)
        self._is_unanchored, self._pages = facts.get("unanchored", False), facts.get("pages", 0)
