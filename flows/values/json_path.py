"""Paths of values in JSON documents."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.identifiers import quote_literal


@dataclass(frozen=True, slots=True)
class Pick:
    """Selects the object of a list whose `field` is this text."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Each:
    """Selects every element of a list, or every value of an object."""


Step = str | Pick | Each
_FIELD = r"""(?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<plain>[^.\[\]"'][^.\[\]]*))"""
_STEP = re.compile(_FIELD + r"(?:\[(?P<by>[^=\[\]]+)=(?P<value>[^\[\]]*)\])?")
_NEEDS_QUOTES = re.compile(r"""[.\[\]]|^["']|^\*$""")


def parse_path(path: str, *, many: bool = False) -> tuple[Step, ...]:
    """The steps of a path. Only one with `many` may have `*`.

        ""                          the document itself
        "meta.total"                field by field
        "dimensionValues.0.value"   a number selects from a list, starting at 0
        "data.-1.id"                a negative number counts from the end of a list
        "results.*.items"           every element of a list, or value of an object
        "link[relation=next].url"   the object of a list whose field has that value
        '"@odata.nextLink"'         quotes, double or single, around a field whose name has a dot or a bracket

    Raises:
        DeclarationError: it is invalid.
    """
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        ends = found.end() if found else at
        if found is None or (ends < len(path) and (path[ends] != "." or ends + 1 == len(path))):
            raise DeclarationError(
                f"the path {path!r} is invalid",
                where="a path in JSON",
                fix="write fields separated by dots, such as meta.total or link[relation=next].url, and quotes around "
                "a field whose name has a dot, such as '\"@odata.nextLink\"'",
            )
        if found["plain"] == "*" and not many:
            raise DeclarationError(
                f"the path {path!r} addresses several values",
                where="a path in JSON",
                fix="write the position of one, such as 0 or -1, or '\"*\"' for a field of this name",
            )
        steps.append(Each() if found["plain"] == "*" else found["double"] or found["single"] or found["plain"])
        if found["by"]:
            steps.append(Pick(found["by"], found["value"]))
        at = ends + 1
    return tuple(steps)


def position(step: str) -> int | None:
    """The step as a position in a list, negative from its end; None for the name of a field."""
    digits = step.removeprefix("-")
    return int(step) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else None


def joined(path: str, field: str) -> str:
    """The path of a field below `path`, with quotes if its name needs them."""
    if _NEEDS_QUOTES.search(field):
        field = f"'{field}'" if '"' in field else f'"{field}"'
    return f"{path}.{field}" if path else field


def plain_steps(path: str) -> tuple[str, ...]:
    """The steps of a path of fields and positions only, as for PostgreSQL's `#>>`.

    Raises:
        DeclarationError: the path selects by value, or is empty.
    """
    steps = parse_path(path)
    names = tuple(step for step in steps if isinstance(step, str))
    if not names or len(names) != len(steps):
        raise DeclarationError(
            f"the path {path!r} does not address a single value of a record",
            where="a path in JSON",
            fix="write fields and positions, such as meta.lastUpdated or values.0",
        )
    return names


def text_at(document: str, path: str | Sequence[str]) -> str:
    """SQL for the text at a path or its steps: `payload ->> 'id'`, `payload #>> array['meta', 'at']`."""
    steps = plain_steps(path) if isinstance(path, str) else path
    if len(steps) == 1:
        return f"{document} ->> {quote_literal(steps[0])}"
    return f"{document} #>> array[{', '.join(quote_literal(step) for step in steps)}]"


def value_at(document: str, path: str) -> str:
    """SQL for the jsonb at a path of a jsonb expression."""
    return f"{document} #> array[{', '.join(quote_literal(step) for step in plain_steps(path))}]"
