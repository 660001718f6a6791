"""Reads of a foreign table: counts, rows as Arrow batches of texts, and rows that do not fit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from flows.kinds.databases.connection import Reader
from flows.kinds.databases.masks import completed, masked, ways
from flows.kinds.databases.table import ForeignTable
from flows.kinds.databases.types import AS_TEXT, TypedColumn
from flows.kinds.databases.window import Bounds
from flows.landing.csv import CHUNK_ROWS

# A type's text is shorter than this, unless its catalogue entry says how long it is.
_SCALAR_OCTETS = 512


@dataclass(frozen=True, slots=True)
class Measure:
    """Counts of one snapshot: rows that raw must have, rows to read, rows that do not fit per column; and the longest
    text, in bytes."""

    below: int
    rows: int
    unfit: dict[str, int]
    longest: int


async def has_value_outside(reader: Reader, described: ForeignTable, names: Sequence[str], condition: str) -> bool:
    """Whether a row outside the condition holds a value in one of the columns."""
    filled = " or ".join(f"{reader.dialect.column(name)} is not null" for name in names)
    outside = f"({filled}) and case when {condition} then 1 else 0 end = 0"
    return bool(await reader.rows(reader.dialect.limited("1 as found", described.table, outside, "1", 1)))


async def count(reader: Reader, described: ForeignTable, condition: str) -> int:
    """Rows of the table under the condition."""
    (row,) = await reader.rows(
        f"select count(*) as n from {reader.dialect.relation(described.table)} where {condition}"
    )
    return int(row["n"])


async def measure(reader: Reader, described: ForeignTable, bounded: Bounds) -> Measure:
    """All counts before reading, in one scan of the table."""
    dialect = reader.dialect
    unfit = [column for column in described.columns if column.unfit]
    wide = [column for column in described.columns if column.wide and dialect.engine != "sqlite"]
    parts = ["count(*) as n", f"sum(case when {bounded.condition} then 1 else 0 end) as to_read"]
    parts += [
        f"sum(case when {bounded.condition} and {column.unfit} then 1 else 0 end) as u{place}"
        for place, column in enumerate(unfit)
    ]
    parts += [
        f"max(case when {bounded.condition} then {dialect.octets(column.select)} end) as w{place}"
        for place, column in enumerate(wide)
    ]
    (row,) = await reader.rows(
        f"select {', '.join(parts)} from {dialect.relation(described.table)} where {bounded.below}"
    )
    lengths = [int(row[f"w{place}"] or 0) for place in range(len(wide))]
    # Two hex digits a byte, or up to three bytes of UTF-8 for two of another character set.
    lengths += [column.octets * 2 + 2 for column in described.columns if not column.wide]
    return Measure(
        below=int(row["n"]),
        rows=int(row["to_read"] or 0),
        unfit={column.name: int(row[f"u{place}"] or 0) for place, column in enumerate(unfit) if row[f"u{place}"]},
        longest=max(_SCALAR_OCTETS, *lengths),
    )


def fits(columns: Sequence[TypedColumn]) -> str:
    """The condition under which a row's values fit their columns in raw."""
    return " and ".join(f"not {column.unfit}" for column in columns if column.unfit) or "1 = 1"


async def texts(
    reader: Reader,
    described: ForeignTable,
    columns: Sequence[TypedColumn],
    condition: str,
    longest: int,
    limit: int | None = None,
) -> AsyncGenerator[Any, None]:
    """The rows under the condition, `limit` at most, as Arrow batches of text columns, masked as declared.

    If the driver buffers full results, in chunks by key within the snapshot, so that memory is constant.
    """
    dialect, table = reader.dialect, described.table
    selected = ", ".join(f"{column.select} as c{place}" for place, column in enumerate(columns))
    keys, made = described.chunk_keys, ways(columns)
    if not keys:
        query = f"select {selected} from {dialect.relation(table)} where {condition}"
        if limit is not None:
            # A limit belongs to the whole of a union, if it is not in a subquery.
            query = f"select * from ({dialect.some(selected, table, condition, limit)}) as limited"
        header = dialect.engine == "sqlite"
        if header:
            # ADBC types a column by its first batch, and nulls would be typed as numbers: a row of texts comes first.
            query = f"select {', '.join(chr(39) * 2 + f' as c{n}' for n in range(len(columns)))} union all {query}"
        async for batch in reader.batches(query, longest=longest):
            yield masked(batch.slice(1) if header else batch, made)
            header = False
        return
    selected += "".join(f", {key.select} as k{place}" for place, key in enumerate(keys))
    order = ", ".join(dialect.column(key.name) for key in keys)
    after, rows, most, left = "1 = 1", 0, 0, limit
    while rows == most and left != 0:
        rows, last, most = 0, None, CHUNK_ROWS if left is None else min(left, CHUNK_ROWS)
        query = dialect.limited(selected, table, f"({condition}) and ({after})", order, most)
        async for batch in reader.batches(query, longest=longest):
            rows += batch.num_rows
            if batch.num_rows:
                last = [batch.column(len(columns) + place)[-1].as_py() for place in range(len(keys))]
                yield masked(batch.select(range(len(columns))), made)
        left = None if left is None else left - rows
        if last is not None:
            after = _beyond(reader, keys, last)


def _beyond(reader: Reader, keys: Sequence[TypedColumn], last: Sequence[str]) -> str:
    """Keys after the last one. Expanded, because MySQL cannot use a range for `(a, b) > (1, 2)`."""
    dialect, same, ways = reader.dialect, "", []
    for key, value in zip(keys, last, strict=True):
        quoted = dialect.column(key.name)
        literal = value if key.literal == "number" else dialect.literal(value)
        ways.append(f"({same}{quoted} > {literal})")
        same += f"{quoted} = {literal} and "
    return " or ".join(ways)


async def documents(
    reader: Reader, described: ForeignTable, condition: str, most: int
) -> list[tuple[str, tuple[str | None, ...]]]:
    """Rows that do not fit, each as a JSON text and its key's texts, masked as declared."""
    dialect = reader.dialect
    made = dict(zip((column.name for column in described.columns), ways(described.columns), strict=True))
    aside = {name: way for name, way in made.items() if way is not None}
    plain = {column.name: column.select if not column.unfit else _plain(reader, column) for column in described.columns}
    keys = [f"{plain[key.name]} as k{place}" for place, key in enumerate(described.keys)]
    hidden = [f"{plain[name]} as m{place}" for place, name in enumerate(aside)]
    document = dialect.document({name: text for name, text in plain.items() if name not in aside})
    selected = ", ".join([f"{document} as document", *keys, *hidden])
    wide = dialect.octets(dialect.document(plain))
    longest = 0
    if dialect.engine != "sqlite":
        (row,) = await reader.rows(
            f"select max({wide}) as longest from {dialect.relation(described.table)} where {condition}"
        )
        longest = int(row["longest"] or 0)
    query = dialect.limited(selected, described.table, condition, "1", most)
    found: list[tuple[str, tuple[str | None, ...]]] = []
    async for batch in reader.batches(query, longest=max(_SCALAR_OCTETS, longest)):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            texts = [None if value is None else str(value) for value in values]
            of_key = [
                text if text is None or (way := aside.get(key.name)) is None else way(text)
                for key, text in zip(described.keys, texts[1:], strict=False)
            ]
            withheld = dict(zip(aside, texts[1 + len(keys) :], strict=True))
            found.append((completed(str(texts[0]), withheld, aside), tuple(of_key)))
    return found


def _plain(reader: Reader, column: TypedColumn) -> str:
    return AS_TEXT[reader.dialect.engine].select.format(c=reader.dialect.column(column.name))
