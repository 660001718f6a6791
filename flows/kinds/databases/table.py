"""A table of a database other than PostgreSQL, from its catalogue."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from flows.declare.table import Table
from flows.kinds.columns import refuse_unknown_columns
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.types import TypedColumn, typed
from flows.values.errors import SourceError
from flows.values.shape import METADATA_NAMES, Column, Shape

# PostgreSQL would truncate a longer name, and two truncated names may be equal.
_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """A table with its columns, and the keys by which it can be read in chunks (none: it is read in one query).

    `unique`: an index at the source forbids two rows with one key.
    """

    table: Table
    columns: tuple[TypedColumn, ...]
    chunk_keys: tuple[TypedColumn, ...] = ()
    unique: bool = False

    @property
    def shape(self) -> Shape:
        """The columns of raw."""
        return Shape(tuple(Column(c.name, c.raw_type, c.select, c.nullable) for c in self.columns))

    def narrowed(self, names: Collection[str]) -> ForeignTable:
        """The same table with these columns only."""
        return replace(self, columns=tuple(column for column in self.columns if column.name in names))

    def column(self, name: str) -> TypedColumn:
        """The column of that name, which describe() has found."""
        return next(column for column in self.columns if column.name == name)

    @property
    def keys(self) -> tuple[TypedColumn, ...]:
        """The key's columns, in order."""
        return tuple(self.column(name) for name in self.table.keys)


async def describe(reader: Reader, source: str, table: Table) -> ForeignTable:
    """The table's columns, typed.

    Raises:
        SourceError: the table does not exist, a declared column is missing, or a name is not possible in raw.
    """
    dialect = reader.dialect
    where = f"{source}.{table.name}"
    found = [dialect.source_column(row) for row in await reader.rows(dialect.catalogue(table))]
    if not found:
        raise SourceError(
            f"table {table.at_source} does not exist or is not readable",
            where=where,
            fix="check the name in flows/sources, the database in the source's URL, and the user's privileges",
        )
    at_source = {column.name for column in found}
    refuse_unknown_columns(table, at_source, where)
    found = [column for column in found if table.reads(column.name)]
    names = {column.name for column in found}
    declared = [*table.keys, *([] if table.cursor_column is None else [table.cursor_column])]
    if missing := [name for name in declared if name not in names]:
        raise SourceError(
            f"the declared column {', '.join(missing)} is not in the table",
            where=where,
            fix="correct the declaration in flows/sources; names are case-sensitive",
        )
    long = sorted(name for name in names if len(name.encode()) > _LONGEST_NAME)
    if taken := [*sorted(names & set(METADATA_NAMES)), *long]:
        raise SourceError(
            f"raw cannot have a column {', '.join(taken)}: the name is reserved or too long",
            where=where,
            fix="leave it out: exclude=(…); or create a view at the source that renames it, and declare the view",
        )
    columns = tuple(
        typed(dialect.engine, column, dialect.column(column.name), as_text=column.name in table.as_text).masked(
            table.masked.get(column.name)
        )
        for column in found
    )
    described = ForeignTable(table, columns)
    if not described.keys:
        return described
    indexes: dict[str, set[str]] = {}
    for row in await reader.rows(dialect.unique_keys(table)):
        indexes.setdefault(row["name"], set()).add(row["column_name"])
    unique = any(index and index <= set(table.keys) for index in indexes.values())
    # Rows with equal keys on both sides of a chunk's edge would be lost, so the key must be unique at the source.
    chunked = unique and dialect.chunked and all(key.literal for key in described.keys)
    return ForeignTable(table, columns, described.keys if chunked else (), unique)
