"""A document on disk, as pieces of records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import IO, Protocol

import httpx

from flows.kinds.api.bodies.csv_rows import CsvRecords
from flows.kinds.api.bodies.lines import LineRecords
from flows.kinds.api.bodies.unpack import Bound, Packing, cut, unpacked
from flows.kinds.api.bodies.xml_records import XmlRecords
from flows.kinds.api.declared.format import Csv, Format, NdJson, Xml
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Document
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.records import failure_in
from flows.values.errors import PlaceLost

# Records that are landed together: as many, or as large, as a page of JSON usually is.
_PIECE_RECORDS = 5_000
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Download:
    """A body on disk as it was received, and whether the protocol has shown its end. The file has no name.

    `declared`: "end" if its answer is declared to end the list. `members` are those of a gzip layer that is already
    unpacked, if there was one.
    """

    file: IO[bytes] = field(repr=False)
    headers: httpx.Headers
    url: httpx.URL
    received_bytes: int
    end_proven: bool
    declared: str = ""
    members: int = 0


@dataclass(frozen=True, slots=True)
class Inside:
    """A place in a document: behind so many records, which had this digest. Another document has another one."""

    records: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records, the place behind them, and whether they are the document's last ones.

    `root` of an XML document is the name of its root; without records, `absent` says that nothing shows that it is
    that of an empty list.
    """

    records: list[bytes]
    inside: Inside
    is_last: bool
    root: str = ""
    absent: bool = False


@dataclass(slots=True)
class Expected:
    """What a document must have, and what it turns out to be.

    `needed` are fields of each record. A document `may_lack` the list. `counted`: its records are counted elsewhere.
    """

    needed: frozenset[str] = frozenset()
    may_lack: bool = False
    counted: bool = False
    root: str = ""
    absent: bool = False


class _Parser(Protocol):
    def feed(self, piece: bytes) -> list[bytes]: ...

    def end(self) -> list[bytes]: ...


def pieces_of(
    found: Download, form: Format, start: Inside, limits: HttpLimits, expected: Expected, *, at_once: bool
) -> Iterator[Piece]:
    """The document's records behind `start`, in pieces; the last of them only once its end is proven.

    `at_once`: in one piece, of the size of a page at most.

    Raises:
        AttemptFailed: the document is cut, damaged, too large, or not what is declared; or it is another one than that
            of `start`.
    """
    bound = Bound(found.received_bytes, limits.max_body_bytes, limits.max_document_bytes)
    digest, count, size = blake2b(digest_size=16), 0, 0
    piece: list[bytes] = []
    held: Piece | None = None
    for records in _records(found, form, bound, expected):
        for record in records:
            digest.update(b"%d:" % len(record))
            digest.update(record)
            count += 1
            if count <= start.records:
                if count == start.records and digest.hexdigest() != start.digest:
                    raise _another()
                continue
            piece.append(record)
            size += len(record)
            if at_once:
                if size > limits.max_body_bytes:
                    raise _too_large(limits.max_body_bytes)
            elif len(piece) >= _PIECE_RECORDS or size >= _PIECE_BYTES:
                if held is not None:
                    yield held
                held, piece, size = Piece(piece, Inside(count, digest.hexdigest()), is_last=False), [], 0
    if count < start.records:
        raise _another()
    if isinstance(form, NdJson):
        _refuse_failure(piece or (held.records if held else []), expected)
    _require_count(found, form, count)
    if held is not None and piece:
        yield held
    last = Inside(count, digest.hexdigest())
    absent = expected.absent and not count
    yield Piece(piece or (held.records if held else []), last, is_last=True, root=expected.root, absent=absent)


def _records(found: Download, form: Format, bound: Bound, expected: Expected) -> Iterator[list[bytes]]:
    encoding = found.headers.get("content-encoding", "identity").strip().lower()
    packing = Packing([found.members] if found.members else [])
    for document in unpacked(found.file, encoding, form.member, bound, packing):
        parser = _parser(form, expected)
        for part in document:
            yield parser.feed(part)
        yield parser.end()
        if isinstance(parser, XmlRecords):
            if not expected.may_lack:
                parser.require_list()
            expected.root, expected.absent = parser.root, expected.absent or not parser.is_there
    if not (found.end_proven or packing.is_zip or expected.counted or isinstance(form, Xml) or form.count_header):
        _require_one_member(packing, form)


def _require_one_member(packing: Packing, form: NdJson | Csv) -> None:
    """Only the last gzip layer shows the end of a document, and only if it is known to have no other member.

    Raises:
        AttemptFailed: it may have, or there is none.
    """
    if not packing.members:
        raise cut("the connection was closed, and nothing says that this is its end")
    if not form.one_member or packing.members[-1] != 1:
        failure = cut(
            "the connection was closed at the end of a gzip member, and nothing says that no other member follows"
        )
        failure.fix += (
            f"; if each document is a single gzip member, declare {type(form).__name__}(one_member=True), or "
            "count_header="
            if packing.members[-1] == 1
            else "; if a header of the response has the number of records, declare it: count_header="
        )
        raise failure


def _parser(form: Format, expected: Expected) -> _Parser:
    match form:
        case Csv():
            return CsvRecords(form, expected.needed)
        case NdJson():
            return LineRecords()
    return XmlRecords(form)


def _refuse_failure(records: list[bytes], expected: Expected) -> None:
    """Refuse a document whose last line is no record, but says that the request failed: others are missing."""
    last = records[-1] if records else b""
    where = failure_in(last)
    if where is not None and not expected.needed & Document(last).names:
        raise cut(f"its last line reports a failure at {where!r}")


def _require_count(found: Download, form: Format, count: int) -> None:
    name = "" if isinstance(form, Xml) else form.count_header
    if not name:
        return
    told = found.headers.get(name, "").strip()
    if not (told.isascii() and told.isdecimal()):
        raise AttemptFailed(
            f"the response does not say how many records it has in {name}",
            "correct count_header= of the declared format against a response",
        )
    if int(told[:18]) != count:
        raise cut(f"it has {count} of {told[:18]} records")


def _another() -> AttemptFailed:
    return AttemptFailed(
        "the document is another one than an earlier run has read a part of",
        "nothing: it is read from its beginning",
        kind=PlaceLost,
    )


def _too_large(cap: int) -> AttemptFailed:
    return AttemptFailed(
        f"the records of a page are larger than {cap / (1 << 20):.0f} MB",
        "declare a smaller page_size; if pages must be this large, raise the limit max_body_bytes",
    )
