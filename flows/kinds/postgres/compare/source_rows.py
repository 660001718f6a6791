"""A source table's rows for comparison: all of them, or those of given keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.declare.table import Table
from flows.values.checksum import Key, RowSet, key_among
from flows.values.identifiers import quote_identifier
from flows.values.shape import Shape, row_document

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def row_set(table: Table, shape: Shape, condition: str = "true", *, portable: bool = False) -> RowSet:
    """The source's rows, in raw's types; without those that raw cannot have."""
    if shape.undecodable:
        condition = f"({condition}) and not ({shape.undecodable})"
    return RowSet(
        table.relation,
        tuple(column.select for name in table.keys if (column := shape.column(name))),
        tuple(column.select for column in shape.columns),
        table.within(condition),
        portable,
    )


def among(table: Table, shape: Shape, keys: Sequence[Key]) -> str:
    """SQL over the source table: its key is one of these."""
    columns = [column for name in table.keys if (column := shape.column(name))]
    # Raw's enums do not exist at the source; their text is the same.
    return key_among(
        [f"{column.select}::text" if column.enum else column.select for column in columns],
        ["text" if column.enum else column.raw_type for column in columns],
        keys,
    )


@dataclass(frozen=True, slots=True)
class Version:
    """A source row: whether the next load reads it by its cursor, and its digests as in quarantine."""

    waits: bool
    digests: frozenset[str]


async def versions(
    connection: Connection[Record],
    table: Table,
    shape: Shape,
    keys: Sequence[Key],
    next_read: str,
    documents: Sequence[Shape] = (),
) -> dict[Key, list[Version]]:
    """The source's rows of these keys, without deleted ones. `next_read` is the next load's condition.

    `documents`: the column sets with which quarantine may have stored the row, for one digest each.
    """
    condition = among(table, shape, [key for key in keys if None not in key])
    if any(None in key for key in keys):
        condition += "".join(f" or {quote_identifier(name)} is null" for name in table.keys)
    texts = ", ".join(f"({column.select})::text" for name in table.keys if (column := shape.column(name)))
    relation = table.relation
    digests = ", ".join(f"md5({row_document(columns)}::text)" for columns in documents)
    records = await connection.fetch(
        f"select array[{texts}] as key, coalesce({next_read}, false) as waits, array[{digests}]::text[] as digests "
        f"from {relation} where {table.within(condition)}"
    )
    found: dict[Key, list[Version]] = {}
    for record in records:
        found.setdefault(tuple(record["key"]), []).append(Version(record["waits"], frozenset(record["digests"])))
    return found
