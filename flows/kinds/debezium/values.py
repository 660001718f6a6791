"""Values of events, as their converters write them → texts that PostgreSQL reads, and the types that raw has for them.

By the event's schema, whose names say what a value is; without one, by the declared type and the connector's settings.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal
from typing import Any

import msgspec

from flows.kinds.debezium.declared import Encodings
from flows.kinds.debezium.types import precision

Decode = Callable[[bytes], str]
"""The text of a value that is not null; its bytes are JSON. Raises ValueError and what else conversions raise."""

#: What decoding a value that is not of its type raises.
UNDECODABLE = (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, msgspec.MsgspecError)

# More digits than any numeric of PostgreSQL that a connector can send in one message.
_EXACT = Context(prec=150_000)
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)
# What the driver makes of infinite timestamps (org.postgresql.PGStatement.DATE_POSITIVE_INFINITY and its opposite).
_INFINITE = {
    9223372036825200000: "infinity", -9223372036832400000: "-infinity", 9223372036825200: "infinity",
    -9223372036832400: "-infinity",
}  # fmt: skip
_INFINITE_TEXTS = {
    "+294247-01-10T04:00:25.2Z": "infinity", "-290308-12-21T19:59:27.6Z": "-infinity",
}  # fmt: skip
_NOT_FINITE = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of a column are read: the type that raw has for them, and the conversion."""

    raw_type: str
    decode: Decode


# -- by the event's schema

_CONNECT = "org.apache.kafka.connect.data."
_TIME = "io.debezium.time."
_DATA = "io.debezium.data."
_TEXTS = {"Enum", "EnumSet", "Ltree", "Xml", "TsVector"}


def by_schema(field: Mapping[str, Any]) -> Kind:
    """By a column's schema."""
    name, kind = field.get("name") or "", field["type"]
    parameters = field.get("parameters") or {}
    if (made := _MOMENTS.get(name)) is not None:
        return made
    if name == f"{_CONNECT}Decimal":
        scale = int(parameters["scale"])
        digits = parameters.get("connect.decimal.precision")
        fits = digits is not None and 0 <= scale <= int(digits)
        return Kind(f"numeric({digits},{scale})" if fits else "numeric", _decimal(scale))
    if name == f"{_DATA}VariableScaleDecimal":
        return Kind("numeric", _loose_decimal)
    if name == f"{_DATA}Json":
        return Kind("jsonb", _text)
    if name == f"{_DATA}Uuid":
        return Kind("uuid", _text)
    if name == f"{_DATA}Bits":
        length = int(parameters.get("length") or 0)
        known = 0 < length < 83_886_081  # beyond it the length is that of a type without one
        return Kind(f"bit({length})", _bits(length)) if known else Kind("bit varying", _bits(0))
    if name.startswith(_DATA) and name.removeprefix(_DATA) in _TEXTS:
        return Kind("text", _text)
    if kind == "array":
        return _array(by_schema(field["items"]))
    if kind in ("struct", "map"):
        return Kind("jsonb", _as_is)
    return _PRIMITIVES[kind]


# -- by the declared type


def by_type(raw_type: str, encodings: Encodings) -> Kind:
    """By a declared type of raw, for values without a schema."""
    if raw_type.endswith("[]"):
        return _array(by_type(raw_type[:-2], encodings))
    base = raw_type.partition("(")[0]
    if base == "numeric":
        scale = int(raw_type.rstrip(")").rpartition(",")[2]) if "(" in raw_type else None
        if encodings.decimal != "precise":
            return Kind(raw_type, _number)
        return Kind(raw_type, _loose_decimal if scale is None else _either_decimal(scale))
    if base in ("date", "time", "timestamp"):
        return Kind(raw_type, _moment(raw_type, base, encodings.time))
    if base == "interval":
        return Kind(raw_type, _text if encodings.interval == "string" else _interval(1))
    if base == "bytea":
        return Kind(raw_type, _BINARY[encodings.binary])
    if base in ("bit", "bit varying"):
        length = int(raw_type[:-1].partition("(")[2]) if base == "bit" and "(" in raw_type else 0
        return Kind(raw_type, _bits(length or (1 if base == "bit" else 0)))
    if base == "boolean":
        return Kind(raw_type, _boolean)
    if base in ("smallint", "integer", "bigint", "real", "double precision"):
        return Kind(raw_type, _number)
    return Kind(raw_type, _json if base == "jsonb" else _plain)


#: For columns that have neither a schema nor a declared type: the value as it is in the event.
UNDECLARED_TYPE = "jsonb"


