"""The first rows of a relation, without personal values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.models.relation_columns import relation_columns
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

WITHHELD = "•••"
_WITHOUT_ORDER = ("json", "xml", "point", "polygon")


@dataclass(frozen=True, slots=True)
class Preview:
    """The first rows of a relation as text, null as None. Values of `withheld` columns are never read."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str | None, ...], ...]
    count: int
    withheld: frozenset[str]


async def preview_rows(
    connection: Connection[Record], schema: str, table: str, *, limit: int, show: Collection[str] | None = None
) -> Preview:
    """Columns with types, the number of rows, and the first rows in the order of the first column.

    Only values of the columns in `show` are read; None: of all columns.
    """
    columns = await relation_columns(connection, schema, table)
    withheld = frozenset(name for name in columns if show is not None and name not in show)
    shown = [
        # Null stays null: whether there is a value is not secret, and half of all mistakes are nulls.
        f"case when {quote_identifier(name)} is not null then '{WITHHELD}' end"
        if name in withheld
        else f"{quote_identifier(name)}::text"
        for name in columns
    ]
    first = next(iter(columns), None)
    order = ""
    if first and first not in withheld and not columns[first].startswith(_WITHOUT_ORDER):
        order = f"order by first_rows.{quote_identifier(first)}"
    rows = await connection.fetch(
        f"select {', '.join(shown) or '1'} from {qualified(schema, table)} as first_rows {order} limit $1", limit
    )
    count = await connection.fetchval(f"select count(*) from {qualified(schema, table)}")
    return Preview(
        f"{schema}.{table}",
        tuple(columns.items()),
        tuple(tuple(row.values()) for row in rows),
        int(count or 0),
        withheld,
    )
