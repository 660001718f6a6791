"""Whether a column's values on one day are like those of its weekday before.

    nulls          the null share, as arcsine of its root: its noise is then alike at 0 %, 1 % and 50 %
    distinct       distinct values, in total and per row; both must be unusual in one direction, so that a day with half
                   of its rows has no unusual columns on top
    distribution   the Kolmogorov-Smirnov distance of quantiles from the median ones of the weekday
    categories     the total variation distance of the buckets' shares from the median ones

Both distances are the share of rows that would need another value. The population stability index was not chosen: its
logarithms have no value where a bucket is empty, which is the case that matters most, and its limits depend on rows and
buckets.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Literal

from flows.operations.usual import Usual, usual

Measure = Literal["nulls", "distinct", "distribution", "categories"]

#: What differs by less is of no interest, however usual it is that nothing differs: shares of rows.
_LEAST_NULLS, _LEAST_DISTRIBUTION, _LEAST_CATEGORIES = 0.02, 0.1, 0.05
# Deviations are at least so large.
_FLOOR_NULLS, _FLOOR_DISTINCT, _FLOOR_DISTANCE = 0.02, 0.1, 0.02


@dataclass(frozen=True, slots=True)
class ColumnDay:
    """A column on one day: a row of `ops.profile_days`."""

    day: date
    loads: int
    rows: int
    null_share: float
    distinct_values: float | None = None
    quantiles: Sequence[float] | None = None
    shares: Sequence[float] | None = None

    @property
    def present(self) -> float:
        """Values per load."""
        return max(self.rows * (1 - self.null_share) / self.loads, 1.0)


@dataclass(frozen=True, slots=True)
class Compared:
    """A column's measure on one day, and what is usual. `state`: learning, usual, low, high or changed."""

    measure: Measure
    state: str
    value: float
    usual: float
    lowest: float
    highest: float
    known: int


def compare(earlier: Sequence[ColumnDay], today: ColumnDay) -> Iterator[Compared]:
    """Each measure of the column on that day, compared with earlier days."""
    yield _nulls(earlier, today)
    if today.distinct_values and today.distinct_values > 0:
        yield _distinct(earlier, today)
    if today.quantiles:
        days = [(each.day, each.quantiles) for each in earlier if each.quantiles]
        yield _distance("distribution", days, today, today.quantiles, kolmogorov_smirnov, _LEAST_DISTRIBUTION)
    if today.shares:
        days = [(each.day, each.shares) for each in earlier if each.shares]
        yield _distance("categories", days, today, today.shares, total_variation, _LEAST_CATEGORIES)


def _nulls(earlier: Sequence[ColumnDay], today: ColumnDay) -> Compared:
    floor = max(_FLOOR_NULLS, 0.5 / math.sqrt(today.rows))
    known = usual([(each.day, _angle(each.null_share)) for each in earlier], today.day, floor)
    angle, share = _angle(today.null_share), _share(known.center)
    state = _state(known, angle) if abs(today.null_share - share) >= _LEAST_NULLS else "usual"
    return Compared(
        "nulls",
        "learning" if known.is_learning else state,
        today.null_share,
        share,
        _share(known.lowest),
        _share(known.highest),
        known.known,
    )


def _distinct(earlier: Sequence[ColumnDay], today: ColumnDay) -> Compared:
    counted = [(each, each.distinct_values) for each in earlier if each.distinct_values]
    floor = max(_FLOOR_DISTINCT, 0.5 / math.sqrt(today.rows))
    total = usual([(each.day, math.log(values)) for each, values in counted], today.day, floor)
    per_row = usual([(each.day, math.log(values / each.present)) for each, values in counted], today.day, floor)
    assert today.distinct_values is not None
    state = _state(total, math.log(today.distinct_values))
    if state != _state(per_row, math.log(today.distinct_values / today.present)):
        state = "usual"
    return Compared(
        "distinct",
        "learning" if total.is_learning else state,
        today.distinct_values,
        math.exp(total.center),
        math.exp(total.lowest),
        math.exp(total.highest),
        total.known,
    )


def _distance(
    measure: Measure,
    earlier: Sequence[tuple[date, Sequence[float]]],
    today: ColumnDay,
    values: Sequence[float],
    distance: Callable[[Sequence[float], Sequence[float]], float],
    least: float,
) -> Compared:
    by_weekday: dict[int, list[Sequence[float]]] = defaultdict(list)
    for day, each in earlier:
        by_weekday[day.weekday()].append(each)
    centers = {weekday: [median(one) for one in zip(*each, strict=True)] for weekday, each in by_weekday.items()}
    known = usual(
        [(day, distance(each, centers[day.weekday()])) for day, each in earlier],
        today.day,
        max(_FLOOR_DISTANCE, 0.5 / math.sqrt(today.rows)),
    )
    if known.is_learning:
        return Compared(measure, "learning", 0.0, 0.0, 0.0, 0.0, known.known)
    moved = distance(values, centers[today.day.weekday()])
    state = "changed" if moved > max(known.highest, least) else "usual"
    return Compared(measure, state, moved, known.center, 0.0, max(known.highest, least), known.known)


def kolmogorov_smirnov(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest distance of two distributions, of which only quantiles are known: what is certain of it.

    Between two quantiles a distribution may be anywhere; of values that many rows have, that is most of it.
    """
    steps = len(one) - 1
    a = b = most = 0
    for value in sorted({*one, *other}):
        while a <= steps and one[a] <= value:
            a += 1
        while b <= steps and other[b] <= value:
            b += 1
        # With so many quantiles up to here, the shares of rows are between a - 1 and a steps, and between b - 1 and b.
        most = max(most, max(a - 1, 0) - min(b, steps), max(b - 1, 0) - min(a, steps))
    return most / steps


def total_variation(one: Sequence[float], other: Sequence[float]) -> float:
    """The share of rows that would need another category."""
    sums = sum(one) or 1.0, sum(other) or 1.0
    return sum(abs(a / sums[0] - b / sums[1]) for a, b in zip(one, other, strict=True)) / 2


def _state(known: Usual, value: float) -> str:
    if known.is_learning:
        return "learning"
    return "low" if value < known.lowest else "high" if value > known.highest else "usual"


def _angle(share: float) -> float:
    return math.asin(math.sqrt(min(max(share, 0.0), 1.0)))


def _share(angle: float) -> float:
    return math.sin(min(max(angle, 0.0), math.pi / 2)) ** 2
