"""Made-up exchange rates: the price of a US dollar on each working day of 2017, in euros and in pounds.

They drift and swing like real rates, and depend on the day only. As at central banks, there are none on Saturdays and
Sundays.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from math import sin
from typing import Any

from demo.commerce.day import Day

FIRST_DAY, LAST_DAY = date(2016, 12, 30), date(2017, 12, 29)
CORRECTED = "2017-12-29-EUR"
BROKEN = "2017-12-29-GBP"
_PUBLISHED_AT = time(15, tzinfo=UTC)
# Currency: what a dollar cost at first, the drift over the year, the swing.
_COURSES = {"EUR": (0.951, -0.118, 0.012), "GBP": (0.812, -0.071, 0.010)}


def exchange_rates(day: Day) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """When each record last changed, and the record. Day two corrects one and breaks another."""
    for nth in range((LAST_DAY - FIRST_DAY).days + 1):
        on = FIRST_DAY + timedelta(days=nth)
        if on.isoweekday() > 5:
            continue
        for place, (currency, (first, drift, swing)) in enumerate(_COURSES.items()):
            wave = sin(nth / 23 + place) + sin(nth / 7 + 2 * place) / 3
            identity = f"{on.isoformat()}-{currency}"
            rate = f"{first + drift * nth / 365 + swing * wave:.6f}"
            changed = datetime.combine(on, _PUBLISHED_AT)
            if day.number == 2 and identity in (CORRECTED, BROKEN):
                rate, changed = ("0.834100" if identity == CORRECTED else "n/a"), day.since
            yield changed, {"id": identity, "date": on.isoformat(), "base": "USD", "quote": currency, "rate": rate}
