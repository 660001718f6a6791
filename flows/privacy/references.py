"""How rows of a table refer to a subject: columns, fields of records, declared paths; and the SQL that finds them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from flows.declare.subject import KeyPath, Subject
from flows.privacy.places import QUARANTINE, Place
from flows.values.identifiers import quote_identifier, quote_literal

#: The versions of quarantined rows that people wrote.
FIXES = "quarantine.fixes"
_EXACT = ("int2", "int4", "int8", "uuid")
_NUMERIC = re.compile(r"\s*\+?(-?)0*([0-9]+?)(\.0*)?\s*")
#: How values of a name are compared: by number, by the digits of a uuid, or by their text.
Form = Literal["integer", "uuid", "text"]


@dataclass(frozen=True, slots=True)
class Traces:
    """Identifiers of one subject: values of the key, its aliases and links by name; and words. `forms` tells how values
    of a name are compared, by their text if it says nothing."""

    values: dict[str, list[str]]
    words: list[str]
    forms: dict[str, Form] = field(default_factory=dict)

    def form(self, name: str) -> Form:
        """How values of that name are compared."""
        return self.forms.get(name, "text")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where rows of a table have values of one name: in `column`.

    `one` is SQL for the text of the only value; `each`, for lists and records, is SQL for a query of texts, `v`, that
    may have none or several. `guard` is a condition on the row.
    """

    column: str
    one: str | None
    each: str
    exact: bool = False
    guard: str = ""

    def only(self, form: Form, parameter: str) -> str:
        """SQL: the row refers to nobody else here, so it may be deleted with the subject."""
        if self.one is not None:
            return self._guarded(f"{same(self.one, form, exact=self.exact)} = any({parameter}::text[])")
        return self._guarded(f"(select bool_and(coalesce({same('e.v', form)} = any({parameter}::text[]), false)) "
                             f"from ({self.each}) as e)")  # fmt: skip

    def some(self, form: Form, parameter: str) -> str:
        """SQL: one of the values is the subject's."""
        if self.one is not None:
            return self.only(form, parameter)
        return self._guarded(f"exists (select from ({self.each}) as e where {same('e.v', form)} "
                             f"= any({parameter}::text[]))")  # fmt: skip

    def values(self, place: Place, form: Form, where: str) -> str:
        """SQL: the distinct values, `v`, in the rows that meet the condition."""
        guarded = f" and {self.guard}" if self.guard else ""
        value = same("e.v", form, exact=self.exact)
        return (
            f"select distinct {value} as v from {place.relation} as t cross join lateral ({self.each}) as e "
            f"where ({where}){guarded} and e.v is not null"
        )

    def _guarded(self, condition: str) -> str:
        return f"({condition} and {self.guard})" if self.guard else f"({condition})"


def same(text: str, form: Form, *, exact: bool = False) -> str:
    """SQL: the text as `canonical` writes it. A source may send the number 13 as ` 13`, `0013` or 13.0."""
    if exact or form == "text":
        return text
    if form == "uuid":
        return f"lower(btrim({text}))"
    return f"regexp_replace({text}, '^\\s*\\+?(-?)0*([0-9]+?)(\\.0*)?\\s*$', '\\1\\2')"


def canonical(value: str, form: Form) -> str:
    """`same`, for a value that was read."""
    if form == "uuid":
        return value.strip().lower()
    found = _NUMERIC.fullmatch(value) if form == "integer" else None
    return found[1] + found[2] if found else value


def form_of(places: Iterable[Place], name: str) -> Form:
    """By the columns of that name: numbers if one of them is of integers."""
    types = {place.columns.get(name) for place in places}
    return "integer" if types & {"int2", "int4", "int8"} else "uuid" if "uuid" in types else "text"


