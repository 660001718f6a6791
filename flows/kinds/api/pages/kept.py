"""Records of a page that are kept: an API that cannot filter sends others as well."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.http.json_walk import Absent, Document, kind_of
from flows.values.json_path import parse_path

_TEXT = msgspec.json.Decoder(str)


class Kept:
    """Keeps what changed since a value of the cursor, if the API does not filter by it, and has such a value."""

    def __init__(self, cursor: Since | ChangeToken | None, since: str | None) -> None:
        self._cursor = cursor if isinstance(cursor, Since) else None
        self._since = since if self._cursor is not None and not self._cursor.parameter else None
        self._needs_value = self._cursor is not None and self._cursor.missing == "exclude"

    def of(self, records: list[bytes]) -> list[bytes]:
        """The records that are kept."""
        cursor = self._cursor
        if cursor is None or (self._since is None and not self._needs_value):
            return records
        kept = records
        if self._needs_value:
            kept = [record for record in kept if _value(record, cursor) is not None]
        if self._since is not None:
            kept = [record for record in kept if not is_older(record, cursor, self._since)]
        return kept

    def has_passed(self, records: Sequence[bytes]) -> bool:
        """Whether all that follows is older, since all of these are, and the newest come first."""
        cursor, since = self._cursor, self._since
        if cursor is None or since is None or cursor.ordered != "desc" or not records:
            return False
        return all(is_older(record, cursor, since) for record in records)


def is_older(record: bytes, cursor: Since, since: str) -> bool:
    """Whether a record is known to be from before. By a date, those of the same day are not."""
    value = _value(record, cursor)
    if value is None:
        return False
    try:
        order, bound = cursor.order(value), cursor.order(since)
        if isinstance(order, str) or isinstance(bound, str):
            return str(order) < str(bound)
        if isinstance(order, int) or isinstance(bound, int):
            return isinstance(order, int) and isinstance(bound, int) and order < bound
        return order < bound and (cursor.form != "date" or order.date() < bound.date())
    except (ValueError, OverflowError):
        return False


def highest(records: Sequence[bytes], cursor: Since) -> str | None:
    """The highest value of the cursor, a number or a text; None if no record has one."""
    numbers, texts = list[int](), list[str]()
    for record in records:
        value = _value(record, cursor)
        if value is not None and cursor.form == "text":
            texts.append(value)
        elif value is not None and value.removeprefix("-").isdecimal():
            numbers.append(int(value))
    # UTF-8 orders as its code points do, and so does Python.
    return str(max(numbers)) if numbers else max(texts, default=None)


def _value(record: bytes, cursor: Since) -> str | None:
    """The cursor's value in a record, as text; None if it has none."""
    try:
        value = Document(record).at(parse_path(cursor.field))
        text = _TEXT.decode(value) if kind_of(value) == "text" else bytes(value[:100]).decode()
    except (Absent, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if kind_of(value) == "null" else text
