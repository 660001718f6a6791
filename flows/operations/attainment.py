"""How often promises were kept in the last 30 days, from the ledger and from what the watch has found."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from flows.declare.promises import broken_at
from flows.operations.freshness import Reading
from flows.operations.promise_states import is_recorded, kept_shares
from flows.state.freshness import build_ends, load_ends

if TYPE_CHECKING:
    from asyncpg import Connection, Record

DAYS = 30


@dataclass(frozen=True, slots=True)
class Attainment:
    """The share (0 to 1) of deadlines met, or of time in which the limit was kept; of deadlines also how many there
    were."""

    share: float
    met: int | None = None
    deadlines: int | None = None


async def attainments(
    connection: Connection[Record], readings: Sequence[Reading], now: datetime
) -> list[Attainment | None]:
    """That of each reading, in order. None: nothing was promised yet, or nobody has looked.

    Loads and builds are in the ledger; of events and of rows that wait for gold, the watch keeps what it found.
    """
    since = now - timedelta(days=DAYS)
    tables = {(one.source, one.table) for one in readings if one.source is not None and one.table is not None}
    # The first deadline may have been met by a load of before.
    begin = since - max((one.deadline.window for one in readings if one.deadline is not None), default=timedelta(0))
    loads = await load_ends(connection, sorted(tables), begin, now)
    builds = await build_ends(connection, begin, now)
    watched = await kept_shares(connection, since, now)
    return [
        _watched(one, watched)
        if is_recorded(one)
        else _of(one, builds if one.source is None else loads.get((one.source, one.table or ""), []), since, now)
        for one in readings
    ]


def _watched(reading: Reading, shares: Mapping[tuple[str, str], float]) -> Attainment | None:
    share = shares.get((reading.subject, reading.clock))
    return None if share is None else Attainment(share)


def _of(reading: Reading, ends: Sequence[datetime], since: datetime, now: datetime) -> Attainment | None:
    if reading.known_since is None or (reading.at is None and reading.late_since is None):
        return None  # neither loaded nor late yet
    begin = max(since, reading.known_since)
    if reading.deadline is not None:
        due = reading.deadline.between(begin, now)
        met = sum(_has(ends, reading.deadline.opens_at(one), one) for one in due)
        return Attainment(met / len(due), met, len(due)) if due else None
    if reading.within is None:
        return None
    return Attainment(kept(ends, reading.within, begin, now, reading.schedule)) if begin < now else None


def kept(
    ends: Sequence[datetime], within: timedelta, since: datetime, until: datetime, schedule: str | None = None
) -> float:
    """The share of a time in which the last end, of those given ascending, was no longer ago than the limit."""
    fresh = timedelta(0)
    # Before the first load the limit runs from the beginning.
    first = [] if ends and ends[0] <= since else [since]
    for one, following in pairwise([*first, *ends, until]):
        begin, end = max(one, since), min(following, until)
        if one + within < end:
            end = min(end, broken_at(one, within, schedule))
        fresh += max(end - begin, timedelta(0))
    return fresh / (until - since)


def _has(ends: Sequence[datetime], after: datetime, until: datetime) -> bool:
    """Whether one of the ends is after the first moment, and not after the second."""
    place = bisect_right(ends, after)
    return place < len(ends) and ends[place] <= until
