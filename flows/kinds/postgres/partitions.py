"""The partitions that the next load overwrites, as SQL that selects their rows at the source and in raw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flows.declare.database import Table
from flows.declare.load import Overwrite
from flows.declare.partition import first_day_of_last
from flows.values.errors import SourceError
from flows.values.identifiers import quote_identifier
from flows.values.plan import Window
from flows.values.shape import Column, Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_DAYS = ("date", "timestamp")
# With more separate ranges than this, a single range from the first one on is cheaper.
_MOST_STRETCHES = 100


def dividing_column(shape: Shape, column: str, where: str, fix: str) -> Column:
    """The partition column.

    Raises:
        SourceError: it does not exist, or its type has no days.
    """
    found = shape.column(column)
    if found is None:
        raise SourceError(f"the partition column {column} does not exist", where=where, fix=fix)
    if not found.raw_type.startswith(_DAYS):
        raise SourceError(
            f"column {column} has type {found.raw_type}, which cannot be partitioned by day",
            where=where,
            fix="name a column of type date, timestamp or timestamp with time zone",
        )
    return found


async def partition_window(
    connection: Connection[Record], table: Table, load: Overwrite, shape: Shape, following: Window
) -> Window:
    """The rows of the partitions that the next load overwrites; `following` is what the cursor alone would read.

    Those are the last ones by the source's clock, and everything after them; earlier ones in which the cursor finds a
    row; and rows without a partition. All rows, if the table has a cursor that has not been stored yet.

    Raises:
        SourceError: the type of the partition column has no days.
    """
    dividing_column(shape, load.by, table.name, "correct Overwrite(by=…) in flows/sources")
    if table.cursor is not None and following.lower is None:
        return following
    name = quote_identifier(load.by)
    today = await connection.fetchval("select (clock_timestamp() at time zone 'UTC')::date")
    first = first_day_of_last(today, load.every, load.last)
    earlier = [] if table.cursor is None else await _changed_before(connection, table, load, following, str(first))
    stretches = _joined(earlier)
    if len(stretches) > _MOST_STRETCHES:
        stretches = [(stretches[0][0], str(first))]
    # -infinity is in no partition either, and no date type has a value before it.
    ways = [f"{name} >= '{first}'", f"{name} is null", f"{name} = '-infinity'"]
    ways += [f"({name} >= '{lower}' and {name} < '{upper}')" for lower, upper in stretches]
    condition = f"({' or '.join(ways)})"
    return replace(
        following,
        condition=condition,
        below=condition,
        lower=stretches[0][0] if stretches else str(first),
        expected=None,
        earlier=len(earlier),
    )


async def _changed_before(
    connection: Connection[Record], table: Table, load: Overwrite, following: Window, first: str
) -> list[tuple[str, str]]:
    """Partitions before day `first` with rows that the cursor would read: their first days, and the days after them."""
    name = quote_identifier(load.by)
    records = await connection.fetch(
        f"select lower::date::text as lower, (lower + interval '1 {load.every}')::date::text as upper from ("
        f"select distinct date_trunc('{load.every}', {name}) as lower from {table.relation} "
        f"where {following.condition} and {name} < '{first}' and {name} > '-infinity') as p order by p.lower"
    )
    return [(record["lower"], record["upper"]) for record in records]


def _joined(partitions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Adjacent partitions as one range."""
    stretches: list[tuple[str, str]] = []
    for lower, upper in partitions:
        if stretches and stretches[-1][1] == lower:
            stretches[-1] = (stretches[-1][0], upper)
        else:
            stretches.append((lower, upper))
    return stretches
