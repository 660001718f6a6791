"""CSV: a row per record, as an object of texts."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Collection, Iterator, Sequence

import msgspec

from flows.kinds.api.bodies.lines import MOST_BYTES, broken
from flows.kinds.api.bodies.unpack import cut
from flows.kinds.api.declared.format import Csv
from flows.kinds.api.http.failure import AttemptFailed

csv.field_size_limit(MOST_BYTES)
_encode = msgspec.json.Encoder().encode


class _More(Exception):
    """There are no more lines yet."""


class CsvRecords:
    """Splits rows. The last line that has arrived waits for the next piece.

    `needed` are columns without which a first row is not one of names, but the text of an error, or a record.
    """

    def __init__(self, form: Csv, needed: Collection[str] = ()) -> None:
        self._form, self._needed = form, needed
        encoding = "utf-8-sig" if codecs.lookup(form.encoding).name == "utf-8" else form.encoding
        # Bytes that are no text stay what they are: the row checks put their record into quarantine.
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
        self._names: Sequence[str] | None = form.header or None
        self._rest = ""

    def feed(self, piece: bytes) -> list[bytes]:
        """The records that are complete now.

        Raises:
            AttemptFailed: the first row is not one of names, or a quote is never closed.
        """
        text = self._rest + self._text(piece)
        lines = text.split("\n")
        tail = lines.pop()
        rows: list[list[str]] = []
        taken = begun = 0  # lines, and lines of complete rows

        def arrived() -> Iterator[str]:
            nonlocal taken
            for line in lines:
                taken += 1
                yield line + "\n"
            raise _More

        reader = self._reader(arrived())
        try:
            while True:
                rows.append(next(reader))
                begun = taken
        except _More:
            pass
        except csv.Error:
            raise self._unreadable() from None
        self._rest = "\n".join((*lines[begun:], tail))
        if len(self._rest) > MOST_BYTES:
            raise self._unreadable()
        return self._records(rows)

    def end(self) -> list[bytes]:
        """The last record, if the declaration allows its line to have no end.

        Raises:
            AttemptFailed: it is cut, or there is not even a row of names.
        """
        self._rest += self._text(b"", final=True)
        rows: list[list[str]] = []
        if self._rest:
            if self._form.final_newline:
                raise self._cut()
            try:
                rows = list(self._reader([self._rest], strict=True))
            except csv.Error:
                raise cut("the last row has a quote that is not closed") from None
            if self._names is not None and any(len(row) != len(self._names) for row in rows):
                raise cut("the last row has fewer values than there are names")
        records = self._records(rows)
        if self._names is None:
            raise cut("it is empty, without a row of names")
        return records

    def _text(self, piece: bytes, *, final: bool = False) -> str:
        try:
            return self._decoder.decode(piece, final)
        except UnicodeError:
            pass
        raise AttemptFailed(
            f"the document is not text in {self._form.encoding}", "correct encoding= of the declared Csv"
        )

    def _reader(self, lines: Iterator[str] | list[str], *, strict: bool = False) -> Iterator[list[str]]:
        form = self._form
        if not form.quote:
            return csv.reader(lines, delimiter=form.delimiter, quoting=csv.QUOTE_NONE, strict=strict)
        return csv.reader(lines, delimiter=form.delimiter, quotechar=form.quote, strict=strict)

    def _records(self, rows: list[list[str]]) -> list[bytes]:
        rows = [row for row in rows if row]
        if self._names is None and rows:
            self._names = rows.pop(0)
            if len(set(self._names)) != len(self._names) or not all(self._names):
                raise AttemptFailed(
                    "the first row does not name the columns: a name is missing, or occurs twice",
                    'declare them: Csv(header=("day", "clicks"))',
                )
            if lacking := sorted(set(self._needed) - set(self._names)):
                # An error with status 200 would otherwise be a document without records, and delete what is in raw.
                raise AttemptFailed(
                    f"the first row does not name the column {lacking[0]!r}",
                    "open the response: it may be an error, which a later run does not meet; otherwise correct key= "
                    'and the cursor, or declare the names if no row has them: Csv(header=("day", "clicks"))',
                    again=True,
                )
        return [self._record(row) for row in rows]

    def _record(self, row: list[str]) -> bytes:
        names = self._names or ()
        if len(row) != len(names):
            return broken(self._form.delimiter.join(row).encode("utf-8", "surrogateescape"))
        values: dict[str, str | None] = dict(zip(names, row, strict=True))
        if self._form.null is not None:
            values = {name: None if value == self._form.null else value for name, value in values.items()}
        try:
            return _encode(values)
        except UnicodeEncodeError:
            return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape")

    def _cut(self) -> AttemptFailed:
        failure = cut("its last line has no end")
        failure.fix += "; if the API never writes a line break there, declare Csv(final_newline=False)"
        return failure

    def _unreadable(self) -> AttemptFailed:
        return AttemptFailed(
            f"a row is longer than {MOST_BYTES >> 20} MB, or a quote in it is not closed",
            'compare the document with the declared Csv; where quotes are ordinary characters, write quote=""',
        )
