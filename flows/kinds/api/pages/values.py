"""Values of a response by which pagination goes on, and refusals of those that cannot be."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document, kind_of
from flows.kinds.api.http.request import Value
from flows.values.errors import ListUnfinished
from flows.values.json_path import parse_path


def is_repeat(page: Sequence[bytes], last: Sequence[bytes]) -> bool:
    """Whether a page is the previous one again."""
    return bool(page) and len(page) == len(last) and page[0] == last[0] and page[-1] == last[-1]


def unfinished(what: str) -> AttemptFailed:
    """The list contradicts itself, so that its end is not proven."""
    return AttemptFailed(
        what,
        "what came before is kept, nothing is marked as deleted, and the next run goes on from there; if it persists, "
        "compare a response with the declared pagination and total",
        kind=ListUnfinished,
    )


def refuse_repeat(page: Sequence[bytes], last: Sequence[bytes]) -> None:
    """Refuse a page that is byte-identical to the previous one.

    Raises:
        AttemptFailed: it is, so the API ignores the page parameter.
    """
    if is_repeat(page, last):
        raise AttemptFailed(
            "two consecutive pages have identical records",
            "the API seems to ignore its own page parameter: check params and pagination",
        )


def flag(document: Document, at: str) -> bool | None:
    """The boolean at a path of the pagination; None if there is none.

    Raises:
        AttemptFailed: the value has another type.
    """
    try:
        return document.flag(parse_path(at))
    except Absent as absent:
        found = str(absent)
    raise unfinished(f"whether there is a next page cannot be found: {found}")


def token_at(document: Document, at: str, *, in_body: bool) -> Value | None:
    """As `told`; a list too, if it goes into a body.

    Raises:
        AttemptFailed: the value has another type.
    """
    if in_body:
        try:
            value = document.at(parse_path(at))
        except Absent:
            return None
        if kind_of(value) == "list":
            found: list[object] = msgspec.json.decode(value)
            return found or None
    return told(document, at)


def told(document: Document, at: str) -> str | int | None:
    """The text or integer at a path of the pagination; None if there is none.

    Raises:
        AttemptFailed: the value has another type.
    """
    try:
        return document.token(parse_path(at))
    except Absent as absent:
        found = str(absent)
    raise AttemptFailed(
        f"the next page cannot be found: {found}",
        f"check {at!r} of the declared pagination against a response; nothing was skipped",
        kind=ListUnfinished,
    )
