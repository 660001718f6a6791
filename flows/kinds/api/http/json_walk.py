"""Find a value in a JSON document by path, without decoding the rest."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from flows.values.json_path import Pick, Step

_ROOT = msgspec.json.Decoder(Raw)
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_TEXT = msgspec.json.Decoder(str)
_KINDS = {b"{": "object", b"[": "list", b'"': "text", b"t": "boolean", b"f": "boolean", b"n": "null"}


class Absent(Exception):
    """The path does not exist. The message names declared steps and types, never values."""


class Document:
    """A JSON document whose top level has been parsed, and so validated, once.

    Raises:
        msgspec.DecodeError: it is not valid JSON.
    """

    def __init__(self, content: bytes) -> None:
        # Views, not copies: a page may be tens of megabytes.
        self._root = memoryview(content.strip())
        self._fields: Mapping[str, Raw] | None = None
        if kind_of(self._root) == "object":
            self._fields = _OBJECT.decode(self._root)
        else:
            _ROOT.decode(self._root)

    @property
    def content(self) -> bytes:
        """The document as received."""
        return bytes(self._root)

    def at(self, steps: Sequence[Step]) -> memoryview:
        """The bytes of the value at a path.

        Raises:
            Absent: the path does not exist.
            msgspec.DecodeError: a value on the path is not valid JSON.
        """
        here, seen = self._root, ""
        for step in steps:
            fields = self._fields if not seen and self._fields is not None else None
            here = _step(here, step, fields, seen)
            seen = _onward(seen, step)
        return here

    def token(self, steps: Sequence[Step]) -> str | int | None:
        """A text or integer at a path; None if it is missing, null, false or an empty text.

        Raises:
            Absent: the value has another type.
        """
        try:
            value = self.at(steps)
        except Absent:
            return None
        kind = kind_of(value)
        if kind == "text":
            return _TEXT.decode(value) or None
        if kind == "null" or bytes(value) == b"false":
            return None
        if kind == "number" and bytes(value).removeprefix(b"-").isdigit():
            return int(bytes(value)[:1000])
        raise Absent(f"the {kind} at {_place(_path(steps))} is neither text nor an integer")

    def true(self, steps: Sequence[Step]) -> bool:
        """Whether the value at a path is `true`."""
        try:
            return bytes(self.at(steps)) == b"true"
        except Absent:
            return False


def kind_of(value: memoryview | bytes) -> str:
    """object, list, text, boolean, null or number."""
    return _KINDS.get(bytes(value[:1]), "number")


def describe(value: memoryview) -> str:
    """A value's type for messages; of an object the types of its fields, because their names may be data."""
    if kind_of(value) != "object":
        return kind_of(value)
    kinds = sorted({kind_of(memoryview(field)) for field in _OBJECT.decode(value).values()})
    return f"object of {', '.join(kinds)}" if kinds else "empty object"


def _step(here: memoryview, step: Step, fields: Mapping[str, Raw] | None, seen: str) -> memoryview:
    kind = kind_of(here)
    if isinstance(step, Pick):
        for element in _LIST.decode(here) if kind == "list" else ():
            if kind_of(memoryview(element)) == "object":
                value = _OBJECT.decode(element).get(step.field)
                if value is not None and _is_text(value, step.value):
                    return memoryview(element)
        raise Absent(f"nothing in the {describe(here)} at {_place(seen)} has {step.field!r} as declared")
    if kind == "list" and step.isdecimal():
        elements = _LIST.decode(here)
        if int(step) < len(elements):
            return memoryview(elements[int(step)])
        raise Absent(f"there is no element {step} in the list at {_place(seen)}")
    if fields is None:
        fields = _OBJECT.decode(here) if kind == "object" else {}
    if step not in fields:
        raise Absent(f"there is no {step!r} in the {describe(here)} at {_place(seen)}")
    return memoryview(fields[step])


def _is_text(value: Raw, text: str) -> bool:
    return kind_of(memoryview(value)) == "text" and _TEXT.decode(value) == text


def _onward(seen: str, step: Step) -> str:
    if isinstance(step, Pick):
        return f"{seen}[{step.field}={step.value}]"
    return f"{seen}.{step}" if seen else step


def _path(steps: Sequence[Step]) -> str:
    seen = ""
    for step in steps:
        seen = _onward(seen, step)
    return seen


def _place(path: str) -> str:
    return f"{path!r}" if path else "the root"
