"""Forms in which APIs write points in time, and values to continue from."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flows.values.errors import DeclarationError

EPOCHS = {"epoch": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}
NAMED = ("iso", "date", *EPOCHS, "epoch_decimal", "number", "text")
RAW_TYPES = {**dict.fromkeys(EPOCHS, "bigint"), "epoch_decimal": "numeric", "number": "bigint", "text": "text"}
# Parts of a pattern: what PostgreSQL reads them by, as a regular expression.
_PARTS = {
    "Y": r"\d{4}",
    "m": r"\d{1,2}",
    "b": "[A-Za-z]{3}",
    "B": "[A-Za-z]{3,9}",
    "d": r"\d{1,2}",
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "f": r"\d{1,9}",
    "p": "[AaPp][Mm]",
    "z": r"[Zz]|[+-]\d{2}:?\d{2}",
}
_DIRECTIVE = re.compile(r"%(.)")
_QUARTER = timedelta(minutes=15)

Step = Literal["us", "ms", "s", "day"]


def refuse_unknown(form: str, where: str) -> None:
    """Refuse a form that is neither named nor a pattern.

    Raises:
        DeclarationError: it is.
    """
    if form in NAMED:
        return
    parts = set(_DIRECTIVE.findall(form))
    if not parts or not parts <= _PARTS.keys() or not {"Y", "d"} <= parts or not parts & {"m", "b", "B"}:
        raise DeclarationError(
            f"the form {form!r} is unknown",
            where=where,
            fix=f"use {', '.join(NAMED)}, or a pattern of %{', %'.join(_PARTS)} with year, month and day",
        )


def zone_of(name: str, where: str) -> tzinfo:
    """The time zone of that name.

    Raises:
        DeclarationError: it does not exist.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        pass
    raise DeclarationError(
        f"the time zone {name!r} is unknown", where=where, fix='write a name such as "Europe/Vienna"'
    )


def moment_of(value: str, form: str, zone: tzinfo) -> datetime:
    """A value of the column as a point in time.

    Raises:
        ValueError: it is none.
    """
    if form in EPOCHS or form == "epoch_decimal":
        try:
            microseconds = int(Decimal(value) * 1_000_000 / EPOCHS.get(form, 1))
        except InvalidOperation:
            raise ValueError(form) from None
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def written(moment: datetime, form: str, zone: tzinfo, digits: int | None) -> str:
    """A point in time in a form, rounded down; in local time if the form has no offset."""
    if form in EPOCHS or form == "epoch_decimal":
        microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        if form == "epoch_decimal":
            return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}"
        return str(microseconds * EPOCHS[form] // 1_000_000)
    if form == "iso" and zone is UTC:
        moment = moment.astimezone(UTC)
        text = moment.isoformat() if digits is None else _cut(moment, digits).isoformat(timespec=_timespec(digits))
        return _shortened(text.removesuffix("+00:00"), digits) + "Z"
    local = earliest_local(moment, zone)
    if form == "iso":
        text = local.isoformat() if digits is None else _cut(local, digits).isoformat(timespec=_timespec(digits))
        return _shortened(text, digits)
    if form == "date":
        return f"{local:%Y-%m-%d}"
    if "%z" in form:
        local = moment.astimezone(zone)
    fraction = f"{local.microsecond:06d}"[: 6 if digits is None else digits]
    return local.strftime(form.replace("%f", fraction))


def earliest_local(moment: datetime, zone: tzinfo) -> datetime:
    """The earliest reading of a local clock at `moment` or later: clocks that are set back repeat an hour."""
    local = moment.astimezone(zone).replace(tzinfo=None)
    begin = local.replace(tzinfo=zone, fold=0).astimezone(UTC)  # if the hour occurs twice, the first time
    begin = min(begin, moment.astimezone(UTC))
    later = (begin + _QUARTER * quarter for quarter in range(9))
    edges = (one.replace(minute=one.minute // 15 * 15, second=0, microsecond=0) for one in later)
    return min([local, *(edge.astimezone(zone).replace(tzinfo=None) for edge in edges if edge >= begin)])


def resolution(form: str, digits: int | None) -> timedelta:
    """The smallest difference between two values as sent."""
    if form in EPOCHS:
        return timedelta(seconds=1) / EPOCHS[form]
    if form == "date" or (form not in NAMED and not re.search("%[HI]", form)):
        return timedelta(days=1)
    if form not in NAMED:
        fine = "%f" in form and digits != 0
        unit = timedelta(seconds=1) if "%S" in form else timedelta(minutes=1)
        return _fraction(digits) if fine else unit
    return _fraction(digits)


def _fraction(digits: int | None) -> timedelta:
    return timedelta(microseconds=int(10 ** (6 - (6 if digits is None else digits))))


def pattern_sql(text: str, pattern: str) -> str:
    """SQL for a text of a pattern as PostgreSQL reads it; other texts stay as they are."""
    groups = list[str]()

    def part(found: re.Match[str]) -> str:
        groups.append(found[1])
        return f"({_PARTS[found[1]]})"

    pieces = re.split(r"(%.)", pattern)
    expression = "".join(_DIRECTIVE.sub(part, piece) if piece[:1] == "%" else re.escape(piece) for piece in pieces)

    def group(*names: str) -> str:
        return next((f"\\{groups.index(name) + 1}" for name in names if name in groups), "")

    time = f" {group('H', 'I')}:{group('M') or '00'}:{group('S') or '00'}" if group("H", "I") else ""
    fraction = f".{group('f')}" if time and group("f") else ""
    half = f" {group('p')}" if time and group("p") else ""
    result = f"{group('Y')}-{group('m', 'b', 'B')}-{group('d')}{time}{fraction}{half}{group('z')}"
    quoted = expression.replace("'", "''")
    return f"regexp_replace({text}, '^{quoted}$', '{result}')"


def zoned_sql(text: str, zone: str) -> str:
    """SQL for a timestamp as text, in the zone if it has no offset of its own."""
    naive = r"^\d{4,}-?\w+-?\d{1,2}([T ]\d{1,2}:?\d{2}(:?\d{2}(\.\d+)?)?( [AaPp][Mm])?)?$"
    return f"case when {text} ~ '{naive}' then {text} || ' {zone}' else {text} end"


def _cut(moment: datetime, digits: int) -> datetime:
    unit = 10 ** (6 - digits)
    return moment.replace(microsecond=moment.microsecond // unit * unit)


def _timespec(digits: int) -> Literal["seconds", "microseconds"]:
    return "microseconds" if digits else "seconds"


def _shortened(text: str, digits: int | None) -> str:
    """The text of a timestamp with that many digits behind the point."""
    return text[: len(text) - 6 + digits] if digits else text
