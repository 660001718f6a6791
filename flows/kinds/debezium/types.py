"""Types of columns: which may be declared, by which name raw has them, and when a text is a value of one."""

from __future__ import annotations

import re

_ALIASES = {
    "int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint", "decimal": "numeric",
    "float4": "real", "float8": "double precision", "float": "double precision", "double": "double precision",
    "bool": "boolean", "varchar": "text", "string": "text", "varbit": "bit varying",
    "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
    "time": "time without time zone", "timetz": "time with time zone",
}  # fmt: skip
_PLAIN = {
    "text", "smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean", "date", "interval",
    "uuid", "jsonb", "bytea", "bit varying", "timestamp without time zone", "timestamp with time zone",
    "time without time zone", "time with time zone",
}  # fmt: skip
_NUMERIC = re.compile(r"(?:numeric|decimal)\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_BITS = re.compile(r"(bit|bit varying|varbit)\(\s*(\d+)\s*\)")
_CLOCK = re.compile(r"(timestamptz|timestamp|timetz|time)\(\s*([0-6])\s*\)( (?:with|without) time zone)?")
_MOST_DIGITS = 1000


def raw_type(declared: str) -> str | None:
    """PostgreSQL's long name of a declared type; None if raw cannot have it."""
    text = " ".join(declared.lower().split())
    if text.endswith("[]"):
        item = raw_type(text[:-2])
        return f"{item}[]" if item is not None and not item.endswith("[]") else None
    if (numeric := _NUMERIC.fullmatch(text)) is not None:
        digits, scale = int(numeric[1]), int(numeric[2] or 0)
        return f"numeric({digits},{scale})" if 0 < digits <= _MOST_DIGITS and scale <= digits else None
    if (bits := _BITS.fullmatch(text)) is not None:
        return f"{_ALIASES.get(bits[1], bits[1])}({bits[2]})" if int(bits[2]) else None
    if (clock := _CLOCK.fullmatch(text)) is not None:
        long = _ALIASES[clock[1]]
        name, _, zone = (clock[1] + clock[3] if clock[3] else long).partition(" ")
        return f"{name}({clock[2]}) {zone}"
    text = _ALIASES.get(text, text)
    return text if text in _PLAIN else None


def precision(kind: str) -> int:
    """The decimals of seconds that a type of raw keeps."""
    found = re.match(r"time(?:stamp)?\((\d)\)", kind)
    return int(found[1]) if found else 6


def valid(text: str, kind: str) -> str:
    """SQL: whether the expression `text` is null or a value of the type, from which nothing would be rounded away."""
    if kind == "text":
        return "true"
    fits = f"pg_input_is_valid({text}, '{kind}')"
    whole = re.sub(r"\([\d,]+\)", "", kind)
    if whole != kind and not kind.startswith("bit"):
        fits = f"case when {fits} then {text}::{whole} is not distinct from {text}::{kind}::{whole} else false end"
    return f"({text} is null or {fits})"
