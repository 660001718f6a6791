"""A read divided into steps; a chunk is a range of steps, expressed as an SQL condition.

Steps are pages of the table, or the intervals between edges: keys (or pairs of cursor and key) that are so many rows
apart. The key separates equal cursor values at an edge, so each row is in exactly one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flows.declare.table import Table
from flows.kinds.postgres.large.volume import Volume
from flows.values.errors import SourceUnavailable
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import LoadPlan
from flows.values.shape import column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Edges are kept in memory and in the ledger; this many divide a billion rows into steps of 250,000.
MOST_EDGES = 4096

Edge = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """`steps` steps along pages, or along `columns` with `edges` between them.

    The first step has no lower bound and the last no upper one, so that together they cover the full table whatever
    was written since the edges were chosen. `apart`: rows between two edges.
    """

    by: Literal["page", "key", "cursor"]
    steps: int
    columns: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    file: int | None = None
    apart: int = 0

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Grid:
        """The grid from the JSON of `dataclasses.asdict`."""
        edges = tuple(tuple(edge) for edge in facts["edges"])
        return cls(facts["by"], facts["steps"], tuple(facts["columns"]), edges, facts["file"], facts.get("apart", 0))

    def condition(self, lower: int, upper: int) -> str:
        """SQL for the steps from `lower` (inclusive) to `upper` (exclusive)."""
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
        # Rows without a cursor value are beyond every edge: they belong to the last step.
        edge = beyond(self.columns, self.edges[step - 1])
        return f"({edge} or {quote_identifier(self.columns[0])} is null)" if nulls else edge


def beyond(columns: tuple[str, ...], edge: Edge) -> str:
    """SQL for the rows after the edge; null for rows without a value in the first column."""
    # Untyped literals take the columns' types: an enum at the source has another name in raw.
    values = ", ".join(quote_literal(value) for value in edge)
    return f"(({column_list(columns)}) > ({values}))"


async def share_snapshot(connection: Connection[Record]) -> str:
    """Export this transaction's snapshot for other connections; returns its name."""
    # This transaction is idle while the others read.
    await connection.execute("set local idle_in_transaction_session_timeout = 0")
    return str(await connection.fetchval("select pg_export_snapshot()"))


async def refuse_rewritten(connection: Connection[Record], table: Table, plan: LoadPlan, volume: Volume) -> None:
    """Raises:
    SourceUnavailable: the table was rewritten since the read was planned, so that rows are on other pages.
    """
    if plan.reading.by != "page":
        return
    if (
        await connection.fetchval("select pg_relation_filenode(to_regclass($1))::bigint", table.catalogued)
        != volume.file
    ):
        raise SourceUnavailable(
            "the table was rewritten while the load began",
            where=f"{plan.source}.{plan.table}",
            fix="the load is retried automatically, and planned again",
            retryable=True,
        )


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
    relation, order = table.relation, column_list(columns)
    texts = ", ".join(f"{quote_identifier(name)}::text" for name in columns)
    records = await connection.fetch(
        f"select {texts} from (select {order}, row_number() over (order by {order}) as place "
        f"from {relation} where {table.within(condition)}) as o where place % $1 = 0 order by place",
        max(1, rows_apart),
    )
    edges = tuple(tuple(str(value) for value in record.values()) for record in records)
    if by == "cursor":
        edges = _distinct(edges)
    return Grid(by, len(edges) + 1, columns, edges, apart=rows_apart)


def _distinct(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """Without a key, equal values are on both sides of an edge, which then belongs to the lower step."""
    return tuple(dict.fromkeys(edges))
