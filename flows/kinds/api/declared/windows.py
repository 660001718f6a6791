"""Windows of time that a list is read in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Self

from flows.values.errors import DeclarationError

_FORM = re.compile(r"\s*(\d{1,6})\s*(min|h|hours?|d|days?|weeks?|months?|years?)\s*")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(days=7)}


@dataclass(frozen=True, slots=True)
class Span:
    """The length of a window, such as "1 day", "12 h" or "3 months".

    Days, weeks, months and years begin at midnight of the cursor's zone; months and years with their first day.
    """

    months: int = 0
    length: timedelta = timedelta(0)

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """The span of a declaration.

        Raises:
            DeclarationError: it is none.
        """
        form = _FORM.fullmatch(text)
        number = int(form[1]) if form else 0
        if form is None or number < 1:
            raise DeclarationError(
                f"{text!r} is not the length of a window", where=where, fix="write it like '1 day', '12 h', '1 month'"
            )
        unit = form[2]
        if unit.startswith(("month", "year")):
            return cls(months=number * (12 if unit.startswith("year") else 1))
        return cls(length=number * _UNITS[unit[0]])

    def edges(self, begin: datetime, end: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Where windows between both end: after `begin` and before `end`."""
        edge = self._after(begin, zone)
        while edge < end:
            yield edge
            edge = self._after(edge, zone)

    def _after(self, moment: datetime, zone: tzinfo) -> datetime:
        local = moment.astimezone(zone)
        if self.length and self.length < timedelta(days=1):
            return moment + self.length
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if self.length:
            return midnight + self.length  # by the local calendar
        months = midnight.year * 12 + midnight.month - 1 + self.months
        return midnight.replace(year=months // 12, month=months % 12 + 1, day=1)
