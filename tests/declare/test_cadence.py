"""How long a cron line may leave a source unread."""

from datetime import timedelta

import pytest

from flows.declare.cadence import longest_gap
from flows.values.errors import DeclarationError


@pytest.mark.parametrize(
    ("cron", "hours"),
    [
        ("15 * * * *", 1),
        ("*/20 * * * *", 1 / 3),
        ("0,10 * * * *", 5 / 6),
        ("0 6 * * *", 24),
        ("0 6,18 * * *", 12),
        ("0 8-17 * * *", 15),
        ("0 6 * * 1-5", 72),
        ("0 6 * * mon-fri", 72),
        ("0 6 * * 0", 7 * 24),
        ("0 6 * * 7", 7 * 24),
        ("0 0 1 * *", 31 * 24),
        ("0 0 1 jan *", 366 * 24),
        ("30 5 1,15 * *", 17 * 24),
        # Both kinds of day restricted: either is enough, so the Mondays bound the gap.
        ("0 6 1 * 1", 7 * 24),
    ],
)
def test_the_longest_gap_of_a_schedule(cron: str, hours: float) -> None:
    assert longest_gap(cron, "source x") == timedelta(hours=hours)


@pytest.mark.parametrize("cron", ["", "* * * *", "60 * * * *", "a * * * *", "0 0 31 2 *", "5-1 * * * *", "*/0 * * * *"])
def test_what_is_no_cron_line_or_never_comes_is_refused(cron: str) -> None:
    with pytest.raises(DeclarationError, match="five fields"):
        longest_gap(cron, "source x")
