"""Whether the columns of tables look as usual, and whether their rows arrive as usual.

    columns unusual   nulls, distinct values, distribution or categories of a column, on the last complete day
    arrival unusual   a table's first rows of today are later than on this weekday before

One such day is information. The second in a row, of the same column and measure, is a warning, which the default route
sends. All that is unusual of a table is one incident.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from flows.declare.source import Source
from flows.operations.alerts import Condition
from flows.operations.anomalies import Anomaly, anomalies, clock, record
from flows.operations.arrivals import Arrival, arrivals
from flows.operations.compared_columns import compare_columns
from flows.operations.volumes import holidays_of
from flows.sources import SOURCES

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_COLUMNS = "columns unusual"
_ARRIVAL = "arrival unusual"
#: How many days back days are compared that were not yet, and alerts stay of tables that were not loaded since.
_DAYS_BACK = 4
_SHOWN = 5
_FIX = (
    "`medallion anomalies show {table}`, and compare with the source; if the change is right, "
    "`medallion anomalies accept {table} --reason …`"
)


def cause(table: str) -> str:
    """What all unusual things of a table have in common: they are one incident."""
    return f"{table}: unusual data"


async def columns_unusual(
    connection: Connection[Record], now: datetime, sources: Iterable[Source] = SOURCES
) -> list[Condition]:
    """Tables with unusual columns on their last day of the last four, UTC, that nobody has accepted."""
    last = now.astimezone(UTC).date() - timedelta(days=1)
    first = last - timedelta(days=_DAYS_BACK - 1)
    await compare_columns(connection, first, last, holidays_of(sources, last, _DAYS_BACK))
    return await open_columns(connection, now)


async def open_columns(connection: Connection[Record], now: datetime, table: str | None = None) -> list[Condition]:
    """The same of what was compared already."""
    first = now.astimezone(UTC).date() - timedelta(days=_DAYS_BACK)
    newest = {
        (row["source_system"], row["table_name"]): row["day"]
        for row in await connection.fetch(
            "select source_system, table_name, max(day) as day from ops.profile_days "
            "where day >= $1 and compared_at is not null group by 1, 2",
            first,
        )
    }
    found = [
        each
        for each in await anomalies(connection, first, table=table, accepted=False)
        if each.column_name and each.day == newest.get((each.source_system, each.table_name))
    ]
    found.sort(key=lambda each: (each.table, not each.again, each.column_name))
    return [_columns(table, [*those]) for table, those in groupby(found, key=lambda each: each.table)]


async def arrival_unusual(
    connection: Connection[Record], now: datetime, sources: Iterable[Source] = SOURCES
) -> list[Condition]:
    """Tables whose first rows of today are late. Until they are expected, yesterday's lateness stays."""
    today = now.astimezone(UTC).date()
    found = []
    for days in await arrivals(connection, now, holidays_of(sources, today, 2)):
        decided = [each for each in days if each.state != "expected"]
        if not decided or not decided[-1].is_late:
            continue
        again = len(decided) > 1 and decided[-2].is_late
        if (late := decided[-1]).minutes is not None:
            await record(connection, [_kept(late, late.minutes, again=again)])
        found.append(_arrival(late, again=again))
    return found


def _columns(table: str, found: Sequence[Anomaly]) -> Condition:
    again = any(each.again for each in found)
    shown = "; ".join(f"{each.column_name}: {each.what}" for each in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Condition(
        _COLUMNS,
        table,
        "warning" if again else "info",
        f"on {found[0].day:%Y-%m-%d}{', as on the day before' if again else ''}: {shown}{more}",
        _FIX.format(table=table),
        source=found[0].source_system,
        table=found[0].table_name,
        cause=cause(table),
    )


def _arrival(late: Arrival, *, again: bool) -> Condition:
    table = f"{late.source_system}.{late.table_name}"
    came = "no rows yet" if late.minutes is None else f"first rows at {clock(late.minutes)} UTC"
    return Condition(
        _ARRIVAL,
        table,
        "warning" if again else "info",
        f"{came} on {late.day:%Y-%m-%d}, usually until {clock(late.usual.highest)} UTC on that weekday"
        + (", and so it was the day before" if again else ""),
        f"`medallion status` shows whether loads run; then ask the source's owner. If it is right, "
        f"`medallion anomalies accept {table} --reason …`",
        source=late.source_system,
        table=late.table_name,
        cause=cause(table),
    )


def _kept(late: Arrival, minutes: float, *, again: bool) -> Anomaly:
    return Anomaly(
        late.source_system,
        late.table_name,
        late.day,
        "",
        "arrival",
        "late",
        minutes,
        late.usual.center,
        0.0,
        late.usual.highest,
        late.usual.known,
        again,
    )
