"""How long a table went without a load on each day, and which deadlines it met: what was promised against what was."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from flows.declare.deadline import Deadline


@dataclass(frozen=True, slots=True)
class Due:
    """A deadline, and when the load that met it ended; None: none did."""

    at: datetime
    met_at: datetime | None


def longest_gaps(ends: Sequence[datetime], since: datetime, now: datetime) -> dict[date, float]:
    """Per day (UTC) the longest time, in seconds, that the last load was ago. `ends` ascend."""
    longest: dict[date, float] = {}
    for end, following in pairwise([*ends, now]):
        day = max(end, since)
        while day < following:
            midnight = datetime.combine(day.astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), UTC)
            until = min(following, midnight)
            gap = (until - end).total_seconds()
            key = day.astimezone(UTC).date()
            longest[key] = max(longest.get(key, 0.0), gap)
            day = until
    return longest


def deadlines(deadline: Deadline, ends: Sequence[datetime], since: datetime, now: datetime) -> list[Due]:
    """The deadlines since then, the newest first. `ends` ascend."""
    found = []
    for at in deadline.between(since, now):
        place = bisect_right(ends, deadline.opens_at(at))
        met = place < len(ends) and ends[place] <= at
        found.append(Due(at, ends[place] if met else None))
    return found[::-1]
