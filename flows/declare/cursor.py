"""Cursors: where the next read starts."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError

Unit = Literal["s", "ms", "us", "ns"]
"""What an epoch counts: seconds, milliseconds, microseconds or nanoseconds since 1970-01-01 00:00 UTC."""

UNITS_PER_SECOND: dict[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A column that moves forward whenever a row changes.

        Timestamp("updated_at")                    written by the database: now(), a trigger
        Timestamp("updated_at", lag="10 min")      written by applications, whose clocks differ: every read begins
                                                   10 minutes before the last one ended; merging makes that harmless
        Timestamp("updated_at", zone="America/New_York")    a column without time zone, with local times

    A read ends below the oldest transaction still open at the source, so a row committed late with an earlier
    timestamp is never lost. `zone` is the time zone of a column without time zone. If it is not declared, it is UTC,
    and a load is refused if the source evidently writes local times.
    """

    column: str
    lag: str = "0 s"
    zone: str = ""

    def __post_init__(self) -> None:
        parse_duration(self.lag, f"cursor {self.column}")
        refuse_unknown_zone(self.zone, f"cursor {self.column}")

    @property
    def overlap(self) -> timedelta:
        """The lag as a timedelta."""
        return parse_duration(self.lag, f"cursor {self.column}")

    @property
    def zone_name(self) -> str:
        """The declared time zone, or UTC."""
        return self.zone or "UTC"


@dataclass(frozen=True, slots=True)
class Epoch:
    """A numeric column with the time since 1970-01-01 00:00 UTC that moves forward whenever a row changes.

        Epoch("updated_at")                              seconds
        Epoch("updated_at", unit="ms", lag="10 min")     milliseconds, written by applications

    As for `Timestamp`, a read ends below the oldest transaction still open at the source.
    """

    column: str
    unit: Unit = "s"
    lag: str = "0 s"

    def __post_init__(self) -> None:
        parse_duration(self.lag, f"cursor {self.column}")
        if self.unit not in get_args(Unit):
            raise DeclarationError(
                f"unit {self.unit!r} is unknown",
                where=f"cursor {self.column}",
                fix=f"use one of {', '.join(get_args(Unit))}",
            )

    @property
    def overlap(self) -> timedelta:
        """The lag as a timedelta."""
        return parse_duration(self.lag, f"cursor {self.column}")

    @property
    def per_second(self) -> int:
        """Units per second."""
        return UNITS_PER_SECOND[self.unit]


@dataclass(frozen=True, slots=True)
class Sequence:
    """A column of ascending whole numbers from a sequence or identity.

    Sequence("event_id")            reads ids above the last one that no open transaction could still undercut
    Sequence("event_id", lag=100)   for sequences with CACHE above 1, whose sessions write their ids late
    """

    column: str
    lag: int = 0

    def __post_init__(self) -> None:
        if self.lag < 0:
            raise DeclarationError(
                f"a lag of {self.lag} ids would skip rows",
                where=f"cursor {self.column}",
                fix="write how many ids to read again, 0 or more",
            )


@dataclass(frozen=True, slots=True)
class TransactionId:
    """The transaction that wrote a row, which PostgreSQL stores in every row (`xmin`): for tables without a cursor
    column.

    TransactionId()                 reads rows of transactions that had not ended before the last read

    Exact for any writer, standby and prepared transaction. It cannot be indexed, so each read scans the full table at
    the source and sends changed rows. Rows must have a key.
    """


ByClock = Timestamp | Epoch
"""Cursors that follow the source's clock."""


def refuse_unknown_zone(zone: str, where: str) -> None:
    """Raises:
    DeclarationError: the time zone does not exist.
    """
    if not zone:
        return
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise DeclarationError(
            f"time zone {zone!r} is unknown", where=where, fix='write it like "Europe/Berlin" or "UTC"'
        ) from None
