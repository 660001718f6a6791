"""Durations as written in declarations."""

import re
from datetime import timedelta

from flows.values.errors import DeclarationError

_UNITS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def parse_duration(text: str, where: str) -> timedelta:
    """`"10 min"`, `"1 h"`, `"2 days"`, `"30 s"` → timedelta.

    Raises:
        DeclarationError: anything else.
    """
    form = _FORM.fullmatch(text)
    if form is None or form[2] not in _UNITS:
        raise DeclarationError(
            f"{text!r} is not a duration", where=where, fix="write it like '10 min', '1 h', '2 days'"
        )
    return timedelta(seconds=float(form[1]) * _UNITS[form[2]])
