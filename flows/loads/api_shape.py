"""What an endpoint's records become in raw."""

from __future__ import annotations

import hashlib

from flows.spec import Api, Endpoint, Since
from flows.spec.identifiers import quote_identifier
from flows.spec.json_path import text_at, value_at
from flows.spec.shape import Column, Shape


def shape_of(endpoint: Endpoint) -> Shape:
    """Raw's columns for an endpoint: its key, whose record it is, its cursor's field, and the record itself.

    A column's `select` is its text, as SQL over the landed `payload` and `parent`.
    """
    parent = endpoint.parent
    columns = []
    for field in endpoint.key_fields:
        select = "parent" if parent is not None and field.name == parent.column else text_at("payload", field.at)
        columns.append(Column(field.name, field.type, select, nullable=False))
    if parent is not None and parent.column not in endpoint.keys:
        columns.append(Column(parent.column, parent.type, "parent"))
    cursor = endpoint.cursor
    if isinstance(cursor, Since) and cursor.column not in endpoint.keys:
        columns.append(Column(cursor.column, cursor.raw_type, text_at("payload", cursor.field)))
    return Shape((*columns, Column("payload", "jsonb", quote_identifier("payload"), nullable=False)))


def tombstone_of(endpoint: Endpoint) -> str:
    """SQL over `payload` that is true for a record that tells of a delete."""
    if endpoint.deleted is None:
        return "false"
    return f"coalesce({value_at('payload', endpoint.deleted)}, 'null') not in ('null', 'false')"


def mark_of(api: Api, endpoint: Endpoint) -> str:
    """A mark of all that decides which pages there are: a place in a list means nothing under another declaration."""
    parts = (
        endpoint.path,
        endpoint.params,
        endpoint.body,
        endpoint.records,
        endpoint.key_fields,
        endpoint.page_size,
        endpoint.page_size_parameter,
        endpoint.cursor,
        endpoint.parent,
        api.pagination_of(endpoint),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
