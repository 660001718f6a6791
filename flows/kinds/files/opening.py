"""The reader of a file's rows, by its declared format."""

from __future__ import annotations

from typing import BinaryIO

from flows.kinds.files.content import Content
from flows.kinds.files.csv_rows import CsvRows
from flows.kinds.files.fixed_rows import FixedRows
from flows.kinds.files.formats import Csv, Excel, FixedWidth, JsonLines
from flows.kinds.files.json_rows import JsonRows
from flows.kinds.files.parquet_rows import ParquetRows
from flows.kinds.files.rows import FormatRows
from flows.kinds.files.sheet_rows import SheetRows
from flows.kinds.files.table import FileTable


def rows_of(table: FileTable, content: Content, file: BinaryIO, size: int, max_expansion: int) -> FormatRows:
    """The rows of an opened file. Formats of text read its `content`, others the `file` itself, which can seek.

    `size` and `max_expansion` bound what a packed one may become.
    """
    match table.format:
        case Csv() as csv:
            return CsvRows(content, csv)
        case FixedWidth() as fixed:
            return FixedRows(content, fixed)
        case JsonLines():
            return JsonRows(content, table.payload)
        case Excel() as excel:
            return SheetRows(file, excel, size, max_expansion)
        case _:
            return ParquetRows(file)
