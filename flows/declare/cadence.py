"""The longest interval between loads of a source, from its cron expression."""

from datetime import date, timedelta
from itertools import pairwise

from flows.values.errors import DeclarationError

_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_WEEK = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_YEAR = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = {name: number for number, name in enumerate(_WEEK)} | {name: number for number, name in enumerate(_YEAR, 1)}


def longest_gap(cron: str, where: str) -> timedelta:
    """The longest time between two runs of a five-field cron expression.

    `15 * * * *` → 1 hour; `0 6 * * 1-5` → 3 days, over the weekend. The calendar covers four years, so that it
    contains 29 February.

    Raises:
        DeclarationError: it is not a cron expression, or never matches.
    """
    fields = cron.lower().split()
    if len(fields) != len(_BOUNDS):
        raise _no_cron(cron, where)
    try:
        minutes, hours, month_days, months, week_days = (
            _values(field, low, high) for field, (low, high) in zip(fields, _BOUNDS, strict=True)
        )
    except ValueError:
        raise _no_cron(cron, where) from None
    week_days = {day % 7 for day in week_days}
    times = sorted(timedelta(hours=hour, minutes=minute) for hour in hours for minute in minutes)
    # Cron's rule: if both day fields are restricted, either is sufficient.
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    first = date(2024, 1, 1)
    days = [
        offset
        for offset in range(4 * 366)
        if (day := first + timedelta(days=offset)).month in months
        and (any if either else all)((day.day in month_days, day.isoweekday() % 7 in week_days))
    ]
    if len(days) < 2:
        raise _no_cron(cron, where)
    within = max((later - earlier for earlier, later in pairwise(times)), default=timedelta())
    nights = timedelta(days=max(later - earlier for earlier, later in pairwise(days)))
    return max(within, nights - times[-1] + times[0])


def _values(field: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        start, dash, end = span.partition("-")
        if span == "*":
            bounds = (low, high)
        else:
            begin = _number(start)
            bounds = (begin, _number(end) if dash else high if step else begin)
        if not low <= bounds[0] <= bounds[1] <= high:
            raise ValueError(part)
        values |= set(range(bounds[0], bounds[1] + 1, int(step) if step else 1))
    return values


def _number(text: str) -> int:
    return _NAMES[text] if text in _NAMES else int(text)


def _no_cron(cron: str, where: str) -> DeclarationError:
    return DeclarationError(
        f"the schedule {cron!r} is not a cron expression", where=where, fix="write five fields, such as '15 * * * *'"
    )