def references(place: Place, subject: Subject, name: str) -> list[Reference]:
    """Every way in which rows of the table have a value of that name, by which rows are deleted.

    A record counts by the fields of its top level and by declared paths: other nested values may be lists with others.
    """
    found = [_of_column(place, name)] if name in place.columns else []
    found += [_of_document(place, document, (name,)) for document in place.documents]
    for path in subject.paths_of(name):
        applies, guard = _applies(path, place)
        if not applies:
            continue
        first, *rest = path.fields
        if first in place.columns and not rest:
            found.append(_of_column(place, first, guard))
        elif first in place.documents:
            found.append(_of_document(place, first, tuple(rest), guard))
        found += [_of_document(place, document, path.fields, guard) for document in place.documents]
    return found


def deep_references(place: Place, subject: Subject, name: str) -> list[Reference]:
    """The name at any depth of any document, and declared paths at any depth."""
    paths: list[tuple[tuple[str, ...], str]] = [((name,), "")]
    for path in subject.paths_of(name):
        applies, guard = _applies(path, place)
        if applies:
            paths.append((path.fields, guard))
    return [_of_document(place, document, fields, guard, deep=True)
            for document in place.documents for fields, guard in paths]  # fmt: skip


def _of_column(place: Place, name: str, guard: str = "") -> Reference:
    column, type_ = f"t.{quote_identifier(name)}", place.columns[name]
    if type_ in ("json", "jsonb"):
        column = f"({column} #>> '{{}}')"
    elif type_.startswith("_"):
        return Reference(name, None, f"select v::text as v from unnest({column}) as v", guard=guard)
    else:
        column = f"{column}::text"
    return Reference(name, column, f"select {column} as v", exact=type_ in _EXACT, guard=guard)


def _of_document(
    place: Place, document: str, fields: Sequence[str], guard: str = "", *, deep: bool = False
) -> Reference:
    path = "".join(f".{json.dumps(field)}" for field in fields)
    # Lax: lists on the way are entered.
    query = quote_literal(f"lax $.**{path}[*]" if deep else f"lax ${path}[*]")
    each = (f"select v #>> '{{}}' as v from jsonb_path_query({place.document(document)}, {query}, silent => true) as v "
            "where jsonb_typeof(v) in ('string', 'number')")  # fmt: skip
    return Reference(document, None, each, guard=guard)


def _applies(path: KeyPath, place: Place) -> tuple[bool, str]:
    """Whether rows of the table may be of the declared path, and the condition for those that are.

    A path of one field, such as `id`, means something else in every other table.
    """
    source, _, table = path.table.partition(".")
    if place.schema == f"raw_{source}":
        return fnmatchcase(place.name, table), ""
    if place.schema == "landing":
        return fnmatchcase(place.name, f"{source}__{table}*"), ""
    pattern = quote_literal(path.table.replace("_", "\\_").replace("*", "%"))
    if place.told == QUARANTINE:
        return True, f"t.source_system || '.' || t.table_name like {pattern}"
    if place.told == FIXES:
        return True, (f"exists (select from {QUARANTINE} as q where q.quarantine_id = t.quarantine_id "
                      f"and q.source_system || '.' || q.table_name like {pattern})")  # fmt: skip
    return len(path.fields) > 1 and not place.schema.startswith("raw_"), ""


def condition(place: Place, subject: Subject, traces: Traces) -> tuple[str, list[list[str]]]:
    """Rows of the table that refer to the subject, and at that place to nobody else: SQL with its arguments; "" if the
    table has no such column."""
    parts, arguments = [], []
    for name, values in traces.values.items():
        found = references(place, subject, name) if values else []
        if found:
            arguments.append(values)
            parts += [reference.only(traces.form(name), f"${len(arguments)}") for reference in found]
    return " or ".join(parts), arguments


def somebody_else(place: Place, subject: Subject) -> str:
    """SQL: the row refers to some subject by key, so a word that two subjects share is not the row's reason to be
    deleted. The subject's own rows are found by their key before words are searched."""
    named = [
        f"{reference.one} is not null" if reference.one is not None else f"exists ({reference.each})"
        for name in (subject.key, *subject.aliases)
        for reference in references(place, subject, name)
        if name == subject.key or reference.column == name
    ]
    return " or ".join(named) or "false"
