"""A read cut into steps, so that any run of steps is a condition in SQL: chunks are runs of steps.

Steps are pages of the table, or the spaces between edges: keys (or pairs of cursor and key) that lie so many rows
apart. Equal cursor values across an edge are told apart by the key, so no row is in two steps or in none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flows.declare.database import Table
from flows.values.identifiers import qualified, quote_identifier, quote_literal
from flows.values.shape import column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Edges are held in memory and in the ledger; this many cut a billion rows into steps of 250,000.
MOST_EDGES = 4096

Edge = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """`steps` steps along pages, or along `columns` with `edges` between them.

    The first step has no lower bound and the last no upper one, so that together they are the whole table whatever
    was written since the edges were laid.
    """

    by: Literal["page", "key", "cursor"]
    steps: int
    columns: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    file: int | None = None

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Grid:
        """The grid that `dataclasses.asdict` gave, after a way through JSON."""
        edges = tuple(tuple(edge) for edge in facts["edges"])
        return cls(facts["by"], facts["steps"], tuple(facts["columns"]), edges, facts["file"])

    def condition(self, lower: int, upper: int) -> str:
        """SQL for the steps from `lower` up to and without `upper`."""
        bounds = []
        if self.by == "page":
            if lower > 0:
                bounds.append(f"ctid >= '({lower},0)'")
            if upper < self.steps:
                bounds.append(f"ctid < '({upper},0)'")
        else:
            if lower > 0:
                bounds.append(self._beyond(lower, nulls=self.by == "cursor" and upper == self.steps))
            if upper < self.steps:
                bounds.append(f"not {self._beyond(upper)}")
        return " and ".join(bounds) or "true"

    def _beyond(self, step: int, *, nulls: bool = False) -> str:
        # Rows without a cursor value are beyond every edge: they come with the last step.
        edge = beyond(self.columns, self.edges[step - 1])
        return f"({edge} or {quote_identifier(self.columns[0])} is null)" if nulls else edge


def beyond(columns: tuple[str, ...], edge: Edge) -> str:
    """SQL for the rows after the edge; null for rows without a value in the first column."""
    # Literals without a type take the columns' own: an enum at the source has another name in raw.
    values = ", ".join(quote_literal(value) for value in edge)
    return f"(({column_list(columns)}) > ({values}))"


async def share_snapshot(connection: Connection[Record], table: Table) -> str:
    """The name under which other connections read in this transaction's snapshot, while it lasts.

    The table is locked against a change of its columns for as long.
    """
    # This transaction is idle for as long as the others read.
    await connection.execute("set local idle_in_transaction_session_timeout = 0")
    await connection.execute(f"lock table {qualified(table.schema, table.name)} in access share mode")
    return str(await connection.fetchval("select pg_export_snapshot()"))


def page_grid(pages: int, file: int | None) -> Grid:
    """Steps of one page each."""
    return Grid("page", max(1, pages), file=file)


async def edge_grid(
    connection: Connection[Record],
    table: Table,
    by: Literal["key", "cursor"],
    columns: tuple[str, ...],
    condition: str,
    rows_apart: int,
) -> Grid:
    """Edges every `rows_apart` rows under the condition, in the order of the columns.

    One pass over the index on the columns, or one sort of them; the rows themselves are not read.
    """
    relation, order = qualified(table.schema, table.name), column_list(columns)
    texts = ", ".join(f"{quote_identifier(name)}::text" for name in columns)
    records = await connection.fetch(
        f"select {texts} from (select {order}, row_number() over (order by {order}) as place "
        f"from {relation} where {condition}) as o where place % $1 = 0 order by place",
        max(1, rows_apart),
    )
    edges = tuple(tuple(str(value) for value in record.values()) for record in records)
    if by == "cursor":
        edges = _distinct(edges)
    return Grid(by, len(edges) + 1, columns, edges)


def _distinct(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """Without a key equal values stand on both sides of an edge, which then belongs to the lower one."""
    return tuple(dict.fromkeys(edges))
