"""Identifiers of one subject, collected from the rows with its key before they are deleted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import quote

from flows.declare.subject import Subject
from flows.privacy.places import Place
from flows.privacy.references import Form, Traces, canonical, condition, form_of, references
from flows.values.errors import DeclarationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Shorter words occur in too many rows by chance.
SHORTEST_WORD = 4


def form_of_key(places: list[list[Place]], subject: Subject) -> Form:
    """How keys are compared: by the key's column in raw, where it is loaded as the source has it. In other tables a
    text `0013` may have become a number."""
    source, _, table = subject.home.partition(".")
    every = list(chain.from_iterable(places))
    home = [place for place in every if place.told == f"raw_{source}.{table}" and subject.key in place.columns]
    return form_of(home or every, subject.key)


def read_key(key: str, form: Form, subject: Subject) -> str:
    """The key as its type writes it: ` 13` and `0013` are 13.

    Raises:
        DeclarationError: it is no value of that type. The message does not contain it.
    """
    try:
        if form == "integer":
            return str(int(key.strip()))
        return str(uuid.UUID(key.strip())) if form == "uuid" else key
    except ValueError:
        raise DeclarationError(
            f"this is not a {subject.key}: keys are of type {form}",
            where=f"subject {subject.name}",
            fix=f"give the {subject.key} as the source writes it",
        ) from None


async def gather(
    connections: list[Connection[Record]], places: list[list[Place]], subject: Subject, key: str, form: Form
) -> Traces:
    """The subject's other keys, its links, and the words that identify it, in all historical versions.

    `places` are the tables that each connection sees. Aliases and links are collected from rows with the key; words
    from every row that any of these identifies.
    """
    forms = {name: form_of(chain.from_iterable(places), name) for name in (*subject.aliases, *subject.linked)}
    traces = Traces({subject.key: [key]}, [], {subject.key: form, **forms})
    # Each table by the first role that may read it.
    pairs = {place.told: (connection, place) for connection, seen in reversed([*zip(connections, places, strict=True)])
             for place in seen if place.readable}.values()  # fmt: skip
    for name in (*subject.aliases, *subject.linked):
        found: set[str] = set()
        for connection, place in pairs:
            found |= await _beside(connection, place, subject, traces, name)
        traces.values[name] = sorted({canonical(value, forms[name]) for value in found})
    words: set[str] = set()
    # Rows of a link may be shared, like those of a store; only rows with the subject's own key identify it.
    own = Traces({name: traces.values[name] for name in (subject.key, *subject.aliases)}, [], traces.forms)
    for name in subject.identifying:
        for connection, place in pairs:
            words |= await _beside(connection, place, subject, own, name)
    return Traces(traces.values, sorted(_written(words)), traces.forms)


def with_values(traces: Traces, values: Iterable[str]) -> Traces:
    """The same, with words that were told rather than found."""
    return replace(traces, words=sorted({*traces.words, *_written(set(values))}))


def _written(words: set[str]) -> set[str]:
    """The words, and as they are written inside a document and a URL."""
    kept = {word for word in words if len(word) >= SHORTEST_WORD}
    return kept | {
        form
        for word in kept
        for form in (json.dumps(word, ensure_ascii=False)[1:-1], json.dumps(word)[1:-1], quote(word, safe=""))
    }


async def _beside(
    connection: Connection[Record], place: Place, subject: Subject, traces: Traces, name: str
) -> set[str]:
    """Values of that name, in the rows that the traces identify."""
    sought = references(place, subject, name)
    where, arguments = condition(place, subject, traces) if sought else ("", [])
    found: set[str] = set()
    if where:
        for reference in sought:
            rows = await connection.fetch(reference.values(place, "text", where), *arguments)
            found |= {str(row["v"]) for row in rows}
    return found
