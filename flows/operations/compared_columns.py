"""Compares the columns of tables that were loaded with earlier days, once per day, and keeps what is unusual."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows.operations.anomalies import OF_COLUMNS, Acceptance, Anomaly, acceptances, baseline, record
from flows.operations.columns import ColumnDay, Compared, compare
from flows.operations.usual import DAYS_BACK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_ROLL_UP = Path(__file__).with_name("profile_days.sql").read_text(encoding="utf-8")
_FIELDS = tuple(ColumnDay.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class _Due:
    source: str
    table: str
    day: date


async def roll_up(connection: Connection[Record], first: date, last: date) -> None:
    """Sum up the profiles of days into `ops.profile_days`, where that is missing. A day must be over."""
    await connection.execute(_ROLL_UP, first, last)


async def compare_columns(
    connection: Connection[Record],
    first: date,
    last: date,
    holidays: Collection[tuple[str, str, date]] = (),
    seconds: float = 5.0,
) -> int:
    """Compare what was not compared yet of these days, oldest first, for about so long; returns how many are left.

    70 days of 15 columns take 50 ms of a core. `holidays` as for volumes: (source, table, day).
    """
    until = time.monotonic() + seconds
    for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
        await roll_up(connection, day, day)
    rows = await connection.fetch(
        "select distinct source_system, table_name, day from ops.profile_days "
        "where compared_at is null and day between $1 and $2 order by day, source_system, table_name",
        first,
        last,
    )
    due = [_Due(row["source_system"], row["table_name"], row["day"]) for row in rows]
    for place, each in enumerate(due):
        if time.monotonic() > until:
            return len(due) - place
        await _compare_day(connection, each, {day for *table, day in holidays if table == [each.source, each.table]})
    return 0


async def _compare_day(connection: Connection[Record], due: _Due, holidays: Collection[date]) -> None:
    columns = await history(connection, due.source, due.table, due.day - timedelta(days=DAYS_BACK), due.day)
    accepted = await acceptances(connection, due.source, due.table)
    found: list[Anomaly] = []
    for column, days in columns.items():
        if days[-1].day == due.day and due.day not in holidays:
            usual_days = [day for day in days[:-1] if day.day not in holidays]
            found += [_anomaly(due, column, each) for each in unusual(column, usual_days, days[-1], accepted)]
    before = await connection.fetchval(
        "select max(day) from ops.profile_days where source_system = $1 and table_name = $2 and day < $3",
        due.source,
        due.table,
        due.day,
    )
    former = await connection.fetch(
        "select column_name, measure, state from ops.anomalies "
        "where source_system = $1 and table_name = $2 and day = $3",
        due.source,
        due.table,
        before,
    )
    repeated = {tuple(row.values()) for row in former}
    async with connection.transaction():
        await record(
            connection,
            [replace(each, again=(each.column_name, each.measure, each.state) in repeated) for each in found],
        )
        await connection.execute(
            "update ops.profile_days set compared_at = clock_timestamp() "
            "where source_system = $1 and table_name = $2 and day = $3",
            due.source,
            due.table,
            due.day,
        )


def unusual(
    column: str, earlier: Sequence[ColumnDay], today: ColumnDay, accepted: Sequence[Acceptance] = ()
) -> list[Compared]:
    """The measures by which a column is unusual today."""
    # Most columns were never accepted: one pass for all measures.
    firsts = {measure: baseline(accepted, column, measure) for measure in OF_COLUMNS}
    found = []
    for first in {*firsts.values()}:
        known = [each for each in earlier if each.day >= first]
        found += [
            each
            for each in compare(known, today)
            if firsts[each.measure] == first and each.state not in ("learning", "usual")
        ]
    return found


async def history(
    connection: Connection[Record], source: str, table: str, first: date, last: date
) -> dict[str, list[ColumnDay]]:
    """The days of a table by column, the oldest first."""
    rows = await connection.fetch(
        f"select column_name, {', '.join(_FIELDS)} from ops.profile_days "
        "where source_system = $1 and table_name = $2 and day between $3 and $4 order by column_name, day",
        source,
        table,
        first,
        last,
    )
    columns: dict[str, list[ColumnDay]] = defaultdict(list)
    for row in rows:
        columns[row["column_name"]].append(ColumnDay(*(row[name] for name in _FIELDS)))
    return columns


def _anomaly(due: _Due, column: str, found: Compared) -> Anomaly:
    return Anomaly(
        due.source,
        due.table,
        due.day,
        column,
        found.measure,
        found.state,
        found.value,
        found.usual,
        found.lowest,
        found.highest,
        found.known,
    )
