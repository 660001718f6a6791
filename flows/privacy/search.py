"""Search for what is left of a subject: in every column, at any depth of documents, in rows of others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.declare.subject import Subject
from flows.privacy.places import Place
from flows.privacy.references import Traces, canonical, deep_references, references, somebody_else
from flows.privacy.rows import NOT_SEARCHED, as_pattern, holds
from flows.values.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Documents whose fields are looked at one by one: those that have the value of the key, in any field.
_LOOKED_AT = 1000
# What an identifier is called, after the name of what it identifies.
_IDENTIFIERS = "(ids?|keys?|no|nr|num|number|ref|uuid|code)"


@dataclass(frozen=True, slots=True)
class Remains:
    """Data of the subject that is left: the table, the column, the number of rows.

    `shared` are rows that refer to somebody else by key, and have a value that the subject had too, such as a telephone
    number: a person decides about them. `path` is the field that has the key, if it is not declared.
    """

    place: str
    column: str
    rows: int
    shared: bool = False
    path: str = ""


async def search(
    connection: Connection[Record], places: list[Place], subject: Subject, traces: Traces
) -> list[Remains]:
    """Search for remaining data of the subject: by key, aliases and links in columns, in lists and at any depth of
    documents, by words in every column that could contain them, and by fields that are called like its key.
    """
    remains = []
    for place in places:
        if place.told in NOT_SEARCHED or not place.readable:
            continue
        found = await _search_rows(connection, place, subject, traces)
        remains += found
        if place.schema != "ops" and not any(left.column in place.documents and not left.shared for left in found):
            remains += await _undeclared(connection, place, subject, traces)
    return remains


async def _search_rows(connection: Connection[Record], place: Place, subject: Subject, traces: Traces) -> list[Remains]:
    """In one pass over the table."""
    arguments: list[list[str]] = []
    sought: dict[tuple[str, bool], list[str]] = {}
    for name, values in traces.values.items():
        found = (*references(place, subject, name), *deep_references(place, subject, name)) if values else ()
        if found:
            arguments.append(values)
            for reference in found:
                condition = reference.some(traces.form(name), f"${len(arguments)}")
                sought.setdefault((reference.column, False), []).append(condition)
    if traces.words and place.wordy:
        arguments += [traces.words, [as_pattern(word) for word in traces.words]]
        aside = somebody_else(place, subject)
        for name in place.wordy:
            held = holds([name], f"${len(arguments) - 1}")
            sought.setdefault((name, False), []).append(f"({held} and not ({aside}))")
            # A word in the middle of another is somebody else's own.
            own = _tells_word(place, name, f"${len(arguments)}")
            sought[name, True] = [f"({held} and ({aside}) and {own})"]
    if not sought:
        return []
    counts = ", ".join(f"count(*) filter (where {' or '.join(conditions)})" for conditions in sought.values())
    row = await connection.fetchrow(f"select {counts} from {place.relation} as t", *arguments)
    return [
        Remains(place.told, column, rows, shared)
        for (column, shared), rows in zip(sought, row or [], strict=True)
        if rows
    ]


def _tells_word(place: Place, name: str, parameter: str) -> str:
    if name in place.documents:
        return (
            f"exists (select from jsonb_path_query({place.document(name)}, 'strict $.**', silent => true) as v "
            f"where jsonb_typeof(v) in ('string', 'number') and v #>> '{{}}' ~* any({parameter}::text[]))"
        )
    return f"t.{quote_identifier(name)}::text ~* any({parameter}::text[])"


async def _undeclared(connection: Connection[Record], place: Place, subject: Subject, traces: Traces) -> list[Remains]:
    """Fields that are called like the subject's key, have its value, and are declared nowhere."""
    key = traces.values[subject.key][0]
    form = traces.form(subject.key)
    variables = json.dumps({"text": key, "number": int(key) if form == "integer" else key})
    remains = []
    for document in place.documents:
        rows = await connection.fetch(
            f"select d from (select {place.document(document)} as d from {place.relation} as t) as t "
            f"where jsonb_path_exists(d, 'strict $.** ? (@ == $text || @ == $number)', $1::jsonb, true) "
            f"limit {_LOOKED_AT}",
            variables,
        )
        paths: dict[str, int] = {}
        for row in rows:
            for path in {path for path, value in scalars(json.loads(row["d"]))
                         if canonical(value, form) == key and is_called_like(path, subject)}:  # fmt: skip
                paths[path] = paths.get(path, 0) + 1
        remains += [Remains(place.told, document, count, path=path) for path, count in sorted(paths.items())]
    return remains


def scalars(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text and number of a document with its path: `{"a": [{"b": 1}]}` → `a[*].b`, `1`."""
    if isinstance(value, dict):
        for field, inner in value.items():
            yield from scalars(inner, f"{path}.{field}" if path else field)
    elif isinstance(value, list):
        for inner in value:
            yield from scalars(inner, f"{path}[*]")
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield path, str(value)


def is_called_like(path: str, subject: Subject) -> bool:
    """Whether a field may be the subject's key by its name: `householdId`, `household.id`, `households[*].key`."""
    plain = [re.sub(r"[^a-z0-9]", "", field.lower()) for field in path.split(".")]
    noun, key = subject.name.replace("_", ""), subject.key.replace("_", "")
    last, above = plain[-1], plain[-2] if len(plain) > 1 else ""
    if last == key or re.fullmatch(f"{noun}s?{_IDENTIFIERS}", last):
        return True
    if re.fullmatch(f"{noun}s?", above) and re.fullmatch(_IDENTIFIERS, last):
        return True
    # A number of households is nobody's key; a list of them has some.
    return last == noun or (last == f"{noun}s" and path.endswith("[*]"))
