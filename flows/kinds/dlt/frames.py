"""Arrow tables and data frames of a dlt resource: their types in raw, and their values as text for COPY.

Values are exact, or their row does not fit: rows with fractions of a second beyond microseconds, years outside of 1 to
9999, or NUL characters are quarantined in full, never rounded or truncated.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flows.landing.csv import CHUNK_ROWS, to_csv
from flows.values.errors import SourceError
from flows.values.shape import METADATA_NAMES

# PostgreSQL would truncate a longer name, and two truncated names may be equal.
_LONGEST_NAME = 63
_FIRST_YEAR, _LAST_YEAR = -719_162, 2_932_896  # days from 1970-01-01 to 0001-01-01 and to 9999-12-31
_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
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
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a table: their columns with raw's types (None: only nulls, so no type is known)."""

    rows: Any
    types: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Misfit:
    """A row that raw's types cannot represent: as a JSON text, and its key's texts."""

    text: str
    key: tuple[str | None, ...]


def pieces(table: Any, where: str) -> list[Piece]:
    """The table in pieces of at most 20,000 rows; one without rows still has its columns.

    Raises:
        SourceError: a column's type or name is not possible in raw.
    """
    types = {field.name: _raw_type(field.type, field.name, where) for field in table.schema}
    taken = sorted(name for name in types if name in METADATA_NAMES or len(name.encode()) > _LONGEST_NAME)
    if taken or len(types) < len(table.schema.names):
        listed = ", ".join(taken) or "whose name occurs twice"
        raise SourceError(
            f"raw cannot have a column {listed}: the name is reserved or too long",
            where=where,
            fix="rename the column in the resource",
        )
    return [Piece(rows, types) for rows in table.to_batches(max_chunksize=CHUNK_ROWS) or [_no_rows(table.schema)]]


def _no_rows(schema: Any) -> Any:
    arrow = importlib.import_module("pyarrow")
    return arrow.RecordBatch.from_pylist([], schema=schema)


def _raw_type(kind: Any, name: str, where: str) -> str | None:
    arrow = importlib.import_module("pyarrow").types
    if arrow.is_null(kind):
        return None
    if arrow.is_dictionary(kind) or arrow.is_run_end_encoded(kind):
        return _raw_type(kind.value_type, name, where)
    if getattr(kind, "extension_name", "") == "arrow.uuid":
        return "uuid"
    if getattr(kind, "extension_name", "") == "arrow.json":
        return "json"
    if hasattr(kind, "storage_type"):
        return _raw_type(kind.storage_type, name, where)
    if str(kind) in _PLAIN:
        return _PLAIN[str(kind)]
    if arrow.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if arrow.is_timestamp(kind):
        return f"timestamp {'with' if kind.tz else 'without'} time zone"
    for is_kind, raw_type in (
        (arrow.is_time, "time without time zone"),
        (arrow.is_duration, "interval"),
        (_is_text, "text"),
        (_is_binary, "bytea"),
        (arrow.is_nested, "jsonb"),
    ):
        if is_kind(kind) and not arrow.is_union(kind):
            return raw_type
    raise SourceError(
        f"column {name} has the Arrow type {kind}, which has no equivalent in raw",
        where=where,
        fix="cast it to another type in the resource",
    )


def _is_text(kind: Any) -> bool:
    return str(kind) in {"string", "large_string", "string_view"}


def _is_binary(kind: Any) -> bool:
    return str(kind) in {"binary", "large_binary", "binary_view"} or str(kind).startswith("fixed_size_binary")


@dataclass(frozen=True, slots=True)
class Texts:
    """The rows of a piece that fit, as CSV for COPY, how many these are, and those that do not."""

    csv: bytes
    rows: int
    misfits: list[Misfit]


def texts(
    piece: Piece,
    columns: Sequence[str],
    keys: Sequence[str],
    metadata: tuple[str, str, str],
    deleted: str | None,
    encode: Callable[[Any], bytes],
) -> Texts:
    """The piece as CSV: `columns` in their order (nulls where it has none of that name), then raw's metadata.

    `deleted` is the column that marks a deleted row: true, or anything but null and false.
    """
    arrow, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    rows = piece.rows
    unfit = arrow.array([False] * rows.num_rows)
    written: dict[str, Any] = {}
    for name in columns:
        if piece.types.get(name) is None:
            written[name] = arrow.nulls(rows.num_rows, arrow.string())
            continue
        written[name], misfit = _written(rows.column(name), encode)
        if misfit is not None:
            unfit = compute.or_(unfit, compute.fill_null(misfit, False))
    extracted_at, source, batch = metadata
    constants = [arrow.repeat(arrow.scalar(value), rows.num_rows) for value in (extracted_at, source, batch)]
    gone = arrow.nulls(rows.num_rows, arrow.string())
    if deleted is not None and piece.types.get(deleted) is not None:
        says = rows.column(deleted)
        says = says if piece.types[deleted] == "boolean" else compute.is_valid(says)
        gone = compute.if_else(compute.fill_null(says, False), arrow.scalar(extracted_at), gone)
    whole = arrow.record_batch([*written.values(), *constants, gone], names=[*columns, *METADATA_NAMES])
    misfits = []
    if compute.any(unfit).as_py():
        for place in compute.indices_nonzero(unfit).to_pylist():
            key = tuple(written[name][place].as_py() if name in written else None for name in keys)
            misfits.append(Misfit(_document(rows, place, encode), key))
        whole = whole.filter(compute.invert(unfit))
    return Texts(to_csv(whole) if whole.num_rows else b"", whole.num_rows, misfits)


