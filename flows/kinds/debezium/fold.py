"""Changes in the order of their offsets → what is left of each key: its row, or that it is gone.

    c, u, r                  the row after it
    d, a tombstone           the key is gone
    a changed key            a delete of the old key and a new row, whose unchanged values are those of the old one
    t                        nothing before it counts, and every row of raw is gone

Values that an event does not have (a placeholder for an unchanged TOAST value, or a column that did not exist yet) are
those of the row's earlier version: here, or in raw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flows.kinds.debezium.convert import UNDECODABLE, number
from flows.kinds.debezium.declared import Debezium, EventTable
from flows.kinds.debezium.envelope import Event, Row, Unread
from flows.kinds.debezium.values import Kind, by_schema, by_type, placeholders, undeclared
from flows.values.errors import DataRefused

Key = tuple[str, ...]
_NULL = b"null"
_LONGEST_PLACEHOLDER = 2_000


@dataclass(frozen=True, slots=True)
class Version:
    """What is left of a key. `values`: the texts of its columns that are known. `kept`: columns whose values did not
    change; `origin`: the key under which raw has them (None: no earlier version), which was another one if `moved`."""

    values: Mapping[str, str | None]
    kept: frozenset[str]
    origin: Key | None
    moved: bool
    gone: bool
    partition: int
    offset: int


@dataclass(slots=True)
class Fold:
    """The changes of one commit. `types` are raw's types of the columns that were seen, in order; `deleted` is the last
    delete, which the row of a changed key follows.

    `unwritten`: whether a partition ends with a delete of a row of which raw does not have the last values, because it
    was changed in the same commit. If the new row of a changed key begins the next load, its unchanged values are lost.
    """

    table: EventTable
    kinds: Kinds
    versions: dict[Key, Version] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
    changes: int = 0
    deleted: tuple[Event, Key] | None = None
    unwritten: dict[int, bool] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """The next change.

        Raises:
            Unread: it has no key, or a value that is none of its column's type. Nothing is changed by it.
        """
        if event.op == "t":
            self.versions.clear()
            self.truncated, self.deleted = True, None
            self.unwritten[event.partition] = False
        elif event.op in ("d", "tombstone"):
            self._delete(event)
        else:
            self._write(event)
        self.changes += 1

    def follows(self, event: Event) -> bool:
        """Whether it is of one change with the delete before it: its tombstone, or the new row of a changed key."""
        if self.deleted is None or self.deleted[0].partition != event.partition:
            return False
        if event.op != "c":
            return event.op == "tombstone"
        return event.was is not None or (event.at is not None and event.at == self.deleted[0].at)

    def key_of(self, event: Event) -> Key | None:
        """The texts of its key; None if they cannot be read."""
        try:
            return self._key(event, event.after or event.before)
        except Unread:
            return None

    def _delete(self, event: Event) -> None:
        key = self._key(event, event.before)
        before = self.versions.get(key)
        if event.op == "d":
            self.unwritten[event.partition] = before is not None and bool(before.values)
        self.versions[key] = Version(
            before.values if before else {},
            before.kept if before else frozenset(),
            before.origin if before else key,
            before.moved if before else False,
            gone=True,
            partition=event.partition,
            offset=event.offset,
        )
        if event.op == "d":
            self.deleted = event, key

    def _write(self, event: Event) -> None:
        assert event.after is not None  # the envelope is checked
        key = self._key(event, event.after, prefers_row=True)
        values, kept = self.kinds.decode(event, self.types)
        old = self._was(event, key)
        earlier = self.versions.get(old or key)
        if earlier is not None and earlier.gone and old is None:
            earlier = None  # deleted, and inserted again: another row
        if earlier is not None and earlier.partition != event.partition:
            earlier = None  # of a changed key: there is no order between partitions
        moved, origin = old is not None, old or (key if event.op == "u" else None)
        if moved and earlier is None and self.unwritten.get(event.partition):
            origin = None
        self.unwritten[event.partition], self.deleted = False, None
        if earlier is not None:
            values = {**earlier.values, **dict.fromkeys(kept & earlier.kept), **values}
            kept = {name for name in kept if name not in earlier.values}
            moved, origin = moved or earlier.moved, earlier.origin
        values = {name: value for name, value in values.items() if name not in kept}
        here = (event.partition, event.offset)
        if old is not None and event.op == "u":
            self.versions[old] = Version({}, frozenset(), old, False, True, *here)
        self.versions[key] = Version(values, frozenset(kept), origin, moved, False, *here)

    def _was(self, event: Event, key: Key) -> Key | None:
        """The key that the row had before, if this event is one of a changed key.

        Without headers: the row that was deleted last, if both events are of one change at the source.
        """
        old: Key | None
        if event.was is not None:
            old = self._texts(event.was)
        elif event.op == "u" and event.before is not None and self._has_key(event.before):
            old = self._texts(event.before)
        elif event.op == "c" and self.deleted is not None and event.at is not None:
            deleted, before = self.deleted
            old = before if deleted.at == event.at and deleted.partition == event.partition else None
        else:
            return None
        return None if old == key else old

    def _key(self, event: Event, row: Row | None, *, prefers_row: bool = False) -> Key:
        places = [row, event.key] if prefers_row else [event.key, row]
        for place in places:
            if place and self._has_key(place):
                return self._texts(place, event)
        raise Unread("event_has_key", f"neither its key nor its row has {', '.join(self.table.keys)}")

    def _has_key(self, row: Row) -> bool:
        return all(name in row and bytes(row[name]) != _NULL for name in self.table.keys)

    def _texts(self, row: Row, event: Event | None = None) -> Key:
        try:
            return tuple(self.kinds.of(name, event).decode(bytes(row[name])) for name in self.table.keys)
        except UNDECODABLE:
            raise Unread("event_has_key", "the key is no value of its column's type") from None


class Kinds:
    """How the values of a table's columns are read."""

    def __init__(
        self, table: EventTable, kinds: Mapping[str, Kind], keys: Mapping[str, Kind], placeholder: str
    ) -> None:
        self._table = table
        self._declared = kinds
        self._keys = keys
        self._placeholders = placeholders(placeholder)
        self._known: dict[int, tuple[Mapping[str, object], dict[str, Kind]]] = {}
        self._latest: dict[str, Kind] = {}

    def of(self, name: str, event: Event | None) -> Kind:
        """The column's, by the event's schema and the declaration."""
        if event is not None and event.fields is not None:
            found = self._by_schema(event)
            if name in found:
                self._latest[name] = found[name]
                return found[name]
        return self._latest.get(name) or self._declared.get(name) or self._keys.get(name) or undeclared()

    def decode(self, event: Event, types: dict[str, str]) -> tuple[dict[str, str | None], set[str]]:
        """The texts of a row's values, and the columns whose values the event does not have."""
        assert event.after is not None  # only rows are decoded
        values: dict[str, str | None] = {}
        kept: set[str] = set()
        before = event.before if event.op == "u" else None
        for name, raw in event.after.items():
            value = bytes(raw)
            kind = self.of(name, event)
            types[name] = kind.raw_type
            if self._is_placeholder(value):
                value = bytes(before[name]) if before is not None and name in before else value
                if self._is_placeholder(value):
                    kept.add(name)
                    continue
            try:
                values[name] = None if value == _NULL else _storable(kind.decode(value))
            except UNDECODABLE:
                raise Unread("value_fits_type", f"the value of {name} is none of type {kind.raw_type}") from None
        return values, kept

    def _is_placeholder(self, value: bytes) -> bool:
        if value[:1] in (b"[", b"{") and len(value) < _LONGEST_PLACEHOLDER:
            value = value.translate(None, b" \t\r\n")  # as other writers of JSON may add them
        return value in self._placeholders

    def _by_schema(self, event: Event) -> dict[str, Kind]:
        assert event.fields is not None  # the caller has looked
        known = self._known.get(id(event.fields))
        if known is not None and known[0] is event.fields:
            return known[1]
        made = {}
        for name, one in event.fields.items():
            declared = self._declared.get(name)
            try:
                kind = by_schema(one)
            except UNDECODABLE:
                kind = undeclared()
            if declared is not None:
                kind = _fitted(declared, kind, one)
            made[name] = kind
        self._known[id(event.fields)] = event.fields, made
        return made


