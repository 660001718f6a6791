"""The pages of a list of documents that are not JSON: each document is several pages, so that memory stays flat."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import asdict
from datetime import UTC, datetime

import httpx
from msgspec.json import encode

from flows.kinds.api.bodies.document import Download, Expected, Inside, Piece, pieces_of
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.format import Format
from flows.kinds.api.declared.pagination import Offset, PageNumber
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.date import http_date
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Document
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.kept import Kept
from flows.kinds.api.pages.page import Page, Start
from flows.kinds.api.pages.place import place_after, without_key
from flows.kinds.api.pages.walk import Walk
from flows.values.errors import ListUnfinished

_NOTHING = Document(b"{}")


async def document_pages(
    reader: Reader, endpoint: Endpoint, walk: Walk, first: PageRequest, start: Start, at: str
) -> AsyncGenerator[Page, None]:
    """The documents of a list from `first` on, which is that of the place of `start`, if an earlier run was there.

    Resuming within a document reads it again from its beginning, and skips what had been read if it is the same.

    Raises:
        MedallionError: as `flows.kinds.api.pages.endpoint.read_pages`.
    """
    assert endpoint.format is not None
    place, kept = start.place, Kept(endpoint.cursor, start.since)
    number = 0 if place is None else place["number"]
    inside = Inside(**(place or {}).get("inside", {}))
    at_once = isinstance(walk.pagination, PageNumber | Offset)
    request: PageRequest | None = first
    roots: set[str] = set()
    documents = 0
    while request is not None:
        if documents >= reader.limits.max_pages:
            raise too_many(documents).error(reader.place(number), 1)
        documents += 1
        began = datetime.now(UTC)
        of = _Document(reader, endpoint.format, request, at, at_once=at_once)
        following: PageRequest | None = None
        async with aclosing(of.pieces(number + 1, inside)) as pieces:
            async for piece in pieces:
                number += 1
                head = of.head()
                if piece.is_last:
                    if not piece.absent:
                        roots.add(piece.root)
                    answer = of.answer(piece, known=piece.root in roots)
                    records, following = _taken(walk, request, answer, reader.place(number))
                    following = without_key(following, reader.auth)
                    after = place_after(following, number, walk)
                else:
                    records = piece.records
                    after = (place_after(request, number, walk) or {}) | {"inside": asdict(piece.inside)}
                yield Page(
                    kept.of(records),
                    of.received() if piece.is_last else 0,
                    None,
                    number,
                    after,
                    moment=http_date(head.get("date", "")) or began,
                    gone=of.is_gone and number == 1,
                    skipped=of.is_skipped,
                    is_proven=after is None and walk.is_proven and not walk.ignored,
                    ignored=walk.ignored if after is None else 0,
                )
        request, inside = following, Inside()


def too_many(pages: int) -> AttemptFailed:
    """A list has more pages than a run may read."""
    return AttemptFailed(
        f"{pages} pages of one list were read in this run, which is the bound max_pages",
        "run again: the next run goes on from there; declare a larger page_size, or raise the bound",
        kind=ListUnfinished,
    )


def _taken(walk: Walk, request: PageRequest, answer: Answer, where: str) -> tuple[list[bytes], PageRequest | None]:
    try:
        return walk.take(request, answer)
    except AttemptFailed as failed:
        error = failed.error(where, 1)
    raise error


class _Document:
    """One document, read again until its end is proven."""

    def __init__(self, reader: Reader, form: Format, request: PageRequest, at: str, *, at_once: bool) -> None:
        self._reader, self._form, self._request, self._at, self._at_once = reader, form, request, at, at_once
        self._found: Download | Answer | None = None

    async def pieces(self, number: int, inside: Inside) -> AsyncGenerator[Piece, None]:
        """Its records behind `inside`."""
        attempts = 0
        where = self._reader.place(number)
        while True:
            found = self._found = await self._reader.download(self._request, number, self._form, self._at)
            if isinstance(found, Answer):
                yield Piece([], inside, is_last=True)
                return
            failure: AttemptFailed | None = None
            expected = Expected(self._reader.needed, self._reader.may_lack_list, self._reader.counts_records)
            with closing(found.file):
                pieces = pieces_of(found, self._form, inside, self._reader.limits, expected, at_once=self._at_once)
                while failure is None:
                    try:
                        piece = next(pieces)
                    except AttemptFailed as failed:
                        failure = failed
                    else:
                        yield piece
                        if piece.is_last:
                            return
                        inside = piece.inside
            attempts += 1
            if not failure.again or attempts >= self._reader.limits.max_attempts:
                raise failure.error(where, attempts)
            await self._reader.pause(failure, attempts, where)

    def head(self) -> httpx.Headers:
        """The response's headers."""
        return self._found.headers if self._found is not None else httpx.Headers()

    def received(self) -> int:
        """The bytes that arrived."""
        return self._found.received_bytes if self._found is not None else 0

    @property
    def is_gone(self) -> bool:
        """Whether there is no such document, since its parent is deleted."""
        return isinstance(self._found, Answer) and self._found.ended and not self._found.declared

    @property
    def is_skipped(self) -> bool:
        """Whether it is declared that there is none."""
        return isinstance(self._found, Answer) and self._found.declared == "skip"

    def answer(self, last: Piece, *, known: bool) -> Answer:
        """The document as pagination sees it, with its last records. `known`: an earlier one had this root."""
        if isinstance(self._found, Answer):
            return self._found
        assert self._found is not None
        return Answer(
            last.records,
            None,
            Document(encode({last.root: None})) if last.root else _NOTHING,
            self._found.headers,
            self._found.url,
            0,
            listed=last.inside.records,
            absent=last.absent and not known,
            declared=self._found.declared,
        )
