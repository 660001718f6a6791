"""What is promised of a table: as declared, and as its source's schedule implies.

Monitoring, dbt's sources, the raw contracts and the gate of promotions use the same promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.declare.cadence import longest_gap
from flows.declare.deadline import Deadline
from flows.declare.freshness import Freshness, limit
from flows.declare.source import Loadable, Source
from flows.values.errors import DeclarationError

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """Time since the last published load until a warning, and until gate raw fails."""

    warn: timedelta
    stop: timedelta

    @property
    def warn_hours(self) -> float:
        """A whole number where it is one."""
        return _hours(self.warn)

    @property
    def stop_hours(self) -> float:
        """A whole number where it is one."""
        return _hours(self.stop)


def freshness_of(source: Source, table: Loadable) -> Freshness:
    """The table's own declaration, or its source's."""
    return table.freshness or source.freshness or Freshness()


def limits_of(source: Source, table: Loadable | None = None) -> Limits | None:
    """The limits for a table, or for tables of the source that declare nothing of their own.

    Without a declaration three missed runs warn and ten fail the gate, but not before 36 hours and 7 days: a laptop
    that slept over a weekend is not an incident. A declared `loaded_within` warns; the gate fails as late as without,
    and not before twice that time, because building on last night's rows beats not building. None: nothing is declared,
    and there is no schedule.
    """
    declared = (source.freshness or Freshness()) if table is None else freshness_of(source, table)
    promised = limit(declared.loaded_within)
    if source.schedule is None:
        return None if promised is None else Limits(promised, max(timedelta(days=7), 2 * promised))
    hours = longest_gap(source.schedule, f"source {source.name}") / _HOUR
    stop = timedelta(hours=max(7 * 24, round(10 * hours)))
    if promised is None:
        return Limits(timedelta(hours=max(36, round(3 * hours))), stop)
    return Limits(promised, max(stop, 2 * promised))


def broken_at(done_at: datetime, within: timedelta, schedule: str | None) -> datetime:
    """When a limit since the last load is exceeded. Time in which no run is scheduled does not count.

    Loaded on Friday at 18:00, a limit of 2 hours, and the next run on Monday at 06:00: on Monday at 08:00.
    """
    if schedule is None:
        return done_at + within
    try:
        due = Deadline(schedule).next(done_at)
    except DeclarationError:  # what Prefect reads as cron is more than what we do
        return done_at + within
    return done_at + within if due is None or due <= done_at + within else due + within


def _hours(duration: timedelta) -> float:
    hours = duration / _HOUR
    return int(hours) if hours == int(hours) else round(hours, 4)
