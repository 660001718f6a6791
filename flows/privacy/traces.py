"""Identifiers of one subject, collected from the rows with its key before they are deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flows.declare.subject import Subject
from flows.privacy.places import Place, Traces, condition
from flows.values.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Shorter words occur in too many rows by chance.
SHORTEST_WORD = 4


async def gather(
    connections: list[Connection[Record]], places: list[list[Place]], subject: Subject, key: str
) -> Traces:
    """The subject's other keys, its links, and the words that identify it, in all historical versions.

    `places` are the tables that each connection sees. Aliases and links are collected from rows with the key; words
    from every row that any of these identifies.
    """
    values: dict[str, list[str]] = {subject.key: [key]}
    for name in (*subject.aliases, *subject.linked):
        found: set[str] = set()
        for connection, seen in zip(connections, places, strict=True):
            for place in seen:
                if place.readable:
                    found |= await _beside(connection, place, Traces(dict(values), []), name)
        values[name] = sorted(found)
    words: set[str] = set()
    # Rows of a link may be shared, like those of a store; only rows with the subject's own key identify it.
    own = Traces({name: values[name] for name in (subject.key, *subject.aliases)}, [])
    for name in subject.identifying:
        for connection, seen in zip(connections, places, strict=True):
            for place in seen:
                if place.readable:
                    words |= await _beside(connection, place, own, name)
    kept = {word for word in words if len(word) >= SHORTEST_WORD}
    # As it is written inside a document.
    kept |= {json.dumps(word, ensure_ascii=False)[1:-1] for word in kept}
    return Traces(values, sorted(kept))


async def _beside(connection: Connection[Record], place: Place, traces: Traces, name: str) -> set[str]:
    """Values of the column or field of that name, in the rows that the traces identify."""
    where, arguments = condition(place, traces)
    sources = [f"t.{quote_identifier(name)}::text"] if name in place.columns else []
    sources += [f"t.{quote_identifier(document)} ->> {quote_literal(name)}" for document in place.documents]
    if not where or not sources:
        return set()
    found: set[str] = set()
    for source in sources:
        rows = await connection.fetch(
            f"select distinct {source} as value from {place.relation} as t where ({where}) and {source} is not null",
            *arguments,
        )
        found |= {str(row["value"]) for row in rows}
    return found
