"""Records that jsonb cannot hold are separated for quarantine."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from flows.quality.quarantine import Unreadable

# The path of a key's value; empty for what is copied into the record, a position if that is one of several values.
Steps = tuple[str, ...] | int

# jsonb accepts neither; PostgreSQL would refuse the full COPY for one of them. Six bytes in the JSON text:
# \u0000, or a surrogate (\ud800 to \udfff) that may lack its other half.
_SUSPECT = (b"\\u0000", b"\\ud", b"\\uD")
# jsonb stores numbers as numeric: up to 131,072 digits before the point and 16,383 after it. Candidates for more are
# parsed; the match may also be inside a string.
_DIGITS = 16_000
_EXPONENT_LENGTH = 6
_HUGE = re.compile(rb"\d[eE][+-]?\d{5}|\d{16000}")


def readable(
    records: Sequence[bytes],
    keys: Sequence[Steps],
    unreadable: list[Unreadable],
    *,
    careful: bool,
    parent: str | None = None,
) -> Sequence[bytes]:
    """The records that jsonb can hold; the others are added to those quarantined as text.

    `keys` are the paths of the key's values, an empty one for the `parent`'s key. A page is first searched as a whole:
    hardly any has a candidate. Unless `careful`, numbers with exponents of five digits pass: searching for them took
    2.4 s in 300,000 records, more than reading and landing them. If PostgreSQL refuses one, the caller repeats with
    `careful`.
    """
    if not careful and _unsuspicious(records):
        return records
    return [record for record in records if _readable(record, keys, unreadable, parent)]


def unknown_fields(record: bytes, keys: Sequence[Steps], parent: str | None = None) -> Unreadable:
    """A record with unknown fields, for quarantine."""
    text = record.decode("utf-8", errors="backslashreplace")
    return Unreadable("fields_as_known", text, _key_texts(record, keys, parent))


def _unsuspicious(records: Sequence[bytes]) -> bool:
    page = b"\n".join(records)
    # A single backslash is found ten times faster than what follows it.
    if (b"\\" in page and any(mark in page for mark in _SUSPECT)) or max(map(len, records), default=0) > _DIGITS:
        return False
    if page.isascii():
        return True
    try:
        page.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _readable(record: bytes, keys: Sequence[Steps], unreadable: list[Unreadable], parent: str | None) -> bool:
    rule = _unreadable_rule(record)
    if rule is not None:
        # PostgreSQL's text accepts no more than jsonb does: the escapes are kept as written.
        text = record.decode("utf-8", errors="backslashreplace")
        unreadable.append(Unreadable(rule, text, _key_texts(record, keys, parent)))
    return rule is None


def _unreadable_rule(record: bytes) -> str | None:
    try:
        record.decode("utf-8")
    except UnicodeDecodeError:
        return "payload_not_utf8"
    if any(mark in record for mark in _SUSPECT):
        if b"\\u0000" in record.replace(rb"\\", b""):
            return "payload_holds_nul"
        try:
            # The standard library's decoder joins surrogate pairs and keeps lone surrogates; encoding finds those.
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
    """A number beyond the range of PostgreSQL's numeric."""


def _measured(number: str) -> str:
    digits, _, exponent = number.lower().partition("e")
    if len(digits) > _DIGITS or len(exponent) > _EXPONENT_LENGTH or abs(int(exponent or 0)) > _DIGITS:
        raise _TooLarge
    return number


def _key_texts(record: bytes, keys: Sequence[Steps], parent: str | None) -> str | tuple[str | None, ...] | None:
    """The record's key as text, if it can be read although the record cannot be stored."""
    document = json.loads(record.decode("utf-8", errors="replace"), parse_int=str)
    texts = tuple(_text(document, key) if isinstance(key, tuple) and key else _copied(parent, key) for key in keys)
    return texts[0] if len(texts) == 1 else texts


def _copied(parent: str | None, key: Steps) -> str | None:
    if parent is None or not isinstance(key, int):
        return parent
    value: str | None = json.loads(parent)[key]
    return value


def _text(value: object, steps: tuple[str, ...]) -> str | None:
    for step in steps:
        if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value if isinstance(value, str) and value.isprintable() and "\ufffd" not in value else None
