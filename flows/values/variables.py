"""Fields of a dataclass that are read from environment variables, each checked by its type and bounds.

Not pydantic-settings: importing it took 0.2 s of a core in each process, as much as everything else that a load of a
database imports.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from flows.values.secret import Secret

T = TypeVar("T")
_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


def variable(default: T, *, description: str, gt: float | None = None, ge: float | None = None) -> T:
    """A field with its default. `gt`, `ge`: a number must be greater, or at least that."""
    return dataclasses.field(default=default, metadata={"description": description, "gt": gt, "ge": ge})


def from_environment(
    of: type[Any], prefix: str, environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields that are set, and by variable why a value does not fit. The case of variables does not count."""
    # Exactly the name before another spelling of it.
    given = {name.upper(): text for name, text in environment.items()} | dict(environment)
    values, wrong = dict[str, Any](), dict[str, str]()
    for field in dataclasses.fields(of):
        name = f"{prefix}{field.name}".upper()
        if (text := given.get(name)) is None:
            continue
        try:
            values[field.name] = _within(_read(text, field.type), field.metadata)
        except ValueError as problem:
            wrong[name] = str(problem)
    return values, wrong


def _read(text: str, kind: Any) -> Any:
    """Raises: ValueError: the text is none of the type; without the text."""
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        kind = next(one for one in get_args(kind) if one is not types.NoneType)
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"must be {' or '.join(map(repr, get_args(kind)))}")
        return text
    if kind is bool:
        if (word := text.strip().lower()) not in (*_TRUE, *_FALSE):
            raise ValueError("must be true or false")
        return word in _TRUE
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ValueError("must be a whole number" if kind is int else "must be a number") from None
    assert kind in (str, Path, Secret), kind
    return kind(text)


def _within(value: Any, bounds: Mapping[str, Any]) -> Any:
    if bounds["gt"] is not None and not value > bounds["gt"]:
        raise ValueError(f"must be greater than {bounds['gt']:g}")
    if bounds["ge"] is not None and not value >= bounds["ge"]:
        raise ValueError(f"must be at least {bounds['ge']:g}")
    return value
