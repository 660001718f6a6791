"""Find a value in a JSON document by path, without decoding the rest."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Raw

from flows.values.json_path import Each, Pick, Step, joined, position

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

    def each(self, steps: Sequence[Step], *, partly: bool = False) -> list[memoryview]:
        """The bytes of all values at a path with `*`; of a path without, its value.

        `partly`: elements that lack the rest of the path are left out.

        Raises:
            Absent: an element lacks it, or the path does not exist.
            msgspec.DecodeError: a value on the path is not valid JSON.
        """
        at = next((place for place, step in enumerate(steps) if isinstance(step, Each)), None)
        if at is None:
            return [self.at(steps)]
        found = list[memoryview]()
        for element in elements_of(self.at(steps[:at]), _path(steps[:at])):
            try:
                found += Document(bytes(element)).each(steps[at + 1 :], partly=partly)
            except Absent:
                if not partly:
                    raise
        return found

    def has(self, steps: Sequence[Step]) -> bool:
        """Whether there is a value at a path, even null.

        For an element that is selected by its value, or a field of an object inside of the document, the list or object
        is enough: an API that writes `"links": {"self": …}` on its last page has said that there is no next one.
        """
        for told in (steps, steps[:-1] if len(steps) > 1 else steps, _up_to_pick(steps)):
            try:
                value = self.at(told)
            except Absent:
                continue
            if told == steps or kind_of(value) in ("object", "list"):
                return True
        return False

    @property
    def names(self) -> frozenset[str]:
        """The names of the fields at the top level."""
        return frozenset(self._fields or ())

    def around(self, depth: int = 3) -> Iterator[tuple[str, str, str, memoryview]]:
        """The path, parent's name, name and bytes of each value outside of lists, `depth` objects deep.

        Lists are not decoded: they may hold all records of the page.
        """
        yield from _around(self._fields or {}, "", "", depth)

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

    def flag(self, steps: Sequence[Step]) -> bool | None:
        """The boolean at a path; None if it is missing or null.

        Raises:
            Absent: the value has another type: a text "false" is neither true nor false.
        """
        try:
            value = self.at(steps)
        except Absent:
            return None
        if kind_of(value) == "null":
            return None
        if kind_of(value) == "boolean":
            return bytes(value) == b"true"
        raise Absent(f"the {kind_of(value)} at {_place(_path(steps))} is neither true nor false")


def kind_of(value: memoryview | bytes) -> str:
    """object, list, text, boolean, null or number."""
    return _KINDS.get(bytes(value[:1]), "number")


def describe(value: memoryview) -> str:
    """A value's type for messages; of an object the types of its fields, because their names may be data."""
    if kind_of(value) != "object":
        return kind_of(value)
    kinds = sorted({kind_of(memoryview(field)) for field in _OBJECT.decode(value).values()})
    return f"object of {', '.join(kinds)}" if kinds else "empty object"


def elements_of(value: memoryview, path: str) -> list[memoryview]:
    """The elements of a list, or the values of an object.

    Raises:
        Absent: it is neither.
    """
    match kind_of(value):
        case "list":
            return [memoryview(element) for element in _LIST.decode(value)]
        case "object":
            return [memoryview(field) for field in _OBJECT.decode(value).values()]
    raise Absent(f"the {kind_of(value)} at {_place(path)} has no elements")


def _step(here: memoryview, step: Step, fields: Mapping[str, Raw] | None, seen: str) -> memoryview:
    kind = kind_of(here)
    if isinstance(step, Pick):
        for element in _LIST.decode(here) if kind == "list" else ():
            if kind_of(memoryview(element)) == "object":
                value = _OBJECT.decode(element).get(step.field)
                if value is not None and _is_text(value, step.value):
                    return memoryview(element)
        raise Absent(f"nothing in the {describe(here)} at {_place(seen)} has {step.field!r} as declared")
    if isinstance(step, Each):
        raise Absent(f"* addresses several values of the {describe(here)} at {_place(seen)}")
    if kind == "list" and (at := position(step)) is not None:
        elements = _LIST.decode(here)
        if -len(elements) <= at < len(elements):
            return memoryview(elements[at])
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
    if isinstance(step, Each):
        return f"{seen}.*" if seen else "*"
    return joined(seen, step)


def _up_to_pick(steps: Sequence[Step]) -> Sequence[Step]:
    """The path of the list that the last selection by value selects from."""
    for place in range(len(steps) - 1, 0, -1):
        if isinstance(steps[place], Pick):
            return steps[:place]
    return steps


def _around(
    fields: Mapping[str, Raw], path: str, parent: str, depth: int
) -> Iterator[tuple[str, str, str, memoryview]]:
    for name, raw in fields.items():
        value, here = memoryview(raw), joined(path, name)
        yield here, parent, name, value
        if depth > 1 and kind_of(value) == "object":
            yield from _around(_OBJECT.decode(value), here, name, depth - 1)


def _path(steps: Sequence[Step]) -> str:
    seen = ""
    for step in steps:
        seen = _onward(seen, step)
    return seen


def _place(path: str) -> str:
    return f"{path!r}" if path else "the root"
