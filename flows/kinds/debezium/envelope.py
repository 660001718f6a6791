"""One change event: a line of a file → its key, operation, row before and after, and position.

A line is an object with `topic`, `partition`, `offset`, `key`, `payload` (or `value`), and, if there are any, `headers`
and `ts`, as `kcat -J` writes it. `key` and `payload` are JSON, or texts that hold JSON, each with its schema
(`{"schema": …, "payload": …}`) or without one. Values of rows stay bytes of JSON until a column is decoded.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

Op = Literal["c", "u", "d", "r", "t", "tombstone"]
Row = Mapping[str, Raw]
"""A row's values, as JSON."""

_OPS: Mapping[str | None, Op] = {"c": "c", "u": "u", "d": "d", "r": "r", "t": "t"}
_NULL = b"null"
_MOST_SCHEMAS = 200


class Unread(Exception):
    """A line that is no change event; `rule` names why. Its text has no values of rows."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule


class Line(Struct, frozen=True):
    """A line of a file, before its event is looked into."""

    topic: str
    partition: int
    offset: int
    ts: int | None = None
    headers: Raw | UnsetType = UNSET
    key: Raw | UnsetType = UNSET
    payload: Raw | UnsetType = UNSET
    value: Raw | UnsetType = UNSET

    def mark(self) -> int:
        """A checksum of key and value: another event at the same offset has another one."""
        return zlib.crc32(_inner(self.body), zlib.crc32(_inner(self.key)))

    @property
    def body(self) -> Raw | UnsetType:
        """The event itself."""
        return self.value if self.payload is UNSET else self.payload


class _Source(Struct, frozen=True):
    lsn: int | str | None = None
    txId: int | str | None = None  # noqa: N815 - as the event has it


class _Transaction(Struct, frozen=True):
    id: str


class _Value(Struct, frozen=True):
    op: str | None = None
    before: dict[str, Raw] | None = None
    after: dict[str, Raw] | None = None
    source: _Source | None = None
    transaction: _Transaction | None = None
    schema: Raw | UnsetType = UNSET
    payload: Raw | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `key`: the key's fields; empty if the event has none. `before` and `after` are rows, or None.

    `fields` are the schemas of a row's columns by name (None: the event has no schema). `was`: the key that the row had
    before its key changed, if a header says so. `commit` is equal for changes of one transaction, None if unknown;
    `at`: log position and transaction at the source, which the two events of a changed key share.
    """

    partition: int
    offset: int
    op: Op
    key: Row
    before: Row | None
    after: Row | None
    fields: Mapping[str, Any] | None
    was: Row | None = None
    commit: str | int | None = None
    at: tuple[int | str, int | str | None] | None = None


_LINE = msgspec.json.Decoder(Line)
_VALUE = msgspec.json.Decoder(_Value)
_ROW = msgspec.json.Decoder(dict[str, Raw])


def line_of(text: bytes) -> Line:
    """The line's position and parts.

    Raises:
        Unread: it has no position, or is no JSON.
    """
    try:
        line = _LINE.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unread("event_has_position", "the line is no object with topic, partition and offset") from None
    if line.offset < 0 or line.partition < 0:
        raise Unread("event_has_position", "partition or offset is below 0")
    return line


class Reader:
    """Decodes events. Schemas are parsed once: an event's is some kilobytes, and the same for thousands of events."""

    def __init__(self) -> None:
        self._fields: dict[bytes, Mapping[str, Any]] = {}

    def event(self, line: Line) -> Event:
        """The line's event.

        Raises:
            Unread: key or value are no change event.
        """
        try:
            key, key_schema = _parts(_inner(line.key))
            value = _VALUE.decode(_inner(line.body)) if _inner(line.body) != _NULL else None
            schema: Raw | UnsetType = UNSET
            if value is not None and value.op is None and value.payload is not UNSET:
                schema = value.schema
                value = _VALUE.decode(value.payload) if bytes(value.payload) != _NULL else None
            if value is None:
                fields = self._columns(bytes(key_schema)) if key_schema is not UNSET else None
                return Event(line.partition, line.offset, "tombstone", key, None, None, fields)
            fields = self._columns(bytes(schema)) if schema is not UNSET else None
            was = _was(line.headers)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, ValueError):
            raise Unread("event_is_envelope", "key or value is no JSON of a change event") from None
        if (op := _OPS.get(value.op)) is None:
            raise Unread(
                "event_is_envelope",
                "the value has no operation c, u, d, r or t: it was flattened by a transform, or is no change of a row",
            )
        if op in ("c", "u", "r") and value.after is None:
            raise Unread("event_is_envelope", f"an event of operation {op} has no row after it")
        source = value.source or _Source()
        commit = value.transaction.id.partition(":")[0] if value.transaction is not None else source.txId
        at = (source.lsn, source.txId) if source.lsn is not None else None
        return Event(line.partition, line.offset, op, key, value.before, value.after, fields, was, commit, at)

    def _columns(self, schema: bytes) -> Mapping[str, Any] | None:
        if schema == _NULL:
            return None
        found = self._fields.get(schema)
        if found is None:
            found = {field["field"]: field for field in json.loads(schema)["fields"]}
            if "op" in found and "after" in found:  # of an envelope, not of a key
                found = {field["field"]: field for field in found["after"]["fields"]}
            if len(self._fields) >= _MOST_SCHEMAS:
                self._fields.clear()
            self._fields[schema] = found
        return found


def _inner(part: Raw | UnsetType) -> bytes:
    """JSON of a key or value, which a line has as it is or as a text."""
    if part is UNSET:
        return _NULL
    data = bytes(part)
    if data[:1] == b'"':
        text: str = msgspec.json.decode(data)
        data = text.encode()
    return data.strip() or _NULL


def _parts(data: bytes) -> tuple[Row, Raw | UnsetType]:
    """A key's fields, and its schema if it has one."""
    if data == _NULL:
        return {}, UNSET
    row = _ROW.decode(data)
    if row.keys() == {"schema", "payload"} and bytes(row["payload"])[:1] in (b"{", b"n"):
        schema = row["schema"]
        return _parts(bytes(row["payload"]))[0], UNSET if bytes(schema) == _NULL else schema
    return row, UNSET


def _was(headers: Raw | UnsetType) -> Row | None:
    """The header `__debezium.oldkey`, from an object, a list of names and values in turn, or a list of pairs."""
    if headers is UNSET or b"__debezium.oldkey" not in bytes(headers):
        return None
    found = msgspec.json.decode(headers)
    if isinstance(found, list):
        if found and isinstance(found[0], dict):
            found = {one.get("key"): one.get("value") for one in found}
        else:
            found = dict(zip(found[::2], found[1::2], strict=True))
    value = found.get("__debezium.oldkey")
    if value is None:
        return None
    return _parts(value.encode() if isinstance(value, str) else msgspec.json.encode(value))[0]
