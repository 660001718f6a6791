"""What is usual on a weekday, by median and median absolute deviation of ten weeks: the method of volumes, in Python.

A weekday has its own center, and all days together one spread, because that of eight equal weekdays varies too much.
Unlike with volumes, a deviation is also at least a fraction of what one day in twenty exceeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median

#: So many days of one weekday must be known.
KNOWN_DAYS = 8
#: So many days back days are compared.
DAYS_BACK = 70
#: Deviations from the median beyond which a day is unusual.
DEVIATIONS = 4.0
# Of a normal distribution the standard deviation is so many times the median absolute deviation.
_NORMAL = 1.4826
# Where one day in twenty differs by far more than a normal distribution's, that is no news: its 95 % quantile is 1.96
# deviations. Three outliers in ten weeks are fewer than one in twenty, and change nothing.
_RARE, _RARE_DEVIATIONS = 0.95, 2.5


@dataclass(frozen=True, slots=True)
class Usual:
    """Center and deviation for one weekday, from `known` days of it."""

    known: int
    center: float
    deviation: float

    @property
    def is_learning(self) -> bool:
        """Whether too few days are known to say anything."""
        return self.known < KNOWN_DAYS

    @property
    def lowest(self) -> float:
        """Below it, a value is unusual."""
        return self.center - DEVIATIONS * self.deviation

    @property
    def highest(self) -> float:
        """Above it, a value is unusual."""
        return self.center + DEVIATIONS * self.deviation


def usual(earlier: Sequence[tuple[date, float]], day: date, least: float) -> Usual:
    """What is usual on the weekday of `day`, from earlier days; a deviation is at least `least`."""
    weekdays: dict[int, list[float]] = defaultdict(list)
    for each, value in earlier:
        weekdays[each.weekday()].append(value)
    same = weekdays.get(day.weekday(), [])
    if len(same) < KNOWN_DAYS:
        return Usual(len(same), 0.0, least)
    centers = {weekday: median(values) for weekday, values in weekdays.items()}
    spread = sorted(abs(value - centers[weekday]) for weekday, values in weekdays.items() for value in values)
    rare = spread[int(len(spread) * _RARE)]
    return Usual(len(same), median(same), max(_NORMAL * median(spread), rare / _RARE_DEVIATIONS, least))
