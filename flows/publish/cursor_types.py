"""Which columns a cursor can follow, checked before the first load: an unfit one would lose rows or fail only later."""

from __future__ import annotations

import re

from flows.declare.cursor import Epoch, Sequence, Timestamp, TransactionId
from flows.values.errors import SourceError

WHOLE = re.compile(r"smallint|integer|bigint|oid|numeric(\(\d+,(0|-\d+)\))?")
EPOCH = re.compile(r"integer|bigint|double precision|numeric(\(\d+,-?\d+\))?")
TIME = re.compile(r"date|timestamp(\(\d\))? with(out)? time zone")

Cursor = Timestamp | Epoch | Sequence | TransactionId


def refuse_unfit(cursor: Cursor | None, raw_type: str, said: str, where: str, times: re.Pattern[str] = TIME) -> None:
    """`said` is the type as the source spells it, `times` are types in raw of columns with times.

    Raises:
        SourceError: the type of the cursor's column does not fit the cursor.
    """
    match cursor:
        case None | TransactionId():
            return
        case Timestamp():
            fits, wanted = times.fullmatch(raw_type), "date, timestamp or timestamp with time zone"
            other = "Epoch(…) for numbers since 1970, or a view at the source that casts it"
        case Epoch():
            fits, wanted = EPOCH.fullmatch(raw_type), "integer, bigint, numeric or double precision"
            other = "Timestamp(…) for timestamps"
        case Sequence():
            fits, wanted = WHOLE.fullmatch(raw_type), "smallint, integer, bigint or numeric without decimals"
            other = "Timestamp(…) or Epoch(…) for times, or a view at the source that casts it"
    if fits is None:
        raise SourceError(
            f'the cursor {type(cursor).__name__}("{cursor.column}") needs a column of type {wanted}, and it has type '
            f"{said or 'none'}",
            where=where,
            fix=f"declare another column, or {other}",
        )


def whole(value: object, cursor: Sequence, where: str) -> str | None:
    """The highest number of a sequence's column, as text.

    Raises:
        SourceError: it is not a whole number.
    """
    if value is None:
        return None
    number, _, fraction = str(value).partition(".")
    if fraction.strip("0") or not number.removeprefix("-").isdigit():
        raise SourceError(
            f"the highest value of {cursor.column} is not a whole number, so it is no sequence",
            where=where,
            fix="declare another column, or Timestamp(…) or Epoch(…) for times",
        )
    return number


def higher(one: str | None, other: str | None) -> str | None:
    """The higher of two numbers: a cursor never moves back."""
    known = [value for value in (one, other) if value is not None]
    return max(known, key=int) if known else None
