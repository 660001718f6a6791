"""The partitions that the next load overwrites, as SQL that selects their rows at the source and in raw."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING

from flows.declare.load import Overwrite
from flows.declare.partition import first_day_of_last
from flows.declare.table import Table
from flows.publish.overwrite import in_zone, partition_start
from flows.values.errors import SourceError
from flows.values.identifiers import quote_identifier, quote_literal
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
    connection: Connection[Record],
    table: Table,
    load: Overwrite,
    shape: Shape,
    following: Window,
    clock: tuple[datetime, datetime | None],
    reached: str | None,
) -> Window:
    """The rows of the partitions that the next load overwrites; `following` is what the cursor alone would read.

    Those are the last ones by the source's `clock` (now, and the start of its oldest open transaction), and everything
    after them; those that were the last ones when the last load ended (`reached`), because rows came after it; earlier
    ones in which the cursor finds a row; and rows without a partition. All rows, if the table has a cursor that has not
    been stored yet.

    Raises:
        SourceError: the type of the partition column has no days.
    """
    column = dividing_column(shape, load.by, table.name, "correct Overwrite(by=…) in flows/sources")
    now, stamp = clock
    # What an open transaction writes may belong to a partition that is over when it commits.
    seen = stamp.isoformat() if stamp is not None else reached or now.isoformat()
    following = replace(following, next=replace(following.next, identity={**following.next.identity, "reached": seen}))
    if table.cursor is not None and following.lower is None:
        return following
    name = quote_identifier(load.by)
    today = await _day(connection, now, load)
    declared = first = first_day_of_last(today, load.every, load.last)
    if reached is not None:
        then = await _day(connection, datetime.fromisoformat(reached), load)
        first = min(first, first_day_of_last(then, load.every, load.last))
    edge = partial(_edge, column, load.zone)
    earlier = [] if table.cursor is None else await _changed_before(connection, table, load, column, following, first)
    stretches = _joined(earlier)
    if len(stretches) > _MOST_STRETCHES:
        stretches = [(stretches[0][0], str(first))]
    # -infinity is in no partition either, and no date type has a value before it.
    ways = [f"{name} >= {edge(str(first))}", f"{name} is null", f"{name} = '-infinity'"]
    ways += [f"({name} >= {edge(lower)} and {name} < {edge(upper)})" for lower, upper in stretches]
    condition = f"({' or '.join(ways)})"
    return replace(
        following,
        condition=condition,
        below=condition,
        lower=stretches[0][0] if stretches else str(first),
        expected=None,
        earlier=len(earlier),
        since=str(first) if first < declared else None,
    )


async def _day(connection: Connection[Record], moment: datetime, load: Overwrite) -> date:
    """The day of a moment in the declared zone, by the source's own table of zones."""
    day: date = await connection.fetchval(
        f"select ($1::timestamptz at time zone {quote_literal(load.zone)})::date", moment
    )
    return day


def _edge(column: Column, zone: str, day: str) -> str:
    """SQL for the start of a day. Our sessions are in UTC, so a plain literal begins there."""
    if in_zone(column.raw_type, zone):
        return f"('{day}'::timestamp at time zone {quote_literal(zone)})"
    return f"'{day}'"


async def _changed_before(
    connection: Connection[Record], table: Table, load: Overwrite, column: Column, following: Window, first: date
) -> list[tuple[str, str]]:
    """Partitions before day `first` with rows that the cursor would read: their first days, and the days after them."""
    name = quote_identifier(load.by)
    changed = table.within(following.condition)
    records = await connection.fetch(
        f"select lower::date::text as lower, (lower + interval '1 {load.every}')::date::text as upper from ("
        f"select distinct {partition_start(load, column.raw_type)} as lower from {table.relation} "
        f"where {changed} and {name} < {_edge(column, load.zone, str(first))} and {name} > '-infinity') "
        "as p order by p.lower"
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
