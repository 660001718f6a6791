"""Deadlines: times by which a table or model is expected, by a cron expression in a time zone and a calendar."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from flows.declare.cursor import refuse_unknown_zone
from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError

_EVERY_YEAR = re.compile(r"\d{2}-\d{2}")
#: How far back the last deadline is looked for: two days, then two weeks, and so on. Most are found in the first span.
_SPANS = tuple(timedelta(days=days) for days in (2, 14, 70, 400, 1600))


@dataclass(frozen=True, slots=True)
class Calendar:
    """Holidays: dates on which nothing is expected.

        Calendar("berlin", ["01-01", "2026-04-03", "2026-04-06", "05-01", "12-25"])

    A date without a year is a holiday every year. `name` is what `meta.expected_by` of a model refers to.

    Raises:
        DeclarationError: a holiday is not a date.
    """

    name: str
    holidays: Sequence[str]

    def __post_init__(self) -> None:
        where = f"calendar {self.name}"
        if isinstance(self.holidays, str):
            raise DeclarationError("its holidays are one text, not a list", where=where, fix='write ["2026-12-25"]')
        for holiday in self.holidays:
            try:
                # 2024 has a 29 February.
                date.fromisoformat(f"2024-{holiday}" if _EVERY_YEAR.fullmatch(holiday) else holiday)
            except (TypeError, ValueError):
                raise DeclarationError(
                    f"the holiday {holiday!r} is not a date",
                    where=where,
                    fix='write "2026-12-25", or "12-25" for every year',
                ) from None
        object.__setattr__(self, "holidays", tuple(self.holidays))

    def __contains__(self, day: date) -> bool:
        return day.isoformat() in self.holidays or f"{day:%m-%d}" in self.holidays


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a table must have been loaded, or a model built.

        Deadline("0 7 * * 1-5", "Europe/Berlin")                     every working day by 07:00 in Berlin
        Deadline("0 7 * * 1-5", "Europe/Berlin", holidays=BERLIN)    but not on the dates of that calendar
        Deadline("0 9 1 * *", within="1 day")                        on the first of the month by 09:00 UTC
        Deadline("0 18 L * *")                                       on the last day of the month

    It is met by a load that ends at most `within` before it, and after the deadline before it. An hour that is skipped
    when clocks go forward moves its deadline to the next minute that exists; in an hour that comes twice, a deadline at
    a fixed time is the first of both.

    Raises:
        DeclarationError: the cron expression, zone or duration cannot be read.
    """

    cron: str
    zone: str = "UTC"
    holidays: Calendar | None = None
    within: str = "12 h"

    def __post_init__(self) -> None:
        where = f"deadline {self.cron!r}"
        if not self.zone:
            raise DeclarationError("the time zone is empty", where=where, fix='write "Europe/Berlin" or "UTC"')
        refuse_unknown_zone(self.zone, where)
        if self.holidays is not None and not isinstance(self.holidays, Calendar):
            raise DeclarationError(
                "holidays is not a calendar", where=where, fix='write holidays=Calendar("berlin", ["2026-12-25"])'
            )
        if parse_duration(self.within, where) <= timedelta(0):
            raise DeclarationError("within is 0", where=where, fix='write within="12 h", or leave it out')
        try:
            if len(self.cron.split()) != 5:  # with seconds it would be another language
                raise CronSimError
            next(CronSim(self.cron, datetime(2024, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration):
            raise DeclarationError(
                f"{self.cron!r} is not a cron expression, or never matches",
                where=where,
                fix="write five fields, such as '0 7 * * 1-5'",
            ) from None

    def __str__(self) -> str:
        but = f", without holidays of {self.holidays.name}" if self.holidays is not None else ""
        return f"{self.cron} {self.zone}{but}"

    @property
    def window(self) -> timedelta:
        """`within` as a timedelta."""
        return parse_duration(self.within, "deadline")

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """The deadlines after the first moment, up to and including the second, in UTC."""
        return [moment for moment in self._ticks(after, until) if not self._is_holiday(moment)]

    def last(self, now: datetime) -> datetime | None:
        """The newest deadline that is not after that moment; None if the last years had none."""
        for span in _SPANS:
            if found := self.between(now - span, now):
                return found[-1]
        return None

    def next(self, now: datetime) -> datetime | None:
        """The first deadline after that moment; None if the next years have none."""
        return next((moment for moment in self._ticks(now, now + _SPANS[-1]) if not self._is_holiday(moment)), None)

    def opens_at(self, deadline: datetime) -> datetime:
        """From when on a load meets this deadline: one that ended later than this, until the deadline."""
        earliest = deadline - self.window
        return max([earliest, *(moment for moment in self._ticks(earliest, deadline) if moment < deadline)])

    def _ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """What the expression matches, holidays too, ascending and each moment once."""
        zone, latest = ZoneInfo(self.zone), after
        # The second of an hour that comes twice: by local time its first is not over.
        begin = after if self.zone == "UTC" else after - timedelta(hours=3)
        for local in CronSim(self.cron, begin.astimezone(UTC if self.zone == "UTC" else zone)):
            moment = local.astimezone(UTC)
            if moment > until:
                return
            # Two times of a skipped hour are the same moment.
            if moment > latest:
                latest = moment
                yield moment

    def _is_holiday(self, moment: datetime) -> bool:
        return self.holidays is not None and moment.astimezone(ZoneInfo(self.zone)).date() in self.holidays
