"""Partitions: ranges of days of a date or timestamp column."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

from flows.values.errors import DeclarationError

Every = Literal["day", "week", "month", "year"]
"""The length of a partition. Weeks begin on Monday."""

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Partition:
    """From the start of day `lower` (inclusive) to the start of day `upper` (exclusive), in UTC."""

    lower: date
    upper: date

    def __str__(self) -> str:
        """`2017-01-01 to 2017-01-31`: the last day is inclusive."""
        last = self.upper - timedelta(days=1)
        return f"{self.lower}" if last == self.lower else f"{self.lower} to {last}"


def partitions(first: date, last: date, every: Every) -> list[Partition]:
    """The partitions from day `first` to day `last`, inclusive; the first and the last may be cut.

    Raises:
        DeclarationError: they are in the wrong order, or there would be too many.
    """
    if every not in get_args(Every):
        raise DeclarationError(
            f"partition length {every!r} is unknown",
            where="backfill",
            fix=f"use one of {', '.join(get_args(Every))}",
        )
    if last < first:
        raise DeclarationError(
            f"the last day, {last}, is before the first, {first}",
            where="backfill",
            fix="swap --from and --to",
        )
    found, lower = [], first
    end = last + timedelta(days=1)
    while lower < end:
        upper = min(_next(lower, every), end)
        found.append(Partition(lower, upper))
        lower = upper
        if len(found) > _MOST:
            raise DeclarationError(
                f"the range has more than {_MOST:,} partitions", where="backfill", fix="choose a longer --every"
            )
    return found


def first_day_of_last(today: date, every: Every, count: int) -> date:
    """The first day of the last `count` partitions, including the one with `today`."""
    match every:
        case "day":
            return today - timedelta(days=count - 1)
        case "week":
            return today - timedelta(days=today.weekday() + 7 * (count - 1))
        case "month":
            months = today.year * 12 + today.month - 1 - (count - 1)
            return date(months // 12, months % 12 + 1, 1)
        case "year":
            return date(today.year - (count - 1), 1, 1)


def _next(day: date, every: Every) -> date:
    match every:
        case "day":
            return day + timedelta(days=1)
        case "week":
            return day + timedelta(days=7 - day.weekday())
        case "month":
            return date(day.year + day.month // 12, day.month % 12 + 1, 1)
        case "year":
            return date(day.year + 1, 1, 1)
