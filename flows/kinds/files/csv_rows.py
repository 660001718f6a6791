"""Rows of delimited text.

Arrow parses at some 100 MB/s without an object per row. What it passes in silence is looked for here: rows of another
length, blank lines, a quote that does not end, doubled headers, NUL and bytes that are no UTF-8.
"""

from __future__ import annotations

import csv as text_csv
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.kinds.files.content import Content
from flows.kinds.files.formats import Csv
from flows.kinds.files.left import FileProblem
from flows.kinds.files.rows import HOLDS_NUL, NOT_UTF8, OPEN_QUOTE, RAGGED, BadRow, Rows, RowTooLong

#: With fewer columns, a line of prose too often has as many delimiters as a row.
_COLUMNS_TO_COUNT = 3


@dataclass(slots=True)
class CsvRows:
    """The rows of one file. `number` is that of records read so far; `bad` are the refused ones, filled on the way."""

    content: Content
    csv: Csv
    names: list[str] = field(default_factory=list)
    types: Mapping[str, str] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)
    number: int = 0
    blank: int = 0
    _line: int = 0
    _ragged: deque[tuple[int, str]] = field(default_factory=deque)
    _last_is_long: bool = False

    @property
    def rows(self) -> int:
        """All rows read so far, bad ones as well."""
        return self.number - self.blank

    def header(self, declared: Sequence[str]) -> list[str]:
        """The names of the columns: those of the header, or the declared ones.

        Raises:
            FileProblem: there is no header, or a name is in it twice.
        """
        for _ in range(self.csv.skip):
            self.content.take_line()
            self._line += 1
        if self.csv.header == "none":
            self.names = list(declared)
            return self.names
        found = self._header_line()
        if self.csv.header == "by_position":
            self.names = list(declared)
            return self.names
        self.names = [name.strip() for name in found]
        if doubled := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise FileProblem(f"its header has {', '.join(doubled)} twice")
        return self.names

    def _header_line(self) -> list[str]:
        text = ""
        while True:
            line = self.content.take_line()
            if line is None:
                raise FileProblem("it has no header, or the header's last quote is missing", waits=True)
            self._line += 1
            text += line.decode("utf-8", errors="replace")
            if not text.strip():
                continue
            if not self.csv.quote or text.count(self.csv.quote) % 2 == 0:
                break
            text += "\n"
        if not self.csv.quote:
            return text.split(self.csv.delimiter)
        return next(text_csv.reader([text], delimiter=self.csv.delimiter, quotechar=self.csv.quote))

    def batches(self, block: int) -> Iterator[Rows]:
        """The rows, block by block.

        Raises:
            FileProblem: the file cannot be taken as it is.
            RowTooLong: a row needs a larger block.
        """
        import pyarrow as pa

        reader = self._open(block)
        while reader is not None:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except (pa.ArrowInvalid, OSError) as problem:
                raise self._explained(problem) from None
            yield from self._numbered(batch)
        self._leave_ragged(None)
        self._refuse_cut()

    def _open(self, block: int) -> Any:
        import pyarrow as pa
        from pyarrow import csv

        columns = {name: pa.string() for name in self.names}
        try:
            return csv.open_csv(
                pa.PythonFile(self.content, mode="r"),
                read_options=csv.ReadOptions(use_threads=False, column_names=self.names, block_size=block),
                parse_options=csv.ParseOptions(
                    delimiter=self.csv.delimiter,
                    quote_char=self.csv.quote or False,
                    newlines_in_values=bool(self.csv.quote),
                    ignore_empty_lines=False,
                    invalid_row_handler=self._on_ragged,
                ),
                convert_options=csv.ConvertOptions(
                    check_utf8=False,
                    column_types=columns,
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    null_values=list(self.csv.nulls),
                ),
            )
        except (pa.ArrowInvalid, OSError) as problem:
            if "Empty CSV file" in str(problem):
                return None
            raise self._explained(problem) from None

    def _on_ragged(self, row: Any) -> str:
        self._ragged.append((row.number, row.text))
        return "skip"

    def _explained(self, problem: Exception) -> Exception:
        """Arrow's words may quote a row."""
        if self.content.problem is not None:
            return self.content.problem
        if "straddl" in str(problem):
            return RowTooLong()
        return FileProblem(f"it cannot be read as delimited text, after row {self.number:,}")

    def _numbered(self, batch: Any) -> Iterator[Rows]:
        import numpy as np
        import pyarrow as pa

        if not batch.num_rows:
            return
        spans = self._spans(batch)
        lines = np.empty(batch.num_rows, np.int64)
        at = 0
        while at < batch.num_rows:
            self._leave_ragged(self.number + 1)
            until = batch.num_rows
            if self._ragged:
                until = min(until, at + self._ragged[0][0] - self.number - 1)
            count = until - at
            if spans is None:
                lines[at:until] = np.arange(self._line + 1, self._line + 1 + count)
                self._line += count
            else:
                ends = self._line + np.cumsum(spans[at:until])
                lines[at:until] = ends - spans[at:until] + 1
                self._line = int(ends[-1])
            self.number += count
            at = until
        self._last_is_long = spans is not None and bool(spans[-1] > 1)
        kept = self._kept(batch, lines, spans)
        if kept is not None:
            batch, lines = batch.filter(kept), lines[kept.to_numpy(zero_copy_only=False)]
        if batch.num_rows:
            yield Rows(batch, pa.array(lines))

    def _leave_ragged(self, upto: int | None) -> None:
        """Ragged rows up to a record's number, with the lines that they take."""
        while self._ragged and (upto is None or self._ragged[0][0] <= upto):
            _, text = self._ragged.popleft()
            self.bad.append(BadRow(self._line + 1, RAGGED, text))
            self._line += len(text.splitlines()) or 1
            self.number += 1
            self._last_is_long = False
            if upto is not None:
                upto += 1

    def _spans(self, batch: Any) -> Any:
        """How many lines each row takes; None: one each."""
        if not self.content.has_quote:
            return None
        import numpy as np
        import pyarrow.compute as pc

        found = None
        for column in batch.columns:
            data = column.buffers()[2]
            if data is None:
                continue
            text = np.frombuffer(data, np.uint8)
            if not ((text == 10) | (text == 13)).any():
                continue
            ends = pc.fill_null(pc.count_substring_regex(column, r"\r\n|\n|\r"), 0).to_numpy(zero_copy_only=False)
            found = ends if found is None else found + ends
        return None if found is None or not found.any() else found.astype(np.int64) + 1

    def _kept(self, batch: Any, lines: Any, spans: Any) -> Any:
        """Which rows stay; None: all. The others are blank, or refused."""
        import numpy as np
        import pyarrow as pa

        refused = np.zeros(batch.num_rows, bool)
        if all(column.null_count for column in batch.columns):
            blank = np.logical_and.reduce([column.is_null().to_numpy(zero_copy_only=False) for column in batch.columns])
            self.blank += int(blank.sum())
            refused |= blank
        if spans is not None and len(self.names) >= _COLUMNS_TO_COUNT:
            self._refuse(batch, lines, refused, self._holding_rows(batch, spans), OPEN_QUOTE)
        if self.content.holds_nul:
            self._refuse(batch, lines, refused, _matching(batch, lambda text: b"\0" in text), HOLDS_NUL)
        if self.content.is_not_utf8:
            self._refuse(batch, lines, refused, _matching(batch, _is_not_utf8), NOT_UTF8)
        return pa.array(~refused) if refused.any() else None

    def _holding_rows(self, batch: Any, spans: Any) -> Any:
        """Rows with a value that has a line with as many delimiters as a row: it lacks its closing quote."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        cut = "\\" + self.csv.delimiter if self.csv.delimiter in "|.^$*+?\\/-" else self.csv.delimiter
        own = rf"[^\r\n{cut}]*"
        whole = rf"[\r\n]({own}{cut}){{{len(self.names) - 1}}}{own}([\r\n]|$)"
        long = np.flatnonzero(spans > 1)
        some = batch.take(pa.array(long))
        found = np.zeros(batch.num_rows, bool)
        for column in some.columns:
            hit = pc.fill_null(pc.match_substring_regex(column, whole), False)
            found[long] |= hit.to_numpy(zero_copy_only=False)
        return found

    def _refuse(self, batch: Any, lines: Any, refused: Any, found: Any, rule: str) -> None:
        import numpy as np

        for place in np.flatnonzero(found & ~refused):
            values = [column[int(place)].as_buffer() for column in batch.columns]
            texts = ["" if one is None else one.to_pybytes().decode("utf-8", "backslashreplace") for one in values]
            text = self.csv.delimiter.join(texts).replace("\0", "\\0")
            self.bad.append(BadRow(int(lines[place]), rule, text))
        refused |= found

    def _refuse_cut(self) -> None:
        """Refuse a file whose end is missing.

        Raises:
            FileProblem: by its last line, its last quote, or its trailer.
        """
        content = self.content
        if self._last_is_long and not content.ends_with_quote:
            raise FileProblem("its last quoted value does not end: it was cut short, or lacks a quote", waits=True)
        if not content.ends_with_newline and content.size:
            if self.csv.final_newline == "required":
                raise FileProblem("its last line does not end: it was cut short", waits=True)
            if self.bad and self.bad[-1].rule == RAGGED and self.bad[-1].line == self._line:
                raise FileProblem("its last line has fewer columns and no end: it was cut short", waits=True)
        if content.rows_told is not None and content.rows_told != self.rows:
            raise FileProblem(f"it has {self.rows:,} rows, and its trailer says {content.rows_told:,}")


def _matching(batch: Any, broken: Any) -> Any:
    """Rows with a value whose bytes are broken. Looked for value by value: only in blocks after one was seen."""
    import numpy as np
    import pyarrow as pa

    found = np.zeros(batch.num_rows, bool)
    for column in batch.columns:
        for place, value in enumerate(column.cast(pa.binary()).to_pylist()):
            if value is not None and broken(value):
                found[place] = True
    return found


def _is_not_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