def _storable(text: str) -> str:
    """Raises: ValueError: PostgreSQL has no such text."""
    if "\0" in text:
        raise ValueError
    text.encode()
    return text


def _fitted(declared: Kind, kind: Kind, one: Mapping[str, object]) -> Kind:
    """A declared column's, whose value is written as its schema says. Without a name a schema does not say everything:
    bytes may be written as a text, moments as a number, and numbers that are not finite as words."""
    if one.get("name"):
        return Kind(declared.raw_type, kind.decode)
    written, wanted = kind.raw_type, declared.raw_type
    if written == "text" and wanted.startswith(("numeric", "real", "double")) and not wanted.endswith("[]"):
        return Kind(wanted, number)
    as_declared = (
        (written == "text" and wanted == "bytea")
        or (written == "boolean" and wanted.startswith("bit"))
        or (written in ("integer", "bigint") and wanted.startswith(("date", "time", "interval")))
    )
    return declared if as_declared else Kind(wanted, kind.decode)


def kinds_of(table: EventTable, source: Debezium, raw: Mapping[str, str] | None) -> Kinds:
    """Of a declared table. The key has the type that it has in raw, also if a tombstone comes without a schema."""
    declared = {name: by_type(kind, source.encodings) for name, kind in table.types.items()}
    keys = {name: by_type(raw[name], source.encodings) for name in table.keys if raw is not None and name in raw}
    return Kinds(table, declared, keys, source.placeholder)


def refuse_truncate(partitions: Sequence[int], where: str) -> None:
    """Raises: DataRefused: the topic has several partitions, so nobody can tell which changes a truncate follows."""
    if len(partitions) > 1:
        raise DataRefused(
            f"the table was truncated, and its topic has {len(partitions)} partitions: which changes came before "
            "is not known; nothing was published",
            where=where,
            fix=f"use one partition for the topic of a table that is truncated; `medallion reload {where} --recreate` "
            "once the events after the truncate are the only ones there",
        )
