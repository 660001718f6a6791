"""Offset pagination that verifies at each page boundary that no record was skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import httpx

from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.pagination import Offset
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.json_walk import Absent, Document
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.walk import Walk, refuse_repeat
from flows.values.json_path import parse_path

# Fingerprints of the previous page kept for a restart: enough to cover records deleted meanwhile.
_MARKS_KEPT = 50


class OffsetWalk(Walk):
    """Each page starts with the last `overlap` records of the previous page: they are its anchors.

    If none of them is on the page, earlier records were deleted and the page starts too late. Reading then steps back,
    and everything from there on is read again; merging by key makes that harmless.
    """

    pagination: Offset

    def __init__(
        self, pagination: Offset, endpoint: Endpoint, first: PageRequest, base: httpx.URL, max_idle_pages: int
    ) -> None:
        super().__init__(pagination, first, base, max_idle_pages)
        self._paths = [parse_path(field.at) for field in endpoint.key_fields]
        self._offset = pagination.first
        self._before: Sequence[bytes] = ()
        self._marks: frozenset[str] = frozenset()
        self._steps_back = 0

    def take(self, request: PageRequest, answer: Answer) -> tuple[list[bytes], PageRequest | None]:
        """The page's new records and the next offset; a smaller one if no anchor was found."""
        page = answer.records
        if answer.unchanged:
            return page, None
        if not self._steps_back:
            refuse_repeat(page, self._before)
        begins = self._offset == self.pagination.first
        repeated, joined = (0, True) if begins or not self.pagination.overlap else self._join(page)
        if not joined and (page or (answer.total or 0) < self._offset):
            self._steps_back += 1
            back = max(len(page), self.pagination.overlap, 1) << min(self._steps_back - 1, 20)
            self._offset = max(self.pagination.first, self._offset - back)
            return page, self._request(self._offset)
        self._steps_back = 0
        self.seen = self._offset - self.pagination.first + len(page)
        if self._is_last(page, repeated, answer):
            return page[repeated:], None
        self._before, self._marks = page, frozenset()
        self._offset += max(1, len(page) - self.pagination.overlap)
        return page[repeated:], self._request(self._offset)

    def _is_last(self, page: Sequence[bytes], repeated: int, answer: Answer) -> bool:
        if answer.total is not None:
            return not page or self.seen >= answer.total
        return answer.ended or len(page) <= repeated

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
        if answer.total is None or width < 1:
            return
        for offset in range(self._offset, self.pagination.first + answer.total - self.pagination.overlap, width):
            yield self._request(offset)

    def _request(self, offset: int) -> PageRequest:
        return self.first.having([(self.pagination.parameter, offset)])

    def facts(self) -> dict[str, Any]:
        """Records seen, the next offset, and fingerprints of the last records before it."""
        marks = [self._mark(record) for record in self._before[-_MARKS_KEPT:]] if self.pagination.overlap else []
        return {"seen": self.seen, "offset": self._offset, "marks": marks or sorted(self._marks)}

    def resume(self, facts: dict[str, Any]) -> None:
        """Resume an earlier walk."""
        self.seen, self._offset, self._marks = facts["seen"], facts["offset"], frozenset(facts["marks"])
