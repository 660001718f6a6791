"""Raw's columns for an endpoint's records."""

from __future__ import annotations

import hashlib

from flows.kinds.api import Api, Endpoint, Since
from flows.kinds.api.declared.answers import condition
from flows.kinds.api.declared.stamps import pattern_sql, zoned_sql
from flows.landing.record_rows import Place
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.json_path import plain_steps, text_at, value_at
from flows.values.shape import Column, Shape


def places_of(endpoint: Endpoint) -> list[Place]:
    """The columns extracted from a record, with their paths: key, values of the request, cursor."""
    cursor, copied = endpoint.cursor, {field.name: place for place, field in enumerate(endpoint.copied)}
    single = len(copied) == 1
    places = []
    for field in endpoint.key_fields:
        at = copied.get(field.name)
        places.append(
            Place(field.name, field.type, plain_steps(field.at) if at is None else (), at=None if single else at)
        )
    for field in endpoint.copied:
        if field.name not in endpoint.keys:
            places.append(Place(field.name, field.type, (), at=None if single else copied[field.name]))
    if isinstance(cursor, Since) and cursor.column not in endpoint.keys:
        is_plain = not cursor.has_pattern
        places.append(Place(cursor.column, cursor.raw_type, plain_steps(cursor.field), is_plain=is_plain))
    return places


def shape_of(endpoint: Endpoint) -> Shape:
    """Raw's columns for an endpoint: extracted columns, and the record itself.

    A column's `select` is its text, as SQL over the landed `payload` and `parent`.
    """
    columns = [
        Column(
            place.name,
            place.raw_type,
            _text_of(place, endpoint),
            nullable=place.name not in endpoint.keys,
        )
        for place in places_of(endpoint)
    ]
    return Shape((*columns, Column("payload", "jsonb", quote_identifier("payload"), nullable=False)))


def _text_of(place: Place, endpoint: Endpoint) -> str:
    """SQL for the text of a column over `payload` and `parent`, as PostgreSQL reads it."""
    if not place.steps:
        return "parent" if place.at is None else f"(parent::jsonb ->> {place.at})"
    text, cursor = text_at("payload", place.steps), endpoint.cursor
    if not isinstance(cursor, Since) or place.name != cursor.column or cursor.raw_type != "timestamp with time zone":
        return text
    return zoned_sql(f"({pattern_sql(text, cursor.form) if cursor.has_pattern else text})", cursor.zone)


def tombstone_of(endpoint: Endpoint) -> str:
    """SQL over `payload` that is true for a tombstone."""
    if endpoint.deleted is None:
        return "false"
    path, equal, value = condition(endpoint.deleted)
    if value is not None:
        return f"coalesce(({text_at('payload', path)}) {'=' if equal else '<>'} {quote_literal(value)}, false)"
    return f"coalesce({value_at('payload', path)}, 'null') not in ('null', 'false')"


def mark_of(api: Api, endpoint: Endpoint) -> str:
    """A fingerprint of everything that decides which pages there are and how landed ones are interpreted.

    A place is invalid for another declaration: a replace that resumed after the place of a merge would see a part of
    the list only, and treat it as the full list.
    """
    parts: tuple[object, ...] = (
        endpoint.path,
        endpoint.params,
        endpoint.body,
        endpoint.records,
        endpoint.only,
        endpoint.key_fields,
        endpoint.page_size,
        endpoint.page_size_parameter,
        endpoint.cursor,
        endpoint.parent,
        endpoint.partitions,
        endpoint.deleted,
        type(endpoint.load).__name__,
        endpoint.answers,
        api.answers,
        api.headers,
        api.pagination_of(endpoint),
    )
    # Only if declared, so that a place of an earlier version stays valid.
    more = (endpoint.format, endpoint.job, endpoint.form or None, endpoint.properties, endpoint.headers or None)
    parts += tuple(part for part in more if part is not None)
    parts += (endpoint.records_as,) if endpoint.records_as != "list" else ()
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
