"""Records out of a page, byte for byte as sent.

Nothing is decoded but the way to the list: every digit of a number and every escape stays as the source wrote it.
"""

import re
import secrets

import msgspec
from msgspec import Raw

from flows.extract.http_body import Body
from flows.extract.http_failure import AttemptFailed
from flows.spec.api import Endpoint
from flows.spec.errors import SourceError, SourceUnavailable

_ROOT = msgspec.json.Decoder(Raw)
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_TOTAL = msgspec.json.Decoder(int | None)
# Any escape is matched, so that the second half of `\\` never counts as the beginning of one.
_ESCAPE = re.compile(rb"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
_KINDS = {b"{": "object", b"[": "list", b'"': "text", b"t": "boolean", b"f": "boolean", b"n": "null"}


def split(body: Body, endpoint: Endpoint) -> tuple[list[bytes], int | None]:
    """The page's records, and the API's total if `endpoint.total` says where it stands.

    A record is handed on as it came, and may hold what PostgreSQL's jsonb refuses (`\\u0000`, a lone surrogate, bytes
    that are not UTF-8): one such record is for the door to judge, and no reason to lose the page.

    Raises:
        AttemptFailed: not JSON, or not of the declared shape. The message names types, never values.
    """
    try:
        return _split(body.content, endpoint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # msgspec refuses lone surrogates anywhere in a body. Text that is none of JSON's business takes their place
    # while the body is split, and they return in the records. Only such pages pay for it.
    mark = secrets.token_hex(16).encode()
    masked, count = _ESCAPE.subn(lambda found: mark + found[1] if found[1] else found[0], body.content)
    try:
        records, total = _split(masked, endpoint) if count else _split(body.content, endpoint)
    except RecursionError:
        failure = AttemptFailed(
            "the body is nested too deeply to be read", "ask who runs the API; no record is so deep"
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        # An end that only the close of the connection told may well be a cut; one that was counted is not.
        failure = AttemptFailed(
            "the body is not valid JSON",
            "run again later; if it stays, show the answer to who runs the API",
            kind=SourceError if body.end_proven else SourceUnavailable,
            again=True,
        )
    else:
        return [record.replace(mark, b"\\u") for record in records], total
    raise failure


def _split(content: bytes, endpoint: Endpoint) -> tuple[list[bytes], int | None]:
    # Every decoding of a level reads it to its end and so checks its form; the root is read once for both paths.
    # Views, not copies: a page may be tens of megabytes.
    root = memoryview(content.strip())
    fields = _OBJECT.decode(root) if _kind(root) == "object" else None
    if fields is None:
        _ROOT.decode(root)
    listed = _walk(root, fields or {}, endpoint.records, "records", endpoint)
    if _kind(listed) != "list":
        raise _wrong_shape(endpoint, "records", f"the {_describe(listed)} at {_place(endpoint.records)} is no list")
    records = [bytes(record) for record in _LIST.decode(listed)]
    if endpoint.total is None:
        return records, None
    counted = _walk(root, fields or {}, endpoint.total, "total", endpoint)
    try:
        return records, _TOTAL.decode(counted)
    except msgspec.ValidationError:
        pass
    raise _wrong_shape(endpoint, "total", f"the {_describe(counted)} at {_place(endpoint.total)} is no whole number")


def _walk(root: memoryview, fields: dict[str, Raw], path: str, declared: str, endpoint: Endpoint) -> memoryview:
    here, seen = root, ""
    for name in path.split(".") if path else ():
        if seen:
            fields = _OBJECT.decode(here) if _kind(here) == "object" else {}
        if name not in fields:
            raise _wrong_shape(endpoint, declared, f"there is no {name!r} in the {_describe(here)} at {_place(seen)}")
        here = memoryview(fields[name])
        seen = f"{seen}.{name}" if seen else name
    return here


def _wrong_shape(endpoint: Endpoint, field: str, found: str) -> AttemptFailed:
    return AttemptFailed(
        f"the answer has another shape than declared: {found}",
        f"compare an answer with {field}= of endpoint {endpoint.name}",
    )


def _place(path: str) -> str:
    return f"{path!r}" if path else "the root"


def _kind(value: memoryview) -> str:
    return _KINDS.get(bytes(value[:1]), "number")


def _describe(value: memoryview) -> str:
    # Field names are left out: where an object is a map, its names are data.
    if _kind(value) != "object":
        return _kind(value)
    kinds = sorted({_kind(memoryview(field)) for field in _OBJECT.decode(value).values()})
    return f"object of {', '.join(kinds)}" if kinds else "empty object"
