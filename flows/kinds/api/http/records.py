"""Extract the records of a page, byte for byte as sent.

Only the path to the list is decoded: every digit of a number and every escape stays as the source wrote it.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import msgspec
from msgspec import Raw

from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.http.body import Body
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document, describe, kind_of
from flows.values.errors import ListUnfinished, SourceError, SourceUnavailable
from flows.values.json_path import Each, Step, parse_path

_LIST = msgspec.json.Decoder(list[Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_KEY = msgspec.json.Encoder()
_TEXT = msgspec.json.Decoder(str)
_TOTAL = msgspec.json.Decoder(int | None)
# Fields by which an API says that it failed, also with status 200, and those that say so if they are false.
_FAILURES = ("error", "errors", "fault", "exception", "Error", "Errors", "Fault", "error_message", "errorMessage")
_SUCCESSES = ("ok", "success", "succeeded", "Success")
_NO_FAILURE = frozenset(b'null false 0 "" [] {} "0" "none" "None" "ok" "OK" "success"'.split(b" "))
_FAILED_STATUS = ("error", "failed", "failure", "fail")
# Any escape is matched, so that the second half of `\\` never counts as the start of one.
_ESCAPE = re.compile(rb"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Split:
    """A page's records, the API's total if its path is declared, and the document around them.

    `listed` counts also the records that `only=` excludes; `absent`: there is no list in the document.
    """

    records: list[bytes]
    total: int | None
    document: Document
    listed: int
    absent: bool = False


@dataclass(frozen=True, slots=True)
class _Places:
    """The paths of an endpoint's records and total; `within` is the path from an element of the list to its record."""

    records: tuple[Step, ...]
    within: tuple[Step, ...]
    total: tuple[Step, ...] | None
    only: tuple[tuple[Step, ...], str] | None

    @property
    def is_many(self) -> bool:
        """Whether several values have records."""
        return any(isinstance(step, Each) for step in self.records)


@lru_cache(maxsize=1024)
def _places(records: str, total: str | None, only: str | None) -> _Places:
    listed, _, within = records.partition("[]")
    path, _, value = (only or "").partition("=")
    return _Places(
        parse_path(listed, many=True),
        parse_path(within.removeprefix(".")),
        None if total is None else parse_path(total),
        None if only is None else (parse_path(path), value),
    )


