"""The bytes of one file, hashed, unpacked and decoded on the way; nothing of it is held but a block."""

from __future__ import annotations

import codecs
import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from flows.kinds.files.formats import Csv
from flows.kinds.files.left import FileProblem

BLOCK = 1 << 20
#: Below it, an expansion is no bomb: a gzip of zeros becomes a thousand times larger.
HARMLESS = 100_000_000
#: What reading a file, or a member of an archive, fails with.
UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
_LONGEST_TRAILER = 1 << 16
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF8 = ("utf-8", "utf-8-sig")
_FOREIGN_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class RawBytes:
    """A file as it lies there: counted and hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._ahead = b""
        self.size = 0
        self.closed = False

    def read(self, count: int = -1) -> bytes:
        """The next bytes, at most `count`; none at the end."""
        if self._ahead:
            taken, self._ahead = self._ahead, b""
            return taken
        try:
            data = self._file.read(BLOCK if count < 0 else count)
        except UNREADABLE:
            raise FileProblem("it cannot be read: its place fails, or its data is damaged", waits=True) from None
        self._hash.update(data)
        self.size += len(data)
        return data

    def begins(self) -> bytes:
        """The first bytes, which are read again."""
        self._ahead = self.read(4)
        return self._ahead

    def digest(self) -> str:
        """The hash of all bytes, in hex."""
        while self.read():
            pass
        return self._hash.hexdigest()

    def readable(self) -> bool:
        """As Arrow asks."""
        return True

    def close(self) -> None:
        """The file itself is closed by who opened it."""
        self.closed = True


class Content:
    """A file's text in UTF-8: first its lines before the rows (`take_line`), then the rows' bytes (`read`).

    `holds_nul`, `is_not_utf8`, `has_quote`: what the bytes read so far have, so that rows need be searched only then.
    `rows_told`: the number of rows by the trailer.
    """

    def __init__(self, file: BinaryIO, csv: Csv, max_expansion: int) -> None:
        self.raw = RawBytes(file)
        self._encoding = csv.encoding
        self._max_expansion = max_expansion
        self._quote = csv.quote.encode()
        self._blocks = self._decoded()
        self._buffer = b""
        self._is_over = False
        self._trailer = re.compile(csv.trailer) if csv.trailer is not None else None
        self.problem: FileProblem | None = None
        self.holds_nul = self.is_not_utf8 = self.has_quote = False
        self.ends_with_newline = self.ends_with_quote = False
        self.size = 0
        self.rows_told: int | None = None
        self.closed = False

    # -- lines before the rows

    def take_line(self) -> bytes | None:
        """The next line without its end; None after the last."""
        while True:
            ends = [at for at in (self._buffer.find(b"\n"), self._buffer.find(b"\r")) if at >= 0]
            at = min(ends, default=-1)
            # A carriage return at the end of what is there may belong to a line feed that is still to come.
            if at >= 0 and (self._buffer[at : at + 1] == b"\n" or at + 1 < len(self._buffer) or self._is_over):
                length = 2 if self._buffer[at : at + 2] == b"\r\n" else 1
                line, self._buffer = self._buffer[:at], self._buffer[at + length :]
                return line
            if self._is_over:
                line, self._buffer = self._buffer, b""
                return line or None
            self._more()

    # -- rows, as Arrow reads a file

    def read(self, count: int = -1) -> bytes:
        """The next bytes of rows; none at the end."""
        held = _LONGEST_TRAILER if self._trailer is not None else 0
        while not self._is_over and len(self._buffer) <= held:
            self._more()
        if self._is_over and self._trailer is not None:
            self._buffer = self._without_trailer(self._buffer, self._trailer)
            self._trailer = None
        ready = len(self._buffer) - (0 if self._is_over else held)
        size = ready if count < 0 else min(count, ready)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def readable(self) -> bool:
        """As Arrow asks."""
        return True

    def close(self) -> None:
        """The file itself is closed by who opened it."""
        self.closed = True

    def _more(self) -> None:
        try:
            block = next(self._blocks, None)
        except FileProblem as problem:
            self.problem = problem
            raise
        if block is None:
            self._is_over = True
            return
        self.size += len(block)
        self.holds_nul = self.holds_nul or b"\0" in block
        self.has_quote = self.has_quote or (bool(self._quote) and self._quote in block)
        self.ends_with_newline = block[-1:] in (b"\n", b"\r")
        if text := block.rstrip(b"\r\n"):
            self.ends_with_quote = bool(self._quote) and text.endswith(self._quote)
        self._buffer += block

    def _without_trailer(self, tail: bytes, trailer: re.Pattern[str]) -> bytes:
        text = tail.rstrip(b"\r\n")
        at = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        found = trailer.match(text[at:].decode("utf-8", errors="replace"))
        if found is None:
            self.problem = FileProblem("its last line is not the declared trailer: it was cut short", waits=True)
            raise self.problem
        if (rows := found.groupdict().get("rows")) is not None:
            self.rows_told = int(rows)
        self.ends_with_newline = True
        return tail[:at]

    def _decoded(self) -> Iterator[bytes]:
        utf8 = self._encoding.lower().replace("_", "-") in _UTF8
        decoder = codecs.getincrementaldecoder("utf-8" if utf8 else self._encoding)("strict")
        first = True
        for block in self._unpacked():
            data = block
            if first and utf8:
                if (foreign := _FOREIGN_MARKS.get(data[:2])) is not None:
                    raise FileProblem(f'it is written in {foreign}: declare Csv(encoding="{foreign}")')
                data = data.removeprefix(codecs.BOM_UTF8)
            first = False
            if not utf8:
                data = self._recoded(decoder, block, final=False)
            elif not self.is_not_utf8:
                try:
                    decoder.decode(data)
                except UnicodeDecodeError:
                    self.is_not_utf8 = True
            if data:
                yield data
        if not utf8 and (rest := self._recoded(decoder, b"", final=True)):
            yield rest

    def _recoded(self, decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool) -> bytes:
        try:
            return decoder.decode(block, final).encode("utf-8")
        except UnicodeError:
            raise FileProblem(
                f"it has bytes that are no {self._encoding}, around byte {self.raw.size:,} of it"
            ) from None

    def _unpacked(self) -> Iterator[bytes]:
        begin = self.raw.begins()
        codec = next((codec for mark, codec in _PACKED.items() if begin.startswith(mark)), None)
        if codec is None:
            while data := self.raw.read(BLOCK):
                yield data
            return
        import pyarrow as pa

        stream: Any = pa.CompressedInputStream(pa.PythonFile(self.raw, mode="r"), codec)
        unpacked = 0
        while True:
            try:
                data = stream.read(BLOCK)
            except OSError as problem:
                cut = "runcated" in str(problem)
                reason = f"its {codec} data is {'cut short' if cut else 'damaged, or followed by something else'}"
                raise FileProblem(reason, waits=cut) from None
            if not data:
                return
            unpacked += len(data)
            if unpacked > max(HARMLESS, self._max_expansion * self.raw.size):
                raise FileProblem(
                    f"it is more than {self._max_expansion} times as large as its packed bytes: a decompression bomb, "
                    "or declare a larger max_expansion"
                )
            yield data
