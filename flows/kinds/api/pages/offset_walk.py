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
        self._width = 0
        self._total: int | None = None
        self._looks = False  # the current page is the one behind the expected end
        self._is_capped = False  # there were records behind it: the total says nothing

    def take(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """The page's new records and the next offset; a smaller one if no anchor was found."""
        page = answer.records
        self.is_proven = answer.unchanged
        if answer.unchanged:
            return page, None
        self.note_shape(answer)
        self._listed += answer.listed
        self._total = answer.total if answer.total is not None else self._total
        if self._looks and is_repeat(page, self._before):
            page = []  # behind the end, some APIs repeat the last page
        if not self._steps_back:
            refuse_repeat(page, self._before)
        if answer.ended:
            self._end(answer)
            return page, None
        begins = self._offset == self.pagination.first
        repeated, joined = (0, True) if begins or not self.pagination.overlap else self._join(page)
        if not joined and (page or ((answer.total or 0) < self._offset and not self._looks)):
            self._steps_back += 1
            self._looks = False
            back = max(len(page), self.pagination.overlap, 1) << min(self._steps_back - 1, 20)
            self._offset = max(self.pagination.first, self._offset - back)
            # A list in no order would be read for ever: half of its pages lead back.
            self._trail.back(1, self._taken // 4)
            return page, self._request(self._offset)
        self._steps_back = 0
        self._width = max(self._width, len(page))
        self.seen = max(self.seen if self._looks else 0, self._offset - self.pagination.first + len(page))
        if len(page) <= repeated and not self._goes_on_empty():
            self._end(answer)
            return page[repeated:], None
        self._is_capped |= self._looks
        self._looks = self._total is not None and not self._is_capped and self._counted >= self._total
        self._trail.page(page[repeated:])
        short = 0 < len(page) < self._width
        self._before, self._marks = page, frozenset()
        self._offset += self._step(page)
        following = self._request(self._offset)
        return page[repeated:], self.beyond(following, short=short) if self._looks else following

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
        return self.pagination.empty_pages and not self._looks and self._counted < (self._total or 0)

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
        }

    def resume(self, facts: dict[str, Any]) -> None:
        """Resume an earlier walk."""
        super().resume(facts)
        self._offset, self._marks = facts["offset"], frozenset(facts["marks"])
        self._total, self._width = facts.get("total"), facts.get("width", 0)
        self._looks, self._is_capped = facts.get("looks", False), facts.get("capped", False)