def undeclared() -> Kind:
    """A column of which nothing is known."""
    return Kind(UNDECLARED_TYPE, _as_is)


def _moment(raw_type: str, base: str, mode: str) -> Decode:
    if base == "timestamp" and raw_type.endswith("with time zone") and not raw_type.endswith("without time zone"):
        return _text
    if base == "time" and raw_type.endswith("with time zone") and not raw_type.endswith("without time zone"):
        return _text
    if mode == "isostring":
        return _iso_timestamp if base == "timestamp" else _without_zone
    if base == "date":
        return _date
    adaptive = 1_000 if precision(raw_type) <= 3 else 1
    unit: float = {"connect": 1_000, "microseconds": 1, "nanoseconds": 0.001}.get(mode, adaptive)
    if mode == "adaptive_time_microseconds" and base == "time":
        unit = 1
    return (_timestamp if base == "timestamp" else _time)(unit)


# -- conversions


def _text(value: bytes) -> str:
    found = msgspec.json.decode(value)
    if not isinstance(found, str):
        raise TypeError
    return found


def _plain(value: bytes) -> str:
    """A text; of anything else its JSON."""
    return _text(value) if value[:1] == b'"' else value.decode()


def _as_is(value: bytes) -> str:
    return value.decode()


def _json(value: bytes) -> str:
    """A text that holds JSON, or JSON."""
    return _text(value) if value[:1] == b'"' else value.decode()


def _integer(value: bytes) -> int:
    return int(value)


def _boolean(value: bytes) -> str:
    if value not in (b"true", b"false"):
        raise ValueError
    return value.decode()


def _number(value: bytes) -> str:
    """A JSON number as it is written, or a text of one."""
    if value[:1] != b'"':
        return str(Decimal(value.decode())) if b"E" in value or b"e" in value else _digits(value)
    found = _text(value)
    return _NOT_FINITE.get(found.upper(), found)


def _digits(value: bytes) -> str:
    if value[:1] not in b"-0123456789":
        raise ValueError
    return value.decode()


def _unscaled(value: str, scale: int) -> str:
    number = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
    return f"{Decimal(number).scaleb(-scale, _EXACT):f}"


def _decimal(scale: int) -> Decode:
    return lambda value: _unscaled(_text(value), scale)


def _loose_decimal(value: bytes) -> str:
    found = msgspec.json.decode(value)
    return _unscaled(found["value"], int(found["scale"]))


def _either_decimal(scale: int) -> Decode:
    """Of a column without a scale at the source, an event has each value's own."""
    return lambda value: _loose_decimal(value) if value[:1] == b"{" else _unscaled(_text(value), scale)


def _bits(length: int) -> Decode:
    """Bytes from the lowest on. A bit string's leading zeros are not sent; its `length` is needed for them."""

    def decode(value: bytes) -> str:
        if value in (b"true", b"false"):
            return "1" if value == b"true" else "0"
        number = int.from_bytes(base64.b64decode(_text(value), validate=True), "little")
        return f"{number:b}".zfill(length) if number or length else ""

    return decode


def _date(value: bytes) -> str:
    days = _integer(value)
    if _EPOCH.toordinal() + days < 1:
        return _before_christ(days)
    return (_EPOCH + timedelta(days=days)).isoformat()


