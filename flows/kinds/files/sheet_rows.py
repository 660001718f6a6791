"""Rows of a sheet of a workbook: cells as texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

from flows.kinds.files.content import HARMLESS, UNREADABLE
from flows.kinds.files.formats import Excel
from flows.kinds.files.left import FileProblem
from flows.kinds.files.rows import BadRow, Rows

_ROWS = 5_000
#: Up to it, each whole number is exact in the floating-point numbers of a workbook.
_EXACT = 2**53


class SheetRows:
    """A row's line is its number in the sheet. A workbook says which cells are dates by their formats alone."""

    def __init__(self, file: BinaryIO, excel: Excel, size: int, max_expansion: int) -> None:
        self._file = file
        self._excel = excel
        self._most = max(HARMLESS, max_expansion * size)
        self._rows: Sequence[Sequence[Any]] = ()
        self._width = 0
        self._at = 0
        self.bad: list[BadRow] = []
        self.types: Mapping[str, str] = {}
        self.rows = 0

    def header(self, declared: Sequence[str]) -> list[str]:
        """The texts of the header's cells; empty cells at its end are no columns.

        Raises:
            FileProblem: there is no such sheet, or its header cannot name columns.
        """
        self._rows = self._sheet()
        self._at = self._excel.skip
        while self._at < len(self._rows) and all(_text(cell) is None for cell in self._rows[self._at]):
            self._at += 1
        if self._at >= len(self._rows):
            raise FileProblem("its sheet has no header")
        names = [(_text(cell) or "").strip() for cell in self._rows[self._at]]
        self._at += 1
        while names and not names[-1]:
            names.pop()
        if "" in names:
            raise FileProblem(f"column {names.index('') + 1} of its sheet has no header: merged cells have only one")
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise FileProblem(f"its header has {', '.join(doubled)} twice")
        self._width = len(names)
        return names

    def batches(self, block: int) -> Iterator[Rows]:
        """The rows, some thousands at a time; those without any value are none."""
        import pyarrow as pa

        while self._at < len(self._rows):
            numbers, columns = [], [list[str | None]() for _ in range(self._width)]
            for row in self._rows[self._at : self._at + _ROWS]:
                self._at += 1
                texts = [_text(cell) for cell in row]
                if not any(text is not None for text in texts):
                    continue
                self.rows += 1
                if any(text is not None for text in texts[self._width :]):
                    self.bad.append(BadRow(self._at, "row_has_all_columns", "\t".join(text or "" for text in texts)))
                    continue
                texts += [None] * (self._width - len(texts))
                for text, column in zip(texts, columns, strict=False):
                    column.append(text)
                numbers.append(self._at)
            if numbers:
                names = [str(place) for place in range(self._width)]
                arrays = [pa.array(column, pa.string()) for column in columns]
                yield Rows(pa.record_batch(arrays, names=names), pa.array(numbers, pa.int64()))

    def _sheet(self) -> Sequence[Sequence[Any]]:
        import zipfile

        import python_calamine as calamine

        try:
            if zipfile.is_zipfile(self._file):
                self._file.seek(0)
                with zipfile.ZipFile(self._file) as parts:
                    unpacked = sum(part.file_size for part in parts.infolist())
                if unpacked > self._most:
                    raise FileProblem("it is much larger than its packed bytes: a decompression bomb")
            self._file.seek(0)
            book = calamine.CalamineWorkbook.from_filelike(self._file)
            visible = [
                one.name
                for one in book.sheets_metadata
                if one.visible == calamine.SheetVisibleEnum.Visible and one.typ == calamine.SheetTypeEnum.WorkSheet
            ]
            name = self._excel.sheet or (visible[0] if visible else None)
            if name is None or name not in book.sheet_names:
                raise FileProblem(f"it has no sheet {name!r}" if name else "it has no visible sheet")
            rows: Sequence[Sequence[Any]] = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        except (calamine.CalamineError, *UNREADABLE):
            raise FileProblem("it is no workbook, is protected by a password, or was cut short", waits=True) from None
        return rows


def _text(cell: Any) -> str | None:
    """A cell as PostgreSQL reads it; a whole number has no decimals, as it is shown."""
    match cell:
        case None | "":
            return None
        case bool():
            return "true" if cell else "false"
        case float():
            return str(int(cell)) if cell.is_integer() and abs(cell) < _EXACT else repr(cell)
        case datetime():
            return cell.isoformat(" ") if cell.time() != time() else cell.date().isoformat()
        case date() | time():
            return cell.isoformat()
        case timedelta():
            return str(cell)
        case _:
            return str(cell).replace("\0", "")
