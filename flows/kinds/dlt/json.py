"""A record of a dlt resource as JSON for jsonb: every digit is kept, without dlt's own type markers.

    Decimal                  a number with all its digits: 12.50
    date, time, datetime     ISO 8601 texts, with the offset that they have: "2026-01-31T09:00:00.000001+01:00"
    UUID, Enum, bytes        the text, the value, base64
    NaN, Infinity            the texts "NaN", "Infinity", "-Infinity", which PostgreSQL's numbers read back

dlt would write decimals as strings, in its typed form with a private prefix character; JSON has no NaN.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from flows.values.errors import SourceError


class NotJson(Exception):
    """A record that JSON cannot represent. `kind` is the offending type."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


def record_encoder() -> Callable[[Any], bytes]:
    """A function from one record to its JSON, which is an object: other values become {"value": …}, as in dlt."""
    encode = value_encoder()

    def encode_record(record: Any) -> bytes:
        is_object = not isinstance(record, str | bytes | int | float | Decimal | list | tuple)
        return encode(record if is_object else {"value": record})

    return encode_record


def value_encoder() -> Callable[[Any], bytes]:
    """A function from any value to its JSON.

    A lone surrogate is written as its escape, for the row checks. The function raises `NotJson`.
    """
    # simplejson comes with dlt; the standard library's encoder cannot write a Decimal as a number.
    simplejson = importlib.import_module("simplejson")
    others = importlib.import_module("dlt.common.json").custom_encode

    def value(other: Any) -> Any:
        if type(other).__module__ == "numpy":
            return other.item()
        try:
            return _finite(others(other))
        except TypeError:
            raise NotJson(type(other).__name__) from None

    # encoding=None: bytes are not decoded, and are passed to `value`.
    common = {"use_decimal": True, "allow_nan": False, "encoding": None, "default": value, "separators": (",", ":")}
    plain = simplejson.JSONEncoder(ensure_ascii=False, **common).encode
    escaped = simplejson.JSONEncoder(ensure_ascii=True, **common).encode

    def encode(whole: Any) -> bytes:
        try:
            try:
                text = plain(whole)
            except ValueError:
                whole = _finite(whole)
                text = plain(whole)
            try:
                return bytes(text, "utf-8")
            except UnicodeEncodeError:
                return bytes(escaped(whole), "ascii")
        except (TypeError, ValueError, RecursionError) as problem:
            raise NotJson(_culprit(problem)) from None

    return encode


def _culprit(problem: Exception) -> str:
    if isinstance(problem, TypeError):
        return "an object whose field names are not strings"
    return "a circular reference"


def _finite(value: Any) -> Any:
    """The value with strings in place of NaN and infinities, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _name(math.isnan(value), value > 0)
    if isinstance(value, Decimal) and not value.is_finite():
        return _name(value.is_nan(), value > 0 if not value.is_nan() else False)
    return value


def _name(is_nan: bool, positive: bool) -> str:
    return "NaN" if is_nan else "Infinity" if positive else "-Infinity"


def no_json(kind: str, where: str) -> SourceError:
    """The error for a record that JSON cannot represent."""
    return SourceError(
        f"a record contains {kind}, which JSON cannot represent",
        where=where,
        fix="convert it to a string or a number in the resource, with add_map",
    )
