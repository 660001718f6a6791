"""Single values of events → texts that PostgreSQL reads."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import date
from decimal import Context, Decimal

import msgspec

Decode = Callable[[bytes], str]
"""The text of a value that is not null; its bytes are JSON. Raises one of `UNDECODABLE` for a value of another type."""

#: What decoding a value that is not of its type raises.
UNDECODABLE = (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, msgspec.MsgspecError)

# More digits than a numeric of PostgreSQL has before its point.
_EXACT = Context(prec=150_000)
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_CYCLE = 146_097  # days in 400 years
# What the driver makes of infinite timestamps (org.postgresql.PGStatement.DATE_POSITIVE_INFINITY and its opposite), in
# micro- and milliseconds, and of infinite dates, whose days overflow.
_INFINITE = {
    9223372036825200000: "infinity", -9223372036832400000: "-infinity", 9223372036825200: "infinity",
    -9223372036832400: "-infinity",
}  # fmt: skip
_INFINITE_DAYS = {-2147472692: "infinity", -2147472691: "-infinity"}
_INFINITE_TEXTS = {
    "+294247-01-10T04:00:25.2Z": "infinity", "-290308-12-21T19:59:27.6Z": "-infinity",
    "-5877611-06-21Z": "infinity", "-5877611-06-22Z": "-infinity",
}  # fmt: skip
_NOT_FINITE = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}


def a_text(value: bytes) -> str:
    """A text."""
    found = msgspec.json.decode(value)
    if not isinstance(found, str):
        raise TypeError
    return found


def text_or_json(value: bytes) -> str:
    """A text; of anything else its JSON."""
    return a_text(value) if value[:1] == b'"' else value.decode()


def as_is(value: bytes) -> str:
    """JSON as it is in the event."""
    return value.decode()


def document(value: bytes) -> str:
    """A text that holds JSON, or JSON."""
    return a_text(value) if value[:1] == b'"' else value.decode()


def _integer(value: bytes) -> int:
    return int(value)


def boolean(value: bytes) -> str:
    """True or false."""
    if value not in (b"true", b"false"):
        raise ValueError
    return value.decode()


def number(value: bytes) -> str:
    """A JSON number as it is written, or a text of one."""
    if value[:1] != b'"':
        return str(Decimal(value.decode())) if b"E" in value or b"e" in value else _digits(value)
    found = a_text(value)
    return _NOT_FINITE.get(found.upper(), found)


def _digits(value: bytes) -> str:
    if value[:1] not in b"-0123456789":
        raise ValueError
    return value.decode()


def _unscaled(value: str, scale: int) -> str:
    number = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
    return f"{Decimal(number).scaleb(-scale, _EXACT):f}"


def decimal(scale: int) -> Decode:
    """The bytes of a number without its point, of which `scale` digits come after it."""
    return lambda value: _unscaled(a_text(value), scale)


def loose_decimal(value: bytes) -> str:
    """A number with its own scale."""
    found = msgspec.json.decode(value)
    return _unscaled(found["value"], int(found["scale"]))


def either_decimal(scale: int) -> Decode:
    """Of a column without a scale at the source, an event has each value's own."""
    return lambda value: loose_decimal(value) if value[:1] == b"{" else _unscaled(a_text(value), scale)


def bits(length: int) -> Decode:
    """Bytes from the lowest on. A bit string's leading zeros are not sent; its `length` is needed for them."""

    def decode(value: bytes) -> str:
        if value in (b"true", b"false"):
            return "1" if value == b"true" else "0"
        number = int.from_bytes(base64.b64decode(a_text(value), validate=True), "little")
        return f"{number:b}".zfill(length) if number or length else ""

    return decode


def day(value: bytes) -> str:
    """A date, in days since 1970.

    Years beyond those of Python's calendar are reckoned as PostgreSQL does, by the Gregorian cycle of 400 years.
    """
    number = _integer(value)
    if (infinite := _INFINITE_DAYS.get(number)) is not None:
        return infinite
    cycles, within = divmod(_EPOCH + number - 1, _CYCLE)
    found = date.fromordinal(within + 1)
    year = found.year + cycles * 400
    era = "" if year > 0 else " BC"
    return f"{year if year > 0 else 1 - year:04}-{found.month:02}-{found.day:02}{era}"


def _time_of_day(us: int) -> str:
    """Microseconds since midnight; 24:00:00 is a time of PostgreSQL's."""
    if not 0 <= us <= _DAY_US:
        raise ValueError
    seconds, fraction = divmod(us, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"


def _in_us(value: bytes, unit: float) -> int:
    number = _integer(value)
    if unit >= 1:
        return number * int(unit)
    us, rest = divmod(number, 1_000)
    if rest:
        raise ValueError  # nanoseconds, which PostgreSQL would lose
    return us


def clock(unit: float) -> Decode:
    """A time of day, in units of so many microseconds."""
    return lambda value: _time_of_day(_in_us(value, unit))


def timestamp(unit: float) -> Decode:
    """A timestamp since 1970, in units of so many microseconds."""

    def decode(value: bytes) -> str:
        if (infinite := _INFINITE.get(_integer(value))) is not None:
            return infinite
        days, us = divmod(_in_us(value, unit), _DAY_US)
        date_text, _, era = day(str(days).encode()).partition(" ")
        return f"{date_text} {_time_of_day(us)}{' BC' if era else ''}"

    return decode


def interval(unit: float) -> Decode:
    """An interval, in units of so many microseconds."""
    return lambda value: f"{_in_us(value, unit)} microseconds"


def without_zone(value: bytes) -> str:
    """Dates and times without a zone end with the Z of UTC, which they are not in."""
    found = a_text(value)
    if not found.endswith("Z"):
        raise ValueError
    return _INFINITE_TEXTS.get(found) or found[:-1]


def bytes_of_base64(value: bytes) -> str:
    """Bytes written as base64."""
    return f"\\x{base64.b64decode(a_text(value), validate=True).hex()}"


def bytes_of_url_safe(value: bytes) -> str:
    """Bytes written as base64 that is safe in URLs."""
    found = a_text(value)
    return f"\\x{base64.b64decode(found + '=' * (-len(found) % 4), b'-_', validate=True).hex()}"


def bytes_of_hex(value: bytes) -> str:
    """Bytes written in hex."""
    return f"\\x{bytes.fromhex(a_text(value)).hex()}"
