"""Unpack a document: gzip and zip, to a proven end and within bounds."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import chain
from typing import IO

from flows.kinds.api.http.failure import AttemptFailed
from flows.values.errors import SourceUnavailable

# Read and unpacked at once; 256 KB was as fast as 4 MB.
BLOCK = 1 << 18
_GZIP = 16 + zlib.MAX_WBITS  # 16 makes zlib expect the gzip wrapper and its checksum
# Text packs to a fifth or a tenth; gzip of zeros packs to a thousandth.
_MOST_TIMES = 250
_MAGIC = 4  # bytes that tell gzip and zip
# In memory up to this size, then on disk.
_SPOOLED = 1 << 20


@dataclass(slots=True)
class Bound:
    """How large a document may become: `floor`, or so many times what was received; `ceiling` in any case."""

    received: int
    floor: int
    ceiling: int
    size: int = 0

    def took(self, size: int) -> None:
        """Count unpacked bytes.

        Raises:
            AttemptFailed: they are too many.
        """
        self.size += size
        most = min(self.ceiling, max(self.floor, self.received * _MOST_TIMES))
        if self.size > most:
            raise AttemptFailed(
                f"the document is larger than {most / (1 << 20):,.0f} MB when it is unpacked, and "
                f"{self.received / (1 << 20):,.1f} MB were received",
                "request smaller parts; if documents must be this large, raise the limit max_document_bytes",
            )


@dataclass(slots=True)
class Packing:
    """How a document turned out to be packed: the members of each gzip layer, the outer one first, and whether by zip.

    A gzip stream has no end of its own: another member may follow (RFC 1952). A zip has its directory there.
    """

    members: list[int] = field(default_factory=list)
    is_zip: bool = False


def cut(how: str) -> AttemptFailed:
    """The document has no proven end."""
    return AttemptFailed(
        f"the document is incomplete: {how}",
        "run again later; if it persists, ask the operator of the API or of the proxy in between",
        kind=SourceUnavailable,
        again=True,
    )


def unpacked(file: IO[bytes], encoding: str, member: str, bound: Bound, packing: Packing) -> Iterator[Iterator[bytes]]:
    """The documents in a file: one, or several in a zip. Each is to be read to its end before the next.

    `packing` is filled while they are read.

    Raises:
        AttemptFailed: the file is cut, damaged, encrypted, or becomes too large; while it is read, too.
    """
    file.seek(0)
    pieces = _blocks(file)
    if encoding in ("gzip", "x-gzip"):
        pieces = _inflated(pieces, bound, packing)
    first = b""
    while len(first) < _MAGIC and (piece := next(pieces, b"")):
        first += piece
    pieces = chain((first,), pieces) if first else iter(())
    if first.startswith(b"\x1f\x8b"):
        yield _inflated(pieces, bound, packing)
    elif first.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        packing.is_zip = True
        with tempfile.SpooledTemporaryFile(_SPOOLED) as whole:
            for piece in pieces:
                whole.write(piece)
            yield from _members(whole, member, bound)
    else:
        yield pieces


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(BLOCK):
        yield piece


def _inflated(pieces: Iterable[bytes], bound: Bound, packing: Packing) -> Iterator[bytes]:
    inflate = zlib.decompressobj(_GZIP)
    layer = len(packing.members)
    packing.members.append(1)
    damaged = False
    try:
        for piece in pieces:
            rest = piece
            while rest:
                if inflate.eof:
                    # A stream may have several members (RFC 1952); zlib refuses anything else after the end.
                    inflate = zlib.decompressobj(_GZIP)
                    packing.members[layer] += 1
                part = inflate.decompress(rest, BLOCK)
                bound.took(len(part))
                if part:
                    yield part
                rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            while not inflate.eof and (part := inflate.decompress(b"", BLOCK)):
                bound.took(len(part))
                yield part
    except zlib.error:
        damaged = True
    if damaged:
        raise cut("the gzip stream is damaged")
    if not inflate.eof:
        raise cut("the gzip stream has no end")


def _members(whole: IO[bytes], pattern: str, bound: Bound) -> Iterator[Iterator[bytes]]:
    try:
        packed: zipfile.ZipFile | None = zipfile.ZipFile(whole)
    except (zipfile.BadZipFile, ValueError, OSError):
        packed = None
    if packed is None:
        raise cut("the zip has no directory at its end")
    with closing(packed):
        found = [
            info
            for info in packed.infolist()
            if fnmatch(info.filename, pattern) and not info.is_dir() and not info.filename.startswith("__MACOSX/")
        ]
        if not found:
            raise AttemptFailed(
                f"no file in the zip matches {pattern!r}", "correct member= of the declared format against a document"
            )
        for info in found:
            yield _member(packed, info, bound)


def _member(packed: zipfile.ZipFile, info: zipfile.ZipInfo, bound: Bound) -> Iterator[bytes]:
    problem = ""
    try:
        with packed.open(info) as file:
            while piece := file.read(BLOCK):
                bound.took(len(piece))
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError):
        problem = "a file in the zip is damaged"  # its checksum, too, is compared at its end
    except (RuntimeError, NotImplementedError):
        raise AttemptFailed(
            "a file in the zip is encrypted, or packed in an uncommon way",
            "ask the operator of the API for a plain zip",
        ) from None
    if problem:
        raise cut(problem)
