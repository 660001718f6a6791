"""Where the next read begins."""

from dataclasses import dataclass
from datetime import timedelta

from flows.spec.duration import parse_duration


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A column that moves forward whenever a row changes.

        Timestamp("updated_at")                    written by the database: now(), a trigger
        Timestamp("updated_at", lag="10 min")      written by applications, whose clocks differ: every read begins
                                                   10 minutes before the last one ended; merging makes that harmless

    A read ends below the oldest transaction still open at the source, so a row committed late with an earlier
    timestamp is never lost. `zone` says how a column without time zone is to be understood.
    """

    column: str
    lag: str = "0 s"
    zone: str = "UTC"

    @property
    def overlap(self) -> timedelta:
        """The lag as a length of time."""
        return parse_duration(self.lag, f"cursor {self.column}")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A column of ever-growing numbers given out by a sequence or identity.

    Sequence("event_id")            reads ids above the last one that no open transaction could still undercut
    Sequence("event_id", lag=100)   for sequences with CACHE above 1, whose sessions write their ids late
    """

    column: str
    lag: int = 0


@dataclass(frozen=True, slots=True)
class Since:
    """An API's parameter for "changed since", and the field of a record that it speaks of.

    Since("updated_since", field="updated_at", lag="10 min")

    The next read asks for records from the latest `field` seen, less `lag`; merging by key makes the overlap harmless.
    """

    parameter: str
    field: str
    lag: str = "0 s"

    @property
    def overlap(self) -> timedelta:
        """The lag as a length of time."""
        return parse_duration(self.lag, f"cursor {self.field}")
