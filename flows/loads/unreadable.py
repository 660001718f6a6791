"""Records that jsonb cannot hold: which they are, and what is kept of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from flows.quality.quarantine import Unreadable

# jsonb holds neither; PostgreSQL would refuse the whole COPY for one of them. Six bytes in the JSON text:
# \u0000, or a surrogate (\ud800 to \udfff) that may lack its other half.
_SUSPECT = (b"\\u0000", b"\\ud", b"\\uD")
# jsonb keeps numbers as numeric: up to 131,072 digits before the point and 16,383 after it. What looks like more is
# measured; inside a text it may be anything.
_DIGITS = 16_000
_EXPONENT_LENGTH = 6
_HUGE = re.compile(rb"\d[eE][+-]?\d{5}|\d{16000}")


def readable(records: Sequence[bytes], keys: tuple[str, ...], unreadable: list[Unreadable]) -> list[bytes]:
    """The records that jsonb can hold; the others join those that go to quarantine as text."""
    kept = []
    for record in records:
        rule = unreadable_rule(record)
        if rule is None:
            kept.append(record)
            continue
        # PostgreSQL's text holds no more than jsonb does: the escapes stay as they are written.
        text = record.decode("utf-8", errors="backslashreplace")
        unreadable.append(Unreadable(rule, text, _key_texts(record, keys)))
    return kept


def unreadable_rule(record: bytes) -> str | None:
    """The rule that a record breaks which jsonb cannot hold; None when it can."""
    try:
        record.decode("utf-8")
    except UnicodeDecodeError:
        return "payload_not_utf8"
    if any(mark in record for mark in _SUSPECT):
        if b"\\u0000" in record.replace(rb"\\", b""):
            return "payload_holds_nul"
        try:
            # The decoder of the standard library joins surrogate pairs and keeps lone halves; encoding finds those.
            json.dumps(json.loads(record, parse_int=str, parse_float=str), ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return "payload_holds_lone_surrogate"
    if _HUGE.search(record):
        try:
            json.loads(record, parse_int=_measured, parse_float=_measured)
        except _TooLarge:
            return "payload_number_too_large"
    return None


class _TooLarge(Exception):
    """A number beyond what PostgreSQL's numeric holds."""


def _measured(number: str) -> str:
    digits, _, exponent = number.lower().partition("e")
    if len(digits) > _DIGITS or len(exponent) > _EXPONENT_LENGTH or abs(int(exponent or 0)) > _DIGITS:
        raise _TooLarge
    return number


def _key_texts(record: bytes, keys: tuple[str, ...]) -> tuple[str | None, ...]:
    """The texts of the record's key, where they can be read though the record cannot be kept."""
    fields = json.loads(record.decode("utf-8", errors="replace"), parse_int=str)
    texts = [fields.get(key) if isinstance(fields, dict) else None for key in keys]
    return tuple(
        text if isinstance(text, str) and text.isprintable() and "\ufffd" not in text else None for text in texts
    )
