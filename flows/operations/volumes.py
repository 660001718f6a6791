"""How many rows a table receives per day, compared with what is usual on that weekday.

A day is low or high if it is more than four deviations away from its weekday, by median and median absolute deviation
of the logarithms of ten weeks. With fewer than eight such weekdays the table is still being learned, and nothing is
said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows.declare.promises import freshness_of
from flows.declare.source import Source

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: So many days of one weekday must be known.
KNOWN_DAYS = 8
#: Holidays are looked up as far back as volumes are compared.
_DAYS_BACK = 70
_QUERY = Path(__file__).with_name("volumes.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Volume:
    """Rows inserted and updated in raw on one day, UTC, and the range that is usual.

    `state` is learning, usual, low or high; `known` is how many days of that weekday it is compared with.
    """

    source_system: str
    table_name: str
    day: date
    rows: int
    known: int
    usual: int | None
    lowest: int | None
    highest: int | None
    state: str

    @property
    def table(self) -> str:
        """`shop.baskets`."""
        return f"{self.source_system}.{self.table_name}"


async def volumes(
    connection: Connection[Record],
    last: date,
    days: int = 1,
    holidays: Iterable[tuple[str, str, date]] = (),
) -> list[Volume]:
    """Each table's volumes on the `days` days up to `last`, sorted by table and day.

    `holidays` are days of a table, as (source, table, day): they are not compared, and no other day is compared with
    them. A day without a load is left out: that is a matter of freshness.
    """
    free = [*holidays]
    records = await connection.fetch(
        _QUERY, last, days, [each[0] for each in free], [each[1] for each in free], [each[2] for each in free]
    )
    return [Volume(**dict(record)) for record in records]


def holidays_of(sources: Iterable[Source], last: date, days: int = 1) -> list[tuple[str, str, date]]:
    """The holidays of each table's calendar that matter for the `days` days up to `last`."""
    found = []
    for source in sources:
        for table in source.tables:
            deadline = freshness_of(source, table).expected_by
            if deadline is None or deadline.holidays is None:
                continue
            back = (last - timedelta(days=n) for n in range(days + _DAYS_BACK))
            found += [(source.name, table.name, day) for day in back if day in deadline.holidays]
    return found


def unusual(found: Sequence[Volume], last: date) -> list[tuple[Volume, bool]]:
    """The tables whose volume on the last day is low or high, each with whether the day before was so, too."""
    by_table: dict[str, list[Volume]] = {}
    for each in found:
        by_table.setdefault(each.table, []).append(each)
    results = []
    for days in by_table.values():
        if days[-1].day == last and days[-1].state in ("low", "high"):
            results.append((days[-1], len(days) > 1 and days[-2].state == days[-1].state))
    return results