def split(body: Body, endpoint: Endpoint, *, believed: bool = False) -> Split:
    """The page's records and the API's total. `believed`: it is declared to be a page, even one that reports a failure.

    A record is returned as received, and may contain what PostgreSQL's jsonb refuses (`\\u0000`, a lone surrogate,
    bytes that are not UTF-8): the row checks handle such a record, and the page is not lost.

    Raises:
        AttemptFailed: not JSON, or not of the declared shape. The message names types, never values.
    """
    try:
        return _split(body.content, endpoint, believed=believed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # msgspec refuses lone surrogates anywhere in a body. Placeholders replace them while the body is split, and the
    # records get them back. Only such pages pay for it.
    mark = secrets.token_hex(16).encode()
    try:
        page = _split(masked_escapes(body.content, mark), endpoint, believed=believed)
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
        return replace(page, records=[record.replace(mark, b"\\u") for record in page.records])
    raise failure


def masked_escapes(content: bytes, mark: bytes) -> bytes:
    """JSON with `mark` instead of the `\\u` of each surrogate."""
    return _ESCAPE.sub(lambda found: mark + found[1] if found[1] else found[0], content)


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


def _split(content: bytes, endpoint: Endpoint, *, believed: bool) -> Split:
    # Decoding a level reads it to its end and so validates it.
    places = _places(endpoint.records, endpoint.total, endpoint.only)
    document = Document(content)
    if not believed:
        _refuse_failure(document, endpoint)
    found = _records(document, places, endpoint)
    records, listed = found or [], len(found or ())
    if places.only is not None:
        path, value = places.only
        records = [record for record in records if _says(record, path, value)]
    total = None if places.total is None else _total(document, places.total, endpoint)
    return Split(records, total, document, listed, absent=found is None)


def _refuse_failure(document: Document, endpoint: Endpoint) -> None:
    """Refuse a failure that is sent with status 200, next to a list or instead of it.

    Raises:
        AttemptFailed: the document says that the request failed.
    """
    inside = parse_path(endpoint.records.partition("[]")[0], many=True)[:1]
    told = [path for path, _, name, value in document.around(1) if inside != (name,) and _is_failure(name, value)]
    failure = next(iter(told), None)
    if failure is not None:
        raise AttemptFailed(
            f"status 200, and the body reports a failure at {failure!r}",
            "run again later; if it persists, report the response to the API's operator",
            kind=ListUnfinished,
            again=True,
        )


def failure_in(record: bytes) -> str | None:
    """Where an object says that the request failed; None if it does not."""
    try:
        around = list(Document(record).around(1)) if kind_of(record) == "object" else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return next((path for path, _, name, value in around if _is_failure(name, value)), None)


def _is_failure(name: str, value: memoryview) -> bool:
    if name in _FAILURES:
        return len(value) > 16 or bytes(value) not in _NO_FAILURE
    if name in _SUCCESSES:
        return bytes(value) == b"false"
    text = _TEXT.decode(value) if kind_of(value) == "text" and len(value) < 32 else ""
    return (name, text) == ("resourceType", "OperationOutcome") or (name == "status" and text.lower() in _FAILED_STATUS)


def _records(document: Document, places: _Places, endpoint: Endpoint) -> list[bytes] | None:
    """The listed records; None if there is no list, and there need not be."""
    try:
        if places.is_many:
            return [record for value in document.each(places.records) for record in _flat(value)]
        listed = document.at(places.records)
    except Absent as absent:
        found = str(absent)
    else:
        if endpoint.records_as != "list":
            return _objects(listed, endpoint)
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
        return None
    raise _wrong_shape(endpoint, "records", found)


def _objects(found: memoryview, endpoint: Endpoint) -> list[bytes]:
    """The record, or the records by their keys, which become their first field."""
    if endpoint.may_be_absent and kind_of(found) == "null":
        return []
    if kind_of(found) != "object":
        raise _wrong_shape(endpoint, "records_as", f"the {describe(found)} at {endpoint.records!r} is not an object")
    if endpoint.records_as == "object":
        return [bytes(found)]
    return [_keyed(key, bytes(record), endpoint) for key, record in _MEMBERS.decode(found).items()]


def _keyed(key: str, record: bytes, endpoint: Endpoint) -> bytes:
    if kind_of(record) != "object":
        raise _wrong_shape(endpoint, "records_as", f"a {kind_of(record)} is not a record")
    rest = record[1:].lstrip()
    return b'{"_key":' + _KEY.encode(key) + (b"" if rest.startswith(b"}") else b",") + rest


def _flat(value: memoryview) -> list[bytes]:
    """The records of one of several values: the elements of a list, or the value itself."""
    return [bytes(record) for record in _LIST.decode(value)] if kind_of(value) == "list" else [bytes(value)]


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
        found = f"the {describe(counted)} at {endpoint.total!r} is not an integer"
        if kind_of(counted) == "text" and (text := _TEXT.decode(counted)).isascii() and text.isdecimal():
            return int(text[:18])
        try:
            total: int | None = _TOTAL.decode(counted)
        except msgspec.ValidationError:
            pass
        else:
            if total is None or total >= 0:
                return total
            found = f"the number at {endpoint.total!r} is negative"
    raise _wrong_shape(endpoint, "total", found)


def _wrong_shape(endpoint: Endpoint, field: str, found: str) -> AttemptFailed:
    return AttemptFailed(
        f"the response does not have the declared shape: {found}",
        f"compare a response with {field}= of endpoint {endpoint.name}",
    )
