"""Rows of lines whose columns are at fixed places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.kinds.files.content import Content
from flows.kinds.files.csv_rows import CsvRows
from flows.kinds.files.formats import FixedWidth
from flows.kinds.files.rows import RAGGED, BadRow, Rows


class FixedRows:
    """Lines are read as rows of one column, and cut by Arrow."""

    def __init__(self, content: Content, fixed: FixedWidth) -> None:
        self._lines = CsvRows(content, fixed.written)
        self._fixed = fixed
        self.types: Mapping[str, str] = {}
        self._width = max(end for _, end in fixed.columns.values())

    @property
    def bad(self) -> list[BadRow]:
        """The refused lines."""
        return self._lines.bad

    @property
    def rows(self) -> int:
        """All lines read so far."""
        return self._lines.rows

    def header(self, declared: Sequence[str]) -> list[str]:
        """The declared columns."""
        self._lines.header(["line"])
        return list(self._fixed.columns)

    def batches(self, block: int) -> Iterator[Rows]:
        """The rows, block by block."""
        for rows in self._lines.batches(block):
            yield from self._cut(rows)

    def _cut(self, rows: Rows) -> Iterator[Rows]:
        import pyarrow as pa
        import pyarrow.compute as pc

        line = rows.batch.column(0)
        length = pc.utf8_length(line)
        longer = pc.utf8_length(pc.utf8_rtrim_whitespace(line))
        fits = pc.less_equal(longer, self._width)
        if self._fixed.padded:
            fits = pc.and_(fits, pc.greater_equal(length, self._width))
        if not pc.all(fits).as_py():
            refused = pc.invert(fits)
            texts, numbers = line.filter(refused).to_pylist(), rows.lines.filter(refused).to_pylist()
            self.bad.extend(BadRow(number, RAGGED, text) for number, text in zip(numbers, texts, strict=True))
            line, rows = line.filter(fits), Rows(rows.batch, rows.lines.filter(fits))
        if len(line):
            columns = [self._column(line, first, end) for first, end in self._fixed.columns.values()]
            yield Rows(pa.record_batch(columns, names=list(self._fixed.columns)), rows.lines)

    @staticmethod
    def _column(line: Any, first: int, end: int) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        value = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(line, first, end))
        return pc.if_else(pc.equal(value, ""), pa.scalar(None, pa.string()), value)