def _before_christ(days: int) -> str:
    """A day of an earlier year, in the Gregorian calendar as PostgreSQL reckons it: its cycle is 146,097 days long."""
    cycles = -((_EPOCH.toordinal() + days - 1) // 146_097)
    if cycles > 20:  # PostgreSQL's calendar begins in 4714 BC
        raise ValueError
    later = date.fromordinal(_EPOCH.toordinal() + days + cycles * 146_097)
    return f"{cycles * 400 + 1 - later.year:04}-{later.month:02}-{later.day:02} BC"


def _clock(us: int) -> str:
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


def _time(unit: float) -> Decode:
    return lambda value: _clock(_in_us(value, unit))


def _timestamp(unit: float) -> Decode:
    def decode(value: bytes) -> str:
        if (infinite := _INFINITE.get(_integer(value))) is not None:
            return infinite
        days, us = divmod(_in_us(value, unit), _DAY_US)
        day, _, era = _date(str(days).encode()).partition(" ")
        return f"{day} {_clock(us)}{' BC' if era else ''}"

    return decode


def _interval(unit: int) -> Decode:
    return lambda value: f"{_integer(value) * unit} microseconds"


def _without_zone(value: bytes) -> str:
    """Times without a zone end with the Z of UTC, which they are not in."""
    found = _text(value)
    if not found.endswith("Z"):
        raise ValueError
    return found[:-1]


def _iso_timestamp(value: bytes) -> str:
    return _INFINITE_TEXTS.get(_text(value)) or _without_zone(value)


def _bytes(value: bytes) -> str:
    return f"\\x{base64.b64decode(_text(value), validate=True).hex()}"


def _url_safe(value: bytes) -> str:
    found = _text(value)
    return f"\\x{base64.b64decode(found + '=' * (-len(found) % 4), b'-_', validate=True).hex()}"


def _hex(value: bytes) -> str:
    return f"\\x{bytes.fromhex(_text(value)).hex()}"


_BINARY = {"bytes": _bytes, "base64": _bytes, "base64-url-safe": _url_safe, "hex": _hex}
_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _array(item: Kind) -> Kind:
    """A list as PostgreSQL writes one. A list of lists, structs or documents stays JSON."""
    if item.raw_type.endswith("[]") or item.raw_type == "jsonb":
        return Kind("jsonb", _as_is)

    def decode(value: bytes) -> str:
        items = msgspec.json.decode(value, type=list[msgspec.Raw])
        texts = [
            "NULL" if bytes(one) == b"null" else f'"{item.decode(bytes(one)).translate(_QUOTED)}"' for one in items
        ]
        return f"{{{','.join(texts)}}}"

    return Kind(f"{item.raw_type}[]", decode)


_DATE_KIND = Kind("date", _date)
_TIME_TYPE, _STAMP_TYPE = "time without time zone", "timestamp without time zone"
_MOMENTS = {
    f"{_CONNECT}Date": _DATE_KIND,
    f"{_CONNECT}Time": Kind(_TIME_TYPE, _time(1_000)),
    f"{_CONNECT}Timestamp": Kind(_STAMP_TYPE, _timestamp(1_000)),
    f"{_TIME}Date": _DATE_KIND,
    f"{_TIME}Time": Kind(_TIME_TYPE, _time(1_000)),
    f"{_TIME}MicroTime": Kind(_TIME_TYPE, _time(1)),
    f"{_TIME}NanoTime": Kind(_TIME_TYPE, _time(0.001)),
    f"{_TIME}Timestamp": Kind(_STAMP_TYPE, _timestamp(1_000)),
    f"{_TIME}MicroTimestamp": Kind(_STAMP_TYPE, _timestamp(1)),
    f"{_TIME}NanoTimestamp": Kind(_STAMP_TYPE, _timestamp(0.001)),
    f"{_TIME}ZonedTimestamp": Kind("timestamp with time zone", _text),
    f"{_TIME}ZonedTime": Kind("time with time zone", _text),
    f"{_TIME}IsoDate": Kind("date", _without_zone),
    f"{_TIME}IsoTime": Kind(_TIME_TYPE, _without_zone),
    f"{_TIME}IsoTimestamp": Kind(_STAMP_TYPE, _iso_timestamp),
    f"{_TIME}Interval": Kind("interval", _text),
    f"{_TIME}MicroDuration": Kind("interval", _interval(1)),
    f"{_TIME}NanoDuration": Kind("interval", lambda value: f"{_in_us(value, 0.001)} microseconds"),
    f"{_TIME}Year": Kind("integer", _number),
}
_PRIMITIVES = {
    "int8": Kind("smallint", _number),
    "int16": Kind("smallint", _number),
    "int32": Kind("integer", _number),
    "int64": Kind("bigint", _number),
    "float": Kind("real", _number),
    "float32": Kind("real", _number),
    "double": Kind("double precision", _number),
    "float64": Kind("double precision", _number),
    "boolean": Kind("boolean", _boolean),
    "string": Kind("text", _text),
    "bytes": Kind("bytea", _bytes),
}


def placeholders(written: str) -> frozenset[bytes]:
    """What an event has in place of an unchanged TOAST value, by the connector's `unavailable.value.placeholder`.

    Of texts, of bytes in each encoding, of arrays of texts or numbers, and of maps.
    """
    raw = written.encode()
    codes = list(raw)
    forms: list[Any] = [
        written, base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), raw.hex(), [written],
        [base64.b64encode(raw).decode()], codes, [float(code) for code in codes], {written: written},
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    ]  # fmt: skip
    texts = [json.dumps(form, separators=(",", ":")) for form in forms]
    texts.append(json.dumps(json.dumps({written: written}, separators=(",", ":"))))
    return frozenset(text.encode() for text in texts)
