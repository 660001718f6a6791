"""A table's quality over time: rows and checks by day, and how its columns changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING

from flows.operations.columns import ColumnDay, kolmogorov_smirnov, total_variation
from flows.operations.compared_columns import history, roll_up

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class QualityDay:
    """A table on one day: a row of `ops.quality_by_day`."""

    dataset: str
    day: date
    loads: int
    refused_loads: int
    rows_read: int
    rows_refused: int
    checks: int
    checks_warned: int
    checks_failed: int
    score: float | None
    unusual_columns: int
    unusual_volume: bool
    unusual_arrival: bool


@dataclass(frozen=True, slots=True)
class ColumnTrend:
    """A column by day, one value per day shown; None: it was not loaded.

    `drift` is the share of rows that would need another value to be distributed as on the median day.
    """

    name: str
    nulls: Sequence[float | None]
    distinct: Sequence[float | None]
    drift: Sequence[float | None]


async def quality_days(connection: Connection[Record], dataset: str, first: date, last: date) -> list[QualityDay]:
    """The table's days, the oldest first."""
    names = ", ".join(QualityDay.__dataclass_fields__)
    records = await connection.fetch(
        f"select {names} from ops.quality_by_day where dataset = $1 and day between $2 and $3 order by day",
        dataset,
        first,
        last,
    )
    return [QualityDay(**dict(record)) for record in records]


async def column_trends(
    connection: Connection[Record], source: str, table: str, first: date, last: date
) -> list[ColumnTrend]:
    """The table's columns by day, in order of their names. The last day must be over."""
    await roll_up(connection, first, last)
    columns = await history(connection, source, table, first, last)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [_trend(name, found, days) for name, found in columns.items()]


def _trend(name: str, found: Sequence[ColumnDay], days: Sequence[date]) -> ColumnTrend:
    by_day = {each.day: each for each in found}
    quantiles = _middle([each.quantiles for each in found if each.quantiles])
    shares = _middle([each.shares for each in found if each.shares])
    drift = {
        each.day: max(
            kolmogorov_smirnov(each.quantiles, quantiles) if each.quantiles and quantiles else 0.0,
            total_variation(each.shares, shares) if each.shares and shares else 0.0,
        )
        for each in found
        if each.quantiles or each.shares
    }
    return ColumnTrend(
        name,
        [by_day[day].null_share if day in by_day else None for day in days],
        [by_day[day].distinct_values if day in by_day else None for day in days],
        [drift.get(day) for day in days],
    )


def _middle(vectors: Sequence[Sequence[float]]) -> list[float]:
    return [median(one) for one in zip(*vectors, strict=True)] if vectors else []