def _written(column: Any, encode: Callable[[Any], bytes]) -> tuple[Any, Any]:
    """A column's values as texts that PostgreSQL reads, and where one does not fit (None: all of them do)."""
    arrow, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    kinds, kind = arrow.types, column.type
    if kinds.is_dictionary(kind):
        return _written(column.dictionary_decode(), encode)
    if kinds.is_run_end_encoded(kind):
        return _written(compute.run_end_decode(column), encode)
    if getattr(kind, "extension_name", "") == "arrow.uuid":
        return arrow.array(
            [None if value is None else str(value) for value in column.to_pylist()], arrow.string()
        ), None
    if hasattr(kind, "storage_type"):
        return _written(column.storage, encode)
    if _is_text(kind):
        text = column.cast(arrow.string())
        return text, compute.match_substring(text, "\x00")
    if _is_binary(kind):
        values = [None if value is None else "\\x" + value.hex() for value in column.to_pylist()]
        return arrow.array(values, arrow.string()), None
    if kinds.is_nested(kind):
        values = [None if value is None else encode(value).decode() for value in column.to_pylist()]
        return arrow.array(values, arrow.string()), arrow.array(["\\u0000" in (text or "") for text in values])
    if kinds.is_date(kind):
        days = column.cast(arrow.date32()).cast(arrow.int32())
        unfit = _outside(days, _FIRST_YEAR, _LAST_YEAR)
        fitting = compute.if_else(unfit, arrow.scalar(None, arrow.int32()), days)
        return fitting.cast(arrow.date32()).cast(arrow.string()), unfit
    if kinds.is_timestamp(kind):
        return _moments(column)
    if kinds.is_time(kind) or kinds.is_duration(kind):
        return _lengths(column)
    if str(kind) == "halffloat":
        column = column.cast(arrow.float32())
    return column.cast(arrow.string()), None


def _outside(values: Any, lowest: int, highest: int) -> Any:
    compute = importlib.import_module("pyarrow.compute")
    return compute.or_(compute.less(values, lowest), compute.greater(values, highest))


def _microseconds(column: Any) -> tuple[Any, Any]:
    """A column of moments or lengths of time in microseconds, and where a finer fraction would be lost."""
    arrow, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    wide = arrow.int32() if column.type.bit_width == 32 else arrow.int64()
    ticks = column.cast(wide).cast(arrow.int64())
    if column.type.unit == "ns":
        whole = compute.divide(ticks, 1000)
        return whole, compute.not_equal(compute.multiply(whole, 1000), ticks)
    return compute.multiply(ticks, _DAY["us"] // _DAY[column.type.unit]), arrow.array([False] * len(column))


def _moments(column: Any) -> tuple[Any, Any]:
    arrow, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    day, kind = _DAY[column.type.unit], column.type
    beyond = arrow.array([False] * len(column))
    if kind.unit != "ns":  # 64 bits of nanoseconds end in the year 2262
        beyond = _outside(column.cast(arrow.int64()), _FIRST_YEAR * day, (_LAST_YEAR + 1) * day - 1)
    kept = compute.if_else(compute.fill_null(beyond, False), arrow.scalar(None, kind), column)
    ticks, finer = _microseconds(kept)
    text = ticks.cast(arrow.timestamp("us")).cast(arrow.string())
    if kind.tz:
        # Arrow counts in UTC whatever the zone is called.
        text = compute.binary_join_element_wise(text, "+00", "")
    return text, compute.or_(compute.fill_null(beyond, False), compute.fill_null(finer, False))


def _lengths(column: Any) -> tuple[Any, Any]:
    arrow, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    ticks, finer = _microseconds(column)
    if arrow.types.is_time(column.type):
        return ticks.cast(arrow.time64("us")).cast(arrow.string()), finer
    return compute.binary_join_element_wise(ticks.cast(arrow.string()), "microseconds", " "), finer


def _document(rows: Any, place: int, encode: Callable[[Any], bytes]) -> str:
    """A row as JSON. Moments are written as Arrow writes them, to the nanosecond, since Python's end before; lengths of
    time, and moments beyond the years 1 to 9999, whose texts Arrow gets wrong, as the number that it keeps."""
    values = {name: _whole(column[place]) for name, column in zip(rows.schema.names, rows.columns, strict=True)}
    return encode(values).decode()


def _whole(scalar: Any) -> Any:
    kinds, kind = importlib.import_module("pyarrow").types, scalar.type
    if not kinds.is_temporal(kind) or not scalar.is_valid:
        return scalar.as_py()
    day = _DAY[kind.unit] if kinds.is_timestamp(kind) else _DAY["ms"] if kinds.is_date64(kind) else 1
    dated = not kinds.is_time(kind)
    if kinds.is_duration(kind) or (dated and not _FIRST_YEAR <= scalar.value // day <= _LAST_YEAR):
        return scalar.value
    return scalar.cast("string").as_py()
