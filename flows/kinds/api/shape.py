"""Raw's columns for an endpoint's records."""

from __future__ import annotations

import hashlib

from flows.kinds.api import Api, Endpoint, Since
from flows.landing.record_rows import Place
from flows.values.identifiers import quote_identifier
from flows.values.json_path import plain_steps, text_at, value_at
from flows.values.shape import Column, Shape


def places_of(endpoint: Endpoint) -> list[Place]:
    """The columns extracted from a record, with their paths: key, parent, cursor."""
    parent, cursor = endpoint.parent, endpoint.cursor
    places = []
    for field in endpoint.key_fields:
        is_parent = parent is not None and field.name == parent.column
        places.append(Place(field.name, field.type, () if is_parent else plain_steps(field.at)))
    if parent is not None and parent.column not in endpoint.keys:
        places.append(Place(parent.column, parent.type, ()))
    if isinstance(cursor, Since) and cursor.column not in endpoint.keys:
        places.append(Place(cursor.column, cursor.raw_type, plain_steps(cursor.field)))
    return places


def shape_of(endpoint: Endpoint) -> Shape:
    """Raw's columns for an endpoint: extracted columns, and the record itself.

    A column's `select` is its text, as SQL over the landed `payload` and `parent`.
    """
    columns = [
        Column(
            place.name,
            place.raw_type,
            text_at("payload", place.steps) if place.steps else "parent",
            nullable=place.name not in endpoint.keys,
        )
        for place in places_of(endpoint)
    ]
    return Shape((*columns, Column("payload", "jsonb", quote_identifier("payload"), nullable=False)))


def tombstone_of(endpoint: Endpoint) -> str:
    """SQL over `payload` that is true for a tombstone."""
    if endpoint.deleted is None:
        return "false"
    return f"coalesce({value_at('payload', endpoint.deleted)}, 'null') not in ('null', 'false')"


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
        endpoint.deleted,
        type(endpoint.load).__name__,
        api.headers,
        api.pagination_of(endpoint),
    )
    # Only if declared, so that a place of an earlier version stays valid.
    parts += tuple(part for part in (endpoint.format, endpoint.job, endpoint.form or None) if part is not None) + (
        (endpoint.records_as,) if endpoint.records_as != "list" else ()
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
