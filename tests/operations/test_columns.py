"""A column that looks different is noticed, by the measure that concerns it; one that is like its weekday is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest

from flows.operations.columns import ColumnDay, compare, kolmogorov_smirnov, total_variation

MONDAY = date(2026, 3, 30)
NORMAL = [100 + 10 * step + (step * 7) % 5 for step in range(21)]
SHARES = [0.3, 0.25, 0.2, 0.15, 0.1, *[0.0] * 11]


def day(number: int, **changed: object) -> ColumnDay:
    """A day so many before Monday. No two are the same."""
    noise = (number * 37 % 11 - 5) / 5
    usual = ColumnDay(
        MONDAY - timedelta(days=number),
        1,
        round(1000 + 60 * noise),
        0.05 + 0.004 * noise,
        12,
        [value * (1 + 0.01 * noise) for value in NORMAL],
        [share * (1 + 0.02 * noise * (-1) ** place) for place, share in enumerate(SHARES)],
    )
    return replace(usual, **changed)  # type: ignore[arg-type]


DAYS = [day(number) for number in range(70, 0, -1)]


def unusual(today: ColumnDay, days: Sequence[ColumnDay] = DAYS) -> dict[str, str]:
    return {each.measure: each.state for each in compare(days, today) if each.state != "usual"}


CHANGES: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "nothing": ({}, {}),
    "nulls jump to 15 %": ({"null_share": 0.15}, {"nulls": "high"}),
    "nulls vanish": ({"null_share": 0.0}, {"nulls": "low"}),
    "a category of 10 % vanishes": (
        {"shares": [0.33, 0.28, 0.22, 0.17, 0, *[0.0] * 11], "distinct_values": 11}, {"categories": "changed"}),
    "cents for euros": ({"quantiles": [100 * value for value in NORMAL]}, {"distribution": "changed"}),
    "all texts truncated": ({"quantiles": [min(value, 150) for value in NORMAL]}, {"distribution": "changed"}),
    "the column is constant": (
        {"quantiles": [100.0] * 21, "shares": [1.0, *[0.0] * 15], "distinct_values": 1},
        {"distribution": "changed", "categories": "changed", "distinct": "low"}),
    "half of its rows": ({"rows": 500}, {}),
    "twice its rows": ({"rows": 2000}, {}),
    "a new category of 1 %": ({"distinct_values": 13, "shares": [*SHARES[:5], 0.01, *[0.0] * 10]}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed_by_what_it_changes(changed: dict[str, object], expected: dict[str, str]) -> None:
    assert unusual(day(0, **changed)) == expected


def test_duplicated_ids_are_noticed_and_a_day_with_half_of_them_is_not() -> None:
    days = [replace(each, distinct_values=each.rows * 0.95) for each in DAYS]
    assert unusual(day(0, rows=1000, distinct_values=500), days) == {"distinct": "low"}
    assert unusual(day(0, rows=500, distinct_values=475), days) == {}


def test_with_fewer_than_eight_equal_weekdays_it_is_learning() -> None:
    found = unusual(day(0, null_share=0.9), DAYS[-52:])
    assert set(found.values()) == {"learning"}


def test_a_weekday_that_always_differs_is_usual() -> None:
    days = [replace(each, null_share=0.5) if each.day.weekday() == 0 else each for each in DAYS]
    assert unusual(day(0, null_share=0.5), days) == {}
    assert unusual(day(1, null_share=0.5), days[:-1]) == {"nulls": "high"}


def test_numbers_that_always_grow_are_never_unusual() -> None:
    days = [replace(each, quantiles=[place * 1000.0 + n for n in range(21)]) for place, each in enumerate(DAYS)]
    assert unusual(day(0, quantiles=[71_000.0 + n for n in range(21)]), days) == {}


def test_distances_are_shares_of_rows() -> None:
    assert kolmogorov_smirnov([1.0] * 21, [2.0] * 21) == 1
    assert kolmogorov_smirnov(NORMAL, NORMAL) == 0
    # One quantile step is not certain: nothing is known between two of them.
    assert kolmogorov_smirnov([1.0] * 16 + [2.0] * 5, [1.0] * 17 + [2.0] * 4) == 0
    assert kolmogorov_smirnov([1.0] * 15 + [2.0] * 6, [1.0] * 5 + [2.0] * 16) == pytest.approx(0.45)
    assert total_variation([0.5, 0.5], [1.0, 0.0]) == 0.5


def test_a_column_of_nulls_and_one_without_rows_of_its_own_can_be_compared() -> None:
    empty = [ColumnDay(each.day, 1, 100, 1.0, None, None, None) for each in DAYS]
    assert unusual(ColumnDay(MONDAY, 1, 100, 1.0), empty) == {}
    assert unusual(ColumnDay(MONDAY, 1, 100, math.nan and 0.0), empty) == {"nulls": "low"}
