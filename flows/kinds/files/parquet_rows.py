"""Rows of Parquet: Arrow's columns as texts that PostgreSQL reads exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from flows.kinds.files.content import UNREADABLE
from flows.kinds.files.left import FileProblem
from flows.kinds.files.rows import BadRow, Rows

_ROWS = 20_000
_PLAIN = {
    "bool": "boolean",
    "int8": "smallint",
    "int16": "smallint",
    "uint8": "smallint",
    "int32": "integer",
    "uint16": "integer",
    "int64": "bigint",
    "uint32": "bigint",
    "uint64": "numeric(20,0)",
    "halffloat": "real",
    "float": "real",
    "double": "double precision",
    "date32[day]": "date",
    "date64[ms]": "date",
    "string": "text",
    "large_string": "text",
    "string_view": "text",
    "null": "text",
}
#: The rule that a row breaks whose value PostgreSQL cannot hold exactly.
INEXACT = "value_fits_type"


class ParquetRows:
    """Batches of some thousand rows. A row's line is its number in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._opened: Any = None
        self.bad: list[BadRow] = []
        self.types: Mapping[str, str] = {}
        self.rows = 0

    def header(self, declared: Sequence[str]) -> list[str]:
        """The names of the file's schema, with its types.

        Raises:
            FileProblem: the file is none of Parquet, or has a column that raw cannot have.
        """
        import pyarrow as pa
        from pyarrow import parquet

        try:
            self._opened = parquet.ParquetFile(pa.PythonFile(self._file, mode="r"))
        except (pa.ArrowException, *UNREADABLE):
            raise FileProblem("it is no Parquet file, or was cut short", waits=True) from None
        schema = self._opened.schema_arrow
        self.types = {field.name: _raw_type(field.type, field.name) for field in schema}
        return list(schema.names)

    def batches(self, block: int) -> Iterator[Rows]:
        """The rows, as texts."""
        import pyarrow as pa

        try:
            for batch in self._opened.iter_batches(batch_size=_ROWS):
                lines = pa.array(range(self.rows + 1, self.rows + 1 + batch.num_rows), pa.int64())
                self.rows += batch.num_rows
                yield self._texts(batch, lines)
        except (pa.ArrowException, *UNREADABLE):
            raise FileProblem(f"it cannot be read after row {self.rows:,}: it is damaged") from None

    def _texts(self, batch: Any, lines: Any) -> Rows:
        import numpy as np
        import pyarrow as pa

        texts, lost = [], np.zeros(batch.num_rows, bool)
        for field, column in zip(batch.schema, batch.columns, strict=True):
            text, inexact = _as_text(column, field.type)
            texts.append(text)
            if inexact is not None:
                lost |= inexact
        whole = pa.record_batch(texts, names=[str(place) for place in range(len(texts))])
        if lost.any():
            for place in np.flatnonzero(lost):
                row = {name: whole.column(number)[int(place)].as_py() for number, name in enumerate(batch.schema.names)}
                document = json.dumps(row, ensure_ascii=False).replace("\\u0000", "\\\\0")
                self.bad.append(BadRow(lines[int(place)].as_py(), INEXACT, document))
            kept = pa.array(~lost)
            whole, lines = whole.filter(kept), lines.filter(kept)
        return Rows(whole, lines)


def _raw_type(kind: Any, name: str) -> str:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _raw_type(kind.value_type, name)
    if str(kind) in _PLAIN:
        return _PLAIN[str(kind)]
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return f"timestamp {'with' if kind.tz else 'without'} time zone"
    if pa.types.is_time(kind):
        return "time without time zone"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "bytea"
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return "jsonb"
    raise FileProblem(f"its column {name} is {kind}, which raw cannot have")


def _as_text(column: Any, kind: Any) -> tuple[Any, Any]:
    """The column as texts, and which of them are not exactly the value (None: all are)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(kind):
        return _as_text(column.dictionary_decode(), kind.value_type)
    raw = _raw_type(kind, "")
    if raw == "bytea":
        return pa.array([None if one is None else "\\x" + one.hex() for one in column.to_pylist()], pa.string()), None
    if raw == "jsonb":
        texts = [None if one is None else json.dumps(one, default=str) for one in column.to_pylist()]
        return pa.array(texts, pa.string()), None
    if pa.types.is_timestamp(kind):
        exact = None
        if kind.unit == "ns":
            micro = column.cast(pa.timestamp("us", kind.tz), safe=False)
            differs = pc.fill_null(pc.not_equal(micro.cast(kind, safe=False), column), False)
            exact = differs.to_numpy(zero_copy_only=False)
            column = micro
        if kind.tz:
            column = column.cast(pa.timestamp(column.type.unit, "UTC"))
        return column.cast(pa.string()), exact
    text = column.cast(pa.string())
    if raw == "text" and pc.any(pc.match_substring(text, "\0")).as_py():
        return text, pc.fill_null(pc.match_substring(text, "\0"), False).to_numpy(zero_copy_only=False)
    return text, None
