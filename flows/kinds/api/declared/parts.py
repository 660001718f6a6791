"""What an endpoint is requested for: records of a parent, values of partitions."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain
from flows.values.json_path import plain_steps

# Allowed types of keys: they compare and hash the same at the API and in the warehouse.
KEY_TYPES = ("text", "bigint", "uuid", "date")


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a record that becomes a column of raw: its name, path and type.

    Field("channel", at="dimensionValues.1.value")
    """

    name: str
    at: str = ""
    type: str = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", self.at or self.name)
        plain_steps(self.at)
        if self.type not in KEY_TYPES:
            raise DeclarationError(
                f"the type {self.type!r} is unknown",
                where=f"field {self.name}",
                fix=f"use {', '.join(KEY_TYPES)}",
            )


@dataclass(frozen=True, slots=True)
class Group:
    """Several parents in one request, `size` at most. `by` is where a child's record has the key of its parent.

        Endpoint("refunds", path="/refunds", params=(("order_ids", "{id}"),),
                 parent=Parent("orders", column="order_id", group=Group(50, by="order_id")))

    In the path, in parameters and in texts the keys are joined by the `separator`; a text of the body that is `{id}`
    and nothing else becomes a list of them. `repeated`: a parameter that is `{id}` and nothing else occurs once for
    each key, as in `ids=1&ids=2`.
    """

    size: int
    by: str
    separator: str = ","
    repeated: bool = False

    def __post_init__(self) -> None:
        plain_steps(self.by)
        if self.size < 2 or not self.separator:
            raise DeclarationError(
                "a group has at least two parents, and something between their keys",
                where="parent",
                fix='write Group(50, by="order_id"), or no group',
            )


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent endpoint: this endpoint is requested once per record of it, or with a `group` for several at once.

        Endpoint("refunds", path="/orders/{id}/refunds", parent=Parent("orders", column="order_id"))

    `{id}` in the path, in a parameter or in the body is a key of the parent, and `column` of raw has the first one; it
    may be part of the child's key. `fields` are further values of the parent's record that requests may contain, and
    that become columns of raw: `Field("customer", at="customer.id")` is `{customer}`. A parent may have a parent.
    Only children of parents that changed since the last load are fetched; with `every=True` those of all parents,
    for children that change without their parents.
    """

    endpoint: str
    column: str
    type: str = "text"
    every: bool = False
    fields: tuple[Field, ...] = ()
    group: Group | None = None

    def __post_init__(self) -> None:
        if self.type not in KEY_TYPES:
            raise DeclarationError(
                f"the type {self.type!r} is unknown",
                where=f"parent {self.endpoint}",
                fix=f"use {', '.join(KEY_TYPES)}",
            )


@dataclass(frozen=True, slots=True)
class Partition:
    """Values that an endpoint is requested for, one list each; of several partitions, for each combination.

        Endpoint("orders", path="/{region}/orders", key=("region", "id"),
                 partitions=(Partition("region", ("eu", "us")),))

    `{region}` in the path, in a parameter or in the body is the value, and a column of raw has it, of this `type`.
    """

    name: str
    values: tuple[str, ...]
    type: str = "text"

    def __post_init__(self) -> None:
        where = f"partition {self.name}"
        require_plain(self.name, "partition", where)
        if self.type not in KEY_TYPES:
            raise DeclarationError(f"the type {self.type!r} is unknown", where=where, fix=f"use {', '.join(KEY_TYPES)}")
        given: object = self.values
        if isinstance(given, str) or not self.values or len(set(self.values)) < len(self.values):
            raise DeclarationError(
                "its values are not a list of different texts", where=where, fix='write values=("eu", "us")'
            )


class Several(tuple[str | int, ...]):
    """The keys of several parents: a list in a body, and as a text joined by the separator."""

    separator = ","
    repeated = False

    @classmethod
    def of(cls, keys: Iterable[str | int], group: Group) -> "Several":
        """These keys, as the group sends them."""
        several = cls(keys)
        several.separator, several.repeated = group.separator, group.repeated
        return several

    def __str__(self) -> str:
        return self.separator.join(map(str, self))


Requested = str | int | Several
Pairs = list[tuple[str, str | int | float | bool | None]]
_PLACE = re.compile(r"\{([^{}]*)\}")


def placeholders_in(path: str) -> list[str]:
    """The names in braces of a path."""
    return _PLACE.findall(path)


def places_in(template: Any) -> tuple[str, ...]:
    """The names in braces of a text, or of the texts in a JSON value.

    A text with other braces is not a template: a query of GraphQL, or JSON.
    """
    if isinstance(template, Mapping):
        return tuple(name for value in template.values() for name in places_in(value))
    if isinstance(template, list | tuple):
        return tuple(name for value in template for name in places_in(value))
    if not isinstance(template, str) or re.search(r"[{}]", _PLACE.sub("", template)):
        return ()
    names = _PLACE.findall(template)
    return tuple(names) if all(name.isidentifier() for name in names) else ()


def filled(template: Any, values: Mapping[str, Requested]) -> Any:
    """The template with these values; a text that is a single name becomes its value."""
    if isinstance(template, Mapping):
        return {name: filled(value, values) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [filled(value, values) for value in template]
    names = [name for name in places_in(template) if name in values]
    if not names:
        return template
    if template == f"{{{names[0]}}}":
        return values[names[0]]
    for name in names:
        template = template.replace(f"{{{name}}}", str(values[name]))
    return template


def filled_params(params: Iterable[tuple[str, str]], values: Mapping[str, Requested]) -> Pairs:
    """The parameters with these values; one of several keys occurs several times if they are `repeated`."""
    found = Pairs()
    for name, template in params:
        value = filled(template, values)
        several = value if isinstance(value, Several) and value.repeated else (value,)
        found += [(name, str(one)) for one in several]
    return found


def copied_text(values: tuple[str, ...]) -> str:
    """The values that are copied into a record's row, as one text: as JSON if there are several."""
    return values[0] if len(values) == 1 else json.dumps(values, ensure_ascii=False)
