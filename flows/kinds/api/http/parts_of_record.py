"""Join the parts of a record, of which each response has some fields. Values keep the bytes that were received."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec import Raw

from flows.kinds.api.http.json_walk import kind_of
from flows.kinds.api.http.records import masked_escapes

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_VALUE = msgspec.json.Decoder()
_NAME = msgspec.json.Encoder()


class Torn(Exception):
    """Two parts have different values of one field, whose name this is: the record has changed between them."""


def joined(parts: Sequence[bytes], at: Sequence[str], may_differ: Collection[str]) -> bytes:
    """One record. At the path `at`, its parts have different fields; what is elsewhere, or in several, must be equal.

    Raises:
        Torn: it is not, and is not among those that `may_differ`.
    """
    if len(parts) == 1:
        return parts[0]
    try:
        return _joined([memoryview(part) for part in parts], at, may_differ)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # As for pages: lone surrogates are masked while the record is taken apart.
    mark = secrets.token_hex(16).encode()
    plain = [memoryview(masked_escapes(part, mark)) for part in parts]
    try:
        return _joined(plain, at, may_differ).replace(mark, b"\\u")
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # Bytes that are no text: the row checks report such a record, and quarantine it.
    if all(part == parts[0] for part in parts):
        return parts[0]
    raise Torn("")


def _joined(parts: Sequence[memoryview], at: Sequence[str], may_differ: Collection[str]) -> bytes:
    if any(kind_of(part) != "object" for part in parts):
        if not all(_same(part, parts[0]) for part in parts):
            raise Torn("")
        return bytes(parts[0])
    found: dict[str, Raw | bytes] = {}
    objects: list[Mapping[str, Raw]] = [_MEMBERS.decode(part) for part in parts]
    for members in objects:
        for name, value in members.items():
            known = found.setdefault(name, value)
            if name in may_differ or name == next(iter(at), None) or _same(memoryview(known), memoryview(value)):
                continue
            raise Torn(name)
    if at:
        inside = [memoryview(members[at[0]]) for members in objects if at[0] in members]
        # An object without any of the requested fields may be null, or left out.
        inside = [value for value in inside if kind_of(value) != "null"] or inside[:1]
        if inside:
            found[at[0]] = _joined(inside, at[1:], may_differ) if len(inside) > 1 else bytes(inside[0])
    return b"{" + b",".join(_NAME.encode(name) + b":" + bytes(value) for name, value in found.items()) + b"}"


def _same(one: memoryview, other: memoryview) -> bool:
    return one == other or bool(_VALUE.decode(one) == _VALUE.decode(other))
