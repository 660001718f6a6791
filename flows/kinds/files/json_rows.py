"""Rows of JSON lines: fields of each object as texts, and the object itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from flows.kinds.files.content import Content
from flows.kinds.files.left import FileProblem
from flows.kinds.files.rows import BadRow, Rows, RowTooLong
from flows.landing.readable import readable
from flows.quality.quarantine import Unreadable

#: The rule that a line breaks which is no JSON object.
NO_OBJECT = "row_is_json_object"
_ROWS = 5_000


class JsonRows:
    """Objects are parsed one by one, at some 3 µs each: their fields stay bytes until they are asked for."""

    def __init__(self, content: Content, payload: str | None) -> None:
        self._content = content
        self._payload = payload
        self._names: list[str] = []
        self._decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._line = 0
        self.bad: list[BadRow] = []
        self.types: Mapping[str, str] = {}
        self.rows = 0

    def header(self, declared: Sequence[str]) -> list[str]:
        """The declared fields, and the object."""
        self._names = list(declared)
        return [*self._names, *([self._payload] if self._payload else [])]

    def batches(self, block: int) -> Iterator[Rows]:
        """The rows, some thousands at a time."""
        lines: list[tuple[int, bytes]] = []
        for line in self._lines(block):
            self._line += 1
            if not line.strip():
                continue
            lines.append((self._line, line))
            if len(lines) == _ROWS:
                yield from self._rows(lines)
                lines = []
        yield from self._rows(lines)
        last = self.bad[-1] if self.bad else None
        if last is not None and last.line == self._line and not self._content.ends_with_newline:
            raise FileProblem("its last line is no whole object: it was cut short", waits=True)

    def _lines(self, block: int) -> Iterator[bytes]:
        rest = b""
        while data := self._content.read(block):
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if len(rest) > block:
                raise RowTooLong
        if rest:
            yield rest

    def _rows(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[Rows]:
        import pyarrow as pa

        columns: list[list[str | None]] = [[] for _ in self._names]
        payloads, numbers = [], []
        for (number, line), fields in zip(lines, self._objects(lines), strict=True):
            self.rows += 1
            if isinstance(fields, str):
                self.bad.append(BadRow(number, fields, line.decode("utf-8", "backslashreplace")))
                continue
            for name, column in zip(self._names, columns, strict=True):
                column.append(_text(fields.get(name)))
            payloads.append(line)
            numbers.append(number)
        if not numbers:
            return
        arrays = [pa.array(column, pa.string()) for column in columns]
        if self._payload:
            arrays.append(pa.array(payloads, pa.binary()).cast(pa.string()))
        names = [str(place) for place in range(len(arrays))]
        yield Rows(pa.record_batch(arrays, names=names), pa.array(numbers, pa.int64()))

    def _objects(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[Any]:
        """The fields of each object, or the rule that its line breaks."""
        records = [line for _, line in lines]
        suspicious = bool(records) and len(readable(records, [], [], careful=False)) < len(records)
        for record in records:
            try:
                fields = self._decoder.decode(record)
            except (msgspec.DecodeError, UnicodeDecodeError):
                yield NO_OBJECT
                continue
            unreadable: list[Unreadable] = []
            if suspicious and not readable([record], [], unreadable, careful=True):
                yield unreadable[0].rule
                continue
            yield fields


def _text(value: Any) -> str | None:
    if value is None:
        return None
    written = bytes(value)
    if written == b"null":
        return None
    if written[:1] == b'"':
        text: str = msgspec.json.decode(written)
        return text
    return written.decode("utf-8")
