"""Stretches of days: every day in one partition, none in two."""

from datetime import date, timedelta
from itertools import pairwise

import pytest

from flows.declare.partition import Every, first_day_of_last, partitions
from flows.values.errors import DeclarationError


@pytest.mark.parametrize(
    ("first", "last", "every", "expected"),
    [
        ("2024-02-28", "2024-03-01", "day", ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("2024-01-15", "2024-03-01", "month", ["2024-01-15 to 2024-01-31", "2024-02-01 to 2024-02-29", "2024-03-01"]),
        ("2024-12-01", "2025-01-31", "month", ["2024-12-01 to 2024-12-31", "2025-01-01 to 2025-01-31"]),
        ("2024-01-03", "2024-01-15", "week", ["2024-01-03 to 2024-01-07", "2024-01-08 to 2024-01-14", "2024-01-15"]),
        ("2023-12-31", "2025-01-01", "year", ["2023-12-31", "2024-01-01 to 2024-12-31", "2025-01-01"]),
    ],
)  # fmt: skip
def test_partitions_follow_the_calendar_and_are_cut_at_the_ends(
    first: str, last: str, every: Every, expected: list[str]
) -> None:
    assert [str(one) for one in partitions(date.fromisoformat(first), date.fromisoformat(last), every)] == expected


@pytest.mark.parametrize("every", ["day", "week", "month", "year"])
def test_no_day_is_left_out_or_read_twice(every: Every) -> None:
    first, last = date(2019, 11, 17), date(2021, 3, 2)

    found = partitions(first, last, every)

    assert found[0].lower == first
    assert found[-1].upper == last + timedelta(days=1)
    assert all(one.upper == following.lower for one, following in pairwise(found))


@pytest.mark.parametrize(
    ("first", "last", "every", "words"),
    [
        (date(2024, 2, 1), date(2024, 1, 1), "month", "is before the first"),
        (date(2024, 1, 1), date(2024, 2, 1), "hour", "unknown"),
        (date(1, 1, 1), date(2024, 1, 1), "day", "more than 10,000"),
    ],
)
def test_what_makes_no_partitions_is_refused(first: date, last: date, every: Every, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        partitions(first, last, every)


@pytest.mark.parametrize("every", ["day", "week", "month", "year"])
@pytest.mark.parametrize("today", [date(2024, 2, 29), date(2024, 12, 31), date(2024, 1, 1), date(2023, 10, 1)])
def test_the_last_partitions_are_those_that_end_with_todays(every: Every, today: date) -> None:
    for count in (1, 2, 3, 13):
        first = first_day_of_last(today, every, count)
        assert len(partitions(first, today, every)) == count
        assert len(partitions(first - timedelta(days=1), today, every)) == count + 1
