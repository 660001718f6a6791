"""The fields that an endpoint's records have, inferred from the records, and what is new about a page of them.

The payload is kept whole whatever is found here; this is what is known of its shape, and what the declared contract
(`on_drift`) is held against. Only a record's top level is looked at: below it, what an API calls an object may be a
map, whose names are data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

Change = tuple[str, str, str | None, str | None]
"""Field, change (`added`, `retyped`), the kinds before, the kinds now."""

_KINDS = {b"{": "object", b"[": "list", b'"': "text", b"t": "boolean", b"f": "boolean", b"n": "null"}


class _Object(msgspec.Struct, gc=False):
    """Whatever an object holds is passed over."""


_TYPES: dict[str, Any] = {
    "text": str,
    "number": int | float,
    "boolean": bool,
    "object": _Object,
    "list": list[msgspec.Raw],
}
_RECORD = msgspec.json.Decoder(dict[str, msgspec.Raw])
# A field that every thousandth record lacks is found all the same; a map at the top level of records never ends.
_MOST_FIELDS = 2000
# Records of a page that are looked at where fields evolve: all would cost a tenth of reading and landing them.
_SAMPLE = 200


@dataclass(slots=True)
class RecordFields:
    """Known fields with the kinds of their values: text, number, boolean, object, list. Null is no kind.

    `contract` decides: `evolve` takes in what is new, `freeze` tells of it, `quarantine` tells records apart by it.
    A first load has nothing to compare with, so it takes in everything.
    """

    known: dict[str, frozenset[str]]
    contract: Literal["evolve", "freeze", "quarantine"] = "evolve"
    first: bool = False
    changes: list[Change] = field(default_factory=list)
    refused: list[Change] = field(default_factory=list)
    is_new: bool = False
    _decoder: msgspec.json.Decoder[Any] | None = None

    def facts(self) -> dict[str, Any] | None:
        """What has been learned, as JSON, for a later load that goes on from here; None when it is nothing."""
        if not (self.is_new or self.changes or self.refused):
            return None
        known = {name: sorted(kinds) for name, kinds in self.known.items()} if self.is_new else {}
        return {"known": known, "changes": self.changes, "refused": self.refused}

    def resume(self, facts: Mapping[str, Any]) -> None:
        """Know what an earlier load learned from records that have landed and are not published."""
        self.known |= {name: frozenset(kinds) for name, kinds in facts["known"].items()}
        self.is_new = bool(facts["known"])
        self.changes = [_change(change) for change in facts["changes"]]
        if self.contract == "quarantine":
            self.refused = [_change(change) for change in facts["refused"]]

    def look(self, records: Sequence[bytes]) -> set[int]:
        """Look at a page; returns the places of records that break the contract `quarantine`.

        What may be taken in anyway is looked for in a sample of a large page; what must be told apart, in all of it.
        """
        if self.contract == "evolve":
            records = records[:: -(-len(records) // _SAMPLE) or 1]
        if not records or self._all_known(records):
            return set()
        odd = set()
        for place, record in enumerate(records):
            try:
                fields = _RECORD.decode(record)
            except msgspec.MsgspecError:
                continue  # no object: the door's rules name it, since it has no key
            kinds = {name: _KINDS.get(bytes(memoryview(value)[:1]), "number") for name, value in fields.items()}
            if self._learn(kinds):
                odd.add(place)
        self._decoder = None
        return odd if self.contract == "quarantine" else set()

    def _learn(self, kinds: Mapping[str, str]) -> bool:
        """Whether there is something that the contract refuses."""
        refuses = False
        for name, kind in kinds.items():
            before = self.known.get(name)
            if before is not None and (kind == "null" or kind in before):
                continue
            now = (before or frozenset()) | ({kind} - {"null"})
            # Seen as null so far: a first value is no change.
            is_change = before != frozenset()
            change = (name, "added" if before is None else "retyped", _words(before) if before else None, _words(now))
            if self.contract == "evolve" or self.first or not is_change:
                if len(self.known) < _MOST_FIELDS:
                    self.known[name] = now
                    self.is_new = True
                    if is_change and not self.first:
                        self.changes.append(change)
                continue
            refuses = True
            if change not in self.refused:
                self.refused.append(change)
        return refuses

    def _all_known(self, records: Sequence[bytes]) -> bool:
        """One call for the whole page: 0.3 s for 300,000 records of ten fields."""
        if self._decoder is None:
            self._decoder = _decoder(self.known)
        try:
            self._decoder.decode(b"[" + b",".join(records) + b"]")
        except msgspec.MsgspecError:
            return False
        return True


def _change(facts: Sequence[str | None]) -> Change:
    name, change, before, now = facts
    return str(name), str(change), before, now


def _words(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds)) or "null"


def _decoder(known: Mapping[str, frozenset[str]]) -> msgspec.json.Decoder[Any]:
    """A decoder for a list of records of known fields and kinds only."""
    fields = []
    for place, (name, kinds) in enumerate(known.items()):
        kind: Any = None
        for one in sorted(kinds):
            kind = kind | _TYPES[one] if kind is not None else _TYPES[one]
        optional = kind | None if kind is not None else None
        fields.append((f"f_{place}", optional, msgspec.field(default=None, name=name)))
    return msgspec.json.Decoder(
        list[msgspec.defstruct("Record", fields, forbid_unknown_fields=True, gc=False)]  # type: ignore[misc]
    )
