"""Times as positions of a cursor, for databases whose clock is read as UTC: local times, lags, and epochs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from flows.declare.cursor import Epoch, Timestamp
from flows.values.errors import SourceError

# An hour that comes twice begins within this time; clocks have not been set back by more since 1970.
_AHEAD = timedelta(hours=3)
_STEP = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def earliest_local(moment: datetime, zone: str) -> datetime:
    """The earliest local time that any moment from this one on has: in autumn an hour comes twice."""
    place = ZoneInfo(zone)
    found = local = moment.astimezone(place).replace(tzinfo=None)
    ahead = moment.replace(second=0, microsecond=0)
    while zone.upper() != "UTC" and ahead - moment < _AHEAD:
        ahead += _STEP
        local = ahead.astimezone(place).replace(tzinfo=None)
        found = min(found, local)
    return found


def earlier_local(local: datetime, lag: timedelta, zone: str) -> datetime:
    """The local time so much before one: in spring, an hour is left out."""
    moment = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) - lag
    return min(local - lag, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None))


def epoch(moment: datetime, cursor: Epoch) -> int:
    """The moment in the cursor's unit, rounded down."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * cursor.per_second // 1_000_000


def units(overlap: timedelta, cursor: Epoch) -> int:
    """A duration in the cursor's unit."""
    return overlap // timedelta(microseconds=1) * cursor.per_second // 1_000_000


def less(value: str, overlap: timedelta, cursor: Timestamp, table: str) -> str:
    """The timestamp minus the lag, in the form that sorts before every other form of the same timestamp.

    Seconds without a fraction and a blank before the time: as text it is never greater than what it stands for.

    Raises:
        SourceError: the value is not an ISO timestamp.
    """
    moment = parsed(value, table).replace(tzinfo=None)
    if overlap:
        moment = earlier_local(moment, overlap, cursor.zone_name)
    return moment.replace(microsecond=0).isoformat(" ")


def parsed(value: str, table: str) -> datetime:
    """A cursor's value as a timestamp.

    Raises:
        SourceError: it is not an ISO timestamp.
    """
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        raise SourceError(
            "the cursor's values are not ISO timestamps",
            where=table,
            fix="use Sequence(…) or Epoch(…) for numbers, or another column",
        ) from None
