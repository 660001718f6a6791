"""Extract the records of a page, byte for byte as sent.

Only the path to the list is decoded: every digit of a number and every escape stays as the source wrote it.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from msgspec import Raw

from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.http.body import Body
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document, describe, kind_of
from flows.values.errors import SourceError, SourceUnavailable
from flows.values.json_path import Step, parse_path

_LIST = msgspec.json.Decoder(list[Raw])
_TEXT = msgspec.json.Decoder(str)
_TOTAL = msgspec.json.Decoder(int | None)
# Any escape is matched, so that the second half of `\\` never counts as the start of one.
_ESCAPE = re.compile(rb"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Split:
    """A page's records, the API's total if its path is declared, and the document around them."""

    records: list[bytes]
    total: int | None
    document: Document


@dataclass(frozen=True, slots=True)
class _Places:
    """The paths of an endpoint's records and total; `within` is the path from an element of the list to its record."""

    records: tuple[Step, ...]
    within: tuple[Step, ...]
    total: tuple[Step, ...] | None
    only: tuple[tuple[Step, ...], str] | None


@lru_cache(maxsize=1024)
def _places(records: str, total: str | None, only: str | None) -> _Places:
    listed, _, within = records.partition("[]")
    path, _, value = (only or "").partition("=")
    return _Places(
        parse_path(listed),
        parse_path(within.removeprefix(".")),
        None if total is None else parse_path(total),
        None if only is None else (parse_path(path), value),
    )


def split(body: Body, endpoint: Endpoint) -> Split:
    """The page's records and the API's total.

    A record is returned as received, and may contain what PostgreSQL's jsonb refuses (`\\u0000`, a lone surrogate,
    bytes that are not UTF-8): the row checks handle such a record, and the page is not lost.

    Raises:
        AttemptFailed: not JSON, or not of the declared shape. The message names types, never values.
    """
    try:
        return _split(body.content, endpoint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # msgspec refuses lone surrogates anywhere in a body. Placeholders replace them while the body is split, and the
    # records get them back. Only such pages pay for it.
    mark = secrets.token_hex(16).encode()
    masked, count = _ESCAPE.subn(lambda found: mark + found[1] if found[1] else found[0], body.content)
    try:
        page = _split(masked, endpoint) if count else _split(body.content, endpoint)
    except RecursionError:
        failure = AttemptFailed(
            "the body is nested too deeply to be parsed",
            "ask the operator of the API: records are never nested that deeply",
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        # If only the closed connection marked the end, the body may be truncated; with a length it is not.
        failure = AttemptFailed(
            "the body is not valid JSON",
            "run again later; if it persists, report the response to the API's operator",
            kind=SourceError if body.end_proven else SourceUnavailable,
            again=True,
        )
    else:
        return Split([record.replace(mark, b"\\u") for record in page.records], page.total, page.document)
    raise failure


def whole_document(body: Body) -> Document:
    """The body as JSON of any shape.

    Raises:
        AttemptFailed: it is not JSON.
    """
    try:
        return Document(body.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise AttemptFailed("the body is not valid JSON", "report the response to the API's operator")


def _split(content: bytes, endpoint: Endpoint) -> Split:
    # Decoding a level reads it to its end and so validates it.
    places = _places(endpoint.records, endpoint.total, endpoint.only)
    document = Document(content)
    records = _records(document, places, endpoint)
    if places.only is not None:
        path, value = places.only
        records = [record for record in records if _says(record, path, value)]
    return Split(records, None if places.total is None else _total(document, places.total, endpoint), document)


def _records(document: Document, places: _Places, endpoint: Endpoint) -> list[bytes]:
    try:
        listed = document.at(places.records)
    except Absent as absent:
        found = str(absent)
    else:
        if kind_of(listed) == "list":
            records = [bytes(record) for record in _LIST.decode(listed)]
            return [_inner(record, places.within, endpoint) for record in records] if places.within else records
        if endpoint.may_be_absent and kind_of(listed) == "null":
            return []
        found = f"the {describe(listed)} at {endpoint.records or 'the root'!r} is not a list"
        if not endpoint.records:
            found = f"the {describe(listed)} at the root is not a list"
        raise _wrong_shape(endpoint, "records", found)
    if endpoint.may_be_absent:
        return []
    raise _wrong_shape(endpoint, "records", found)


def _inner(element: bytes, within: Sequence[Step], endpoint: Endpoint) -> bytes:
    try:
        return bytes(Document(element).at(within))
    except Absent as absent:
        found = str(absent)
    raise _wrong_shape(endpoint, "records", f"in an element of the list, {found}")


def _says(record: bytes, path: Sequence[Step], value: str) -> bool:
    """Whether the record has this value there. A record that is not an object is kept, for the row checks."""
    if kind_of(record) != "object":
        return True
    try:
        told = Document(record).at(path)
        # A number or a boolean is compared as it is written.
        return (_TEXT.decode(told) if kind_of(told) == "text" else bytes(told).decode()) == value
    except (Absent, msgspec.DecodeError, UnicodeDecodeError):
        return False


def _total(document: Document, place: Sequence[Step], endpoint: Endpoint) -> int | None:
    try:
        counted = document.at(place)
    except Absent as absent:
        if endpoint.may_be_absent:
            return None
        found = str(absent)
    else:
        try:
            total: int | None = _TOTAL.decode(counted)
            return total
        except msgspec.ValidationError:
            found = f"the {describe(counted)} at {endpoint.total!r} is not an integer"
    raise _wrong_shape(endpoint, "total", found)


def _wrong_shape(endpoint: Endpoint, field: str, found: str) -> AttemptFailed:
    return AttemptFailed(
        f"the response does not have the declared shape: {found}",
        f"compare a response with {field}= of endpoint {endpoint.name}",
    )
