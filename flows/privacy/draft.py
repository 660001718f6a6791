"""A draft of a subject's paths: fields of the records in raw that are called like its key, or have its values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare.subject import KeyPath, Subject
from flows.privacy.places import Place, find_documents, find_places
from flows.privacy.references import Form, canonical
from flows.privacy.search import is_called_like, scalars
from flows.privacy.traces import form_of_key
from flows.values.errors import DeclarationError
from flows.values.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Records per column: a path that fewer than one in a thousand has may be missed.
_SAMPLE = 5000
# Values that a field with another name needs, all of them keys: small numbers are keys of everything.
_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Drafted:
    """A path that may be the subject's key: of how many distinct values in the sample, how many are keys at home."""

    path: KeyPath
    values: int
    keys: int


async def draft_paths(subject: Subject) -> list[Drafted]:
    """Paths in the records of raw that may be the subject's key and are not declared. Changes nothing.

    A field counts if it is called like the key, as `household.id` and `householdId` are; or, if keys are no numbers, if
    all its values are keys of the home table.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as loader:
        places = await find_places(loader)
        form = form_of_key([places], subject)
        raw = [place for place in places if place.schema.startswith("raw_") and place.readable]
        drafted = []
        for place in await find_documents(loader, raw):
            for path, values in (await _values(loader, place, form)).items():
                drafted += await _drafted(loader, subject, form, (place, path), values)
    return drafted


async def _values(loader: Connection[Record], place: Place, form: Form) -> dict[str, set[str]]:
    """The distinct values of every path in a sample of the table's records."""
    found: dict[str, set[str]] = {}
    for document in place.documents:
        # A table of records has one column of them, with the fields of the record; other columns go by their names.
        prefix = "" if document == "payload" else f"{document}."
        rows = await loader.fetch(
            f"select d from (select {place.document(document)} as d from {place.relation} as t) as t "
            f"where d is not null order by random() limit {_SAMPLE}"
        )
        for row in rows:
            for path, value in scalars(json.loads(row["d"])):
                found.setdefault(prefix + path, set()).add(canonical(value, form))
    return found


async def _drafted(
    loader: Connection[Record], subject: Subject, form: Form, field: tuple[Place, str], values: set[str]
) -> list[Drafted]:
    place, path = field
    table = f"{place.schema.removeprefix('raw_')}.{place.name}"
    if path == subject.key or not re.fullmatch(r"[^\s\"'\\]+", path):
        return []
    try:
        drafted = KeyPath(table, path)
    except DeclarationError:
        return []
    if any(known.fields == drafted.fields and known.table == table for known in subject.paths_of(subject.key)):
        return []
    called = is_called_like(path, subject)
    if not called and (form == "integer" or len(values) < _ENOUGH):
        return []
    source, _, home = subject.home.partition(".")
    key = quote_identifier(subject.key)
    keys = await loader.fetchval(
        f"select count(distinct {key}) from {quote_identifier(f'raw_{source}')}.{quote_identifier(home)} "
        f"where {key}::text = any($1::text[])",
        sorted(values),
    )
    return [Drafted(drafted, len(values), keys)] if keys and (called or keys == len(values)) else []
