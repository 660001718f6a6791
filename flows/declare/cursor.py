"""Cursors: where the next read starts."""

from dataclasses import dataclass
from datetime import timedelta

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A column that moves forward whenever a row changes.

        Timestamp("updated_at")                    written by the database: now(), a trigger
        Timestamp("updated_at", lag="10 min")      written by applications, whose clocks differ: every read begins
                                                   10 minutes before the last one ended; merging makes that harmless

    A read ends below the oldest transaction still open at the source, so a row committed late with an earlier
    timestamp is never lost. `zone` is the time zone of a column without time zone.
    """

    column: str
    lag: str = "0 s"
    zone: str = "UTC"

    def __post_init__(self) -> None:
        parse_duration(self.lag, f"cursor {self.column}")

    @property
    def overlap(self) -> timedelta:
        """The lag as a timedelta."""
        return parse_duration(self.lag, f"cursor {self.column}")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A column of ascending numbers from a sequence or identity.

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
