"""A change helped if what it names fell by more than it differs from one to the next anyway, on equal weekdays."""

import pytest

from flows.operations.tuning.measuring import Figures, on_common_weekdays, verdict


def week(value: float, monday: float | None = None, times: int = 3) -> Figures:
    """So many loads on each weekday."""
    return Figures.of([(day, monday if day == 1 and monday is not None else value) for day in range(1, 8)] * times)


@pytest.mark.parametrize(
    ("after", "expected"), [(60.0, "helped"), (95.0, "no difference"), (105.0, "no difference"), (130.0, "worse")]
)
def test_a_tenth_of_difference_counts(after: float, expected: str) -> None:
    assert verdict(week(100), week(after)) == expected


def test_too_few_loads_say_nothing() -> None:
    assert verdict(week(100), Figures.of([(1, 1.0)] * 7)) == "learning"
    assert verdict(Figures.of([(1, 100.0)] * 7), week(1)) == "learning"


def test_slow_mondays_after_are_compared_with_slow_mondays_before() -> None:
    mondays = Figures.of([(1, 300.0)] * 9)
    assert on_common_weekdays(week(100, monday=300), mondays) == (300, 300)
    assert verdict(week(100, monday=300), mondays) == "no difference"


def test_what_differs_from_one_to_the_next_anyway_is_no_difference() -> None:
    noisy = Figures.of([(day, value) for day in range(1, 8) for value in (50.0, 100.0, 150.0)])
    assert verdict(noisy, week(80)) == "no difference"
    assert verdict(week(100), week(80)) == "helped"
