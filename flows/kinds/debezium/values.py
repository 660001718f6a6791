"""Values of events, as their converters write them → texts that PostgreSQL reads, and the types that raw has for them.

By the event's schema, whose names say what a value is; without one, by the declared type and the connector's settings.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import md5
from typing import Any

import msgspec

from flows.kinds.debezium import convert
from flows.kinds.debezium.convert import Decode
from flows.kinds.debezium.declared import Encodings
from flows.kinds.debezium.types import precision


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
        return Kind(f"numeric({digits},{scale})" if fits else "numeric", convert.decimal(scale))
    if name == f"{_DATA}VariableScaleDecimal":
        return Kind("numeric", convert.loose_decimal)
    if name == f"{_DATA}Json":
        return Kind("jsonb", convert.a_text)
    if name == f"{_DATA}Uuid":
        return Kind("uuid", convert.a_text)
    if name == f"{_DATA}Bits":
        length = int(parameters.get("length") or 0)
        known = 0 < length < 83_886_081  # beyond it the length is that of a type without one
        return Kind(f"bit({length})", convert.bits(length)) if known else Kind("bit varying", convert.bits(0))
    if name.startswith(_DATA) and name.removeprefix(_DATA) in _TEXTS:
        return Kind("text", convert.a_text)
    if kind == "array":
        return _array(by_schema(field["items"]))
    if kind in ("struct", "map"):
        return Kind("jsonb", convert.as_is)
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
            return Kind(raw_type, convert.number)
        return Kind(raw_type, convert.loose_decimal if scale is None else convert.either_decimal(scale))
    if (word := raw_type.replace("(", " ").split()[0]) in ("date", "time", "timestamp"):
        return Kind(raw_type, _moment(raw_type, word, encodings.time))
    if base == "interval":
        return Kind(raw_type, convert.a_text if encodings.interval == "string" else convert.interval(1))
    if base == "bytea":
        return Kind(raw_type, _BINARY[encodings.binary])
    if base in ("bit", "bit varying"):
        length = int(raw_type[:-1].partition("(")[2]) if base == "bit" and "(" in raw_type else 0
        return Kind(raw_type, convert.bits(length or (1 if base == "bit" else 0)))
    if base == "boolean":
        return Kind(raw_type, convert.boolean)
    if base in ("smallint", "integer", "bigint", "real", "double precision"):
        return Kind(raw_type, convert.number)
    return Kind(raw_type, convert.document if base == "jsonb" else convert.text_or_json)


#: For columns that have neither a schema nor a declared type: the value as it is in the event.
UNDECLARED_TYPE = "jsonb"


def undeclared() -> Kind:
    """A column of which nothing is known."""
    return Kind(UNDECLARED_TYPE, convert.as_is)


def _moment(raw_type: str, base: str, mode: str) -> Decode:
    if raw_type.endswith(" with time zone"):
        return convert.a_text
    if mode == "isostring":
        return convert.without_zone
    if base == "date":
        return convert.day
    adaptive = 1_000 if precision(raw_type) <= 3 else 1
    unit: float = {"connect": 1_000, "microseconds": 1, "nanoseconds": 0.001}.get(mode, adaptive)
    if mode == "adaptive_time_microseconds" and base == "time":
        unit = 1
    return (convert.timestamp if base == "timestamp" else convert.clock)(unit)


_BINARY = {
    "bytes": convert.bytes_of_base64,
    "base64": convert.bytes_of_base64,
    "base64-url-safe": convert.bytes_of_url_safe,
    "hex": convert.bytes_of_hex,
}
_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _array(item: Kind) -> Kind:
    """A list as PostgreSQL writes one. A list of lists, structs or documents stays JSON."""
    if item.raw_type.endswith("[]") or item.raw_type == "jsonb":
        return Kind("jsonb", convert.as_is)

    def decode(value: bytes) -> str:
        items = msgspec.json.decode(value, type=list[msgspec.Raw])
        texts = [
            "NULL" if bytes(one) == b"null" else f'"{item.decode(bytes(one)).translate(_QUOTED)}"' for one in items
        ]
        return f"{{{','.join(texts)}}}"

    return Kind(f"{item.raw_type}[]", decode)


_DATE_KIND = Kind("date", convert.day)
_TIME_TYPE, _STAMP_TYPE = "time without time zone", "timestamp without time zone"
_MOMENTS = {
    f"{_CONNECT}Date": _DATE_KIND,
    f"{_CONNECT}Time": Kind(_TIME_TYPE, convert.clock(1_000)),
    f"{_CONNECT}Timestamp": Kind(_STAMP_TYPE, convert.timestamp(1_000)),
    f"{_TIME}Date": _DATE_KIND,
    f"{_TIME}Time": Kind(_TIME_TYPE, convert.clock(1_000)),
    f"{_TIME}MicroTime": Kind(_TIME_TYPE, convert.clock(1)),
    f"{_TIME}NanoTime": Kind(_TIME_TYPE, convert.clock(0.001)),
    f"{_TIME}Timestamp": Kind(_STAMP_TYPE, convert.timestamp(1_000)),
    f"{_TIME}MicroTimestamp": Kind(_STAMP_TYPE, convert.timestamp(1)),
    f"{_TIME}NanoTimestamp": Kind(_STAMP_TYPE, convert.timestamp(0.001)),
    f"{_TIME}ZonedTimestamp": Kind("timestamp with time zone", convert.a_text),
    f"{_TIME}ZonedTime": Kind("time with time zone", convert.a_text),
    f"{_TIME}IsoDate": Kind("date", convert.without_zone),
    f"{_TIME}IsoTime": Kind(_TIME_TYPE, convert.without_zone),
    f"{_TIME}IsoTimestamp": Kind(_STAMP_TYPE, convert.without_zone),
    f"{_TIME}Interval": Kind("interval", convert.a_text),
    f"{_TIME}MicroDuration": Kind("interval", convert.interval(1)),
    f"{_TIME}NanoDuration": Kind("interval", convert.interval(0.001)),
    f"{_TIME}Year": Kind("integer", convert.number),
}
_PRIMITIVES = {
    "int8": Kind("smallint", convert.number),
    "int16": Kind("smallint", convert.number),
    "int32": Kind("integer", convert.number),
    "int64": Kind("bigint", convert.number),
    "float": Kind("real", convert.number),
    "float32": Kind("real", convert.number),
    "double": Kind("double precision", convert.number),
    "float64": Kind("double precision", convert.number),
    "boolean": Kind("boolean", convert.boolean),
    "string": Kind("text", convert.a_text),
    "bytes": Kind("bytea", convert.bytes_of_base64),
}


# Values beyond some 2 kB are stored apart.
_BITS_STORED_APART = 16_000


def is_unprotected(raw_type: str) -> bool:
    """Whether an unchanged TOAST value of the type is a plain null in an event (Debezium 3.6, run): of bit strings, and
    of arrays of fractions and moments."""
    if raw_type.startswith("bit"):
        length = raw_type.rstrip(")").partition("(")[2]
        return not length or int(length) > _BITS_STORED_APART
    return raw_type.endswith("[]") and raw_type.startswith(("double", "real", "numeric", "timestamp", "date", "time"))


def placeholders(written: str) -> frozenset[bytes]:
    """What an event has in place of an unchanged TOAST value, by the connector's `unavailable.value.placeholder`.

    Of texts, of bytes in each encoding, of arrays of texts, integers or uuids, and of maps. Of other types there is
    none, or not always: an unchanged value of theirs is null in the event, as a null is (`is_unprotected`).
    """
    raw = written.encode()
    codes = list(raw)
    forms: list[Any] = [
        written, base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), raw.hex(), [written],
        [str(uuid.UUID(bytes=md5(raw, usedforsecurity=False).digest(), version=3))],
        [base64.b64encode(raw).decode()], codes, [float(code) for code in codes], {written: written},
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    ]  # fmt: skip
    texts = [json.dumps(form, separators=(",", ":")) for form in forms]
    texts.append(json.dumps(json.dumps({written: written}, separators=(",", ":"))))
    return frozenset(text.encode() for text in texts)
