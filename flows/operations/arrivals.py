"""When a table's first rows arrive on a day, compared with what is usual on that weekday.

Only the loads that brought rows count: a source that is late is loaded in time, without rows. Being early is not
unusual, and less than 80 minutes late neither: daylight saving moves a source by an hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from flows.operations.usual import DAYS_BACK, Usual, usual

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: A deviation is at least so many minutes, and four of them are late.
LEAST_MINUTES = 20.0
_DAY = 24 * 60.0
_QUERY = """
select
    l.source_system,
    l.table_name,
    (l.finished_at at time zone 'UTC')::date as day,
    extract(epoch from min(l.finished_at) - date_trunc('day', min(l.finished_at), 'UTC'))::float8 / 60 as minutes
from ops.loads as l
where
    l.status = 'published'
    and l.strategy not in ('initial', 'reload', 'backfill', 'repair', 'limited', 'replay')
    and coalesce(l.rows_inserted, 0) + coalesce(l.rows_updated, 0) > 0
    and l.finished_at >= $1::date::timestamp at time zone 'UTC'
    and l.finished_at <= $2
    and not exists (
        select from ops.acceptances as a
        where
            a.source_system = l.source_system
            and a.table_name = l.table_name
            and a.column_name is null
            and coalesce(a.measure, 'arrival') = 'arrival'
            and a.since > (l.finished_at at time zone 'UTC')::date
    )
group by 1, 2, 3
order by 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A table's first rows of a day, in minutes after midnight, UTC. `state`: learning, in time, late, or expected."""

    source_system: str
    table_name: str
    day: date
    minutes: float | None
    usual: Usual
    state: Literal["learning", "in time", "late", "expected"]

    @property
    def is_late(self) -> bool:
        """Whether it is late, or came late."""
        return self.state == "late"


async def arrivals(
    connection: Connection[Record], now: datetime, holidays: Collection[tuple[str, str, date]] = ()
) -> list[list[Arrival]]:
    """Yesterday's and today's arrivals of each table, as of now; a holiday, or a day off, is left out.

    What did not arrive yesterday is a matter of freshness; what has not arrived today is late once it usually has.
    """
    today = now.astimezone(UTC).date()
    rows = await connection.fetch(_QUERY, today - timedelta(days=DAYS_BACK + 1), now)
    tables: dict[tuple[str, str], list[tuple[date, float]]] = defaultdict(list)
    for row in rows:
        if (row["source_system"], row["table_name"], row["day"]) not in holidays:
            tables[row["source_system"], row["table_name"]].append((row["day"], row["minutes"]))
    found = []
    for (source, table), days in tables.items():
        results = []
        for day in (today - timedelta(days=1), today):
            if (source, table, day) in holidays:
                continue
            minutes = dict(days).get(day)
            known = usual_arrival(days, day)
            if minutes is None and day < today:
                continue
            passed = (now.astimezone(UTC) - datetime(day.year, day.month, day.day, tzinfo=UTC)) / timedelta(minutes=1)
            results.append(Arrival(source, table, day, minutes, known, _state(known, minutes, passed)))
        found.append(results)
    return found


def usual_arrival(days: Sequence[tuple[date, float]], day: date) -> Usual:
    """What is usual on the weekday of `day`, from the days before it."""
    first = day - timedelta(days=DAYS_BACK)
    return usual([each for each in days if first <= each[0] < day], day, LEAST_MINUTES)


def _state(known: Usual, minutes: float | None, passed: float) -> Literal["learning", "in time", "late", "expected"]:
    if known.is_learning:
        return "learning"
    if (passed if minutes is None else minutes) > min(known.highest, _DAY):
        return "late"
    return "expected" if minutes is None else "in time"
