"""Load an API's records into the landing table.

Pages are written directly as long as their values have the JSON types of their columns (`PayloadRows`). From the first
other page on, records land unchanged in a second table, and PostgreSQL extracts keys and cursor.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.landing.copy import HEADER, TRAILER, copy_into
from flows.landing.record_rows import NotPlain, PayloadRows, Place
from flows.landing.table import LANDING_SCHEMA, Stamp, Target, stamp_landing
from flows.values.identifiers import qualified, quote_literal
from flows.values.shape import METADATA_NAMES, Shape, column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Texts that PostgreSQL reads as the current time, alone or with a time: the same record would differ per load.
_MOVING = "now|today|tomorrow|yesterday"
_NULL = struct.pack("!i", -1)
# Two columns; the first one's length follows, then jsonb's version byte.
_PAYLOAD_HEAD = struct.Struct("!hiB")


@dataclass(frozen=True, slots=True)
class Records:
    """JSON records of one page; of a child endpoint, with the key of their parent."""

    payloads: Sequence[bytes]
    parent: str | None = None


async def payload_rows(pages: AsyncIterable[Records]) -> AsyncGenerator[bytes, None]:
    """Pages of JSON records → one binary COPY of two columns, jsonb and text. The records' bytes are not decoded."""
    yield HEADER
    head = _PAYLOAD_HEAD.pack
    async for page in pages:
        parent = _NULL if page.parent is None else _with_length(page.parent.encode())
        rows = []
        for record in page.payloads:
            rows.append(head(2, len(record) + 1, 1))
            rows.append(record)
            rows.append(parent)
        yield b"".join(rows)
    yield TRAILER


def _with_length(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


def payload_table(target: Target) -> str:
    """The name of the table of an API's records before their keys are extracted."""
    return f"{target.landing_name}__p"


@dataclass(slots=True)
class _Pages:
    """The pages to come, with one page of lookahead."""

    pages: AsyncIterator[Records]
    put_back: list[Records] = field(default_factory=list)

    async def __aiter__(self) -> AsyncGenerator[Records, None]:
        while self.put_back:
            yield self.put_back.pop()
        async for page in self.pages:
            yield page


async def land(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    places: Sequence[Place],
    pages: AsyncIterator[Records],
    stamp: Stamp,
    tombstone: str = "false",
) -> int:
    """Pages of records → the landing table, bare or stamped. Returns the records written.

    It is still bare if all values had the JSON types of their columns: the caller stamps it.
    `tombstone` is SQL over `payload` for tombstones: they land with `_deleted_at`.

    Raises:
        asyncpg.DataError: jsonb cannot hold a payload.
    """
    coming = _Pages(pages)
    landed = 0
    rows = PayloadRows(places)
    # PostgreSQL marks tombstones during the insert: an update afterwards would move rows, and the order of a key's
    # versions would be lost.
    is_plain = rows.possible and tombstone == "false"
    if is_plain:
        landed = await _land_plain(connection, target, rows, coming)
    if is_plain and not coming.put_back:
        return landed
    await stamp_landing(connection, target, stamp)
    landed += await _copy_payloads(connection, target, aiter(coming))
    await _type_payloads(connection, target, shape, stamp, tombstone)
    return landed


async def _land_plain(
    connection: Connection[Record],
    target: Target,
    rows: PayloadRows,
    coming: _Pages,
) -> int:
    """Pages up to the first irregular one, which is put back."""

    async def plain() -> AsyncGenerator[bytes, None]:
        yield HEADER
        async for page in coming.pages:
            try:
                yield rows.rows(page.payloads, page.parent)
            except NotPlain:
                coming.put_back.append(page)
                break
        yield TRAILER

    async with contextlib.aclosing(plain()) as chunks:
        landed = await copy_into(connection, target.landing_name, rows.names, chunks)
    return landed


async def _copy_payloads(connection: Connection[Record], target: Target, pages: AsyncIterable[Records]) -> int:
    """Pages of JSON records → the payload table. Returns the records written."""
    name = payload_table(target)
    relation = qualified(LANDING_SCHEMA, name)
    await connection.execute(f"drop table if exists {relation}")
    await connection.execute(
        f"create unlogged table {relation} (ordinal bigint generated always as identity, payload jsonb, parent text)"
    )
    async with contextlib.aclosing(payload_rows(pages)) as rows:
        return await copy_into(connection, name, ["payload", "parent"], rows)


async def _type_payloads(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    stamp: Stamp,
    tombstone: str = "false",
) -> None:
    """Payload table → landing table: extract key and cursor of each record, in raw's types.

    A column's `select` is its text, as SQL over `payload` and `parent`; an invalid value becomes null here, and the row
    checks report it. `tombstone` is SQL for tombstones: they land with `_deleted_at`.
    """
    extracted_at = quote_literal(stamp.extracted_at)
    values = []
    for column in shape.columns:
        if column.name == "payload":
            values.append("payload")
            continue
        text = column.select
        valid = f"pg_input_is_valid({text}, {quote_literal(column.raw_type)})"
        if column.raw_type in {"date", "timestamp with time zone"}:
            valid += f" and {text} !~* {quote_literal(_MOVING)}"
        values.append(f"case when {valid} then ({text})::{column.raw_type} end")
    names = column_list([*shape.names, *METADATA_NAMES])
    relation = qualified(LANDING_SCHEMA, payload_table(target))
    await connection.execute(
        f"insert into {target.landing} ({names}) select {', '.join(values)}, "
        f"{extracted_at}::timestamptz, {quote_literal(target.source)}, {stamp.batch_id}, "
        f"case when {tombstone} then {extracted_at}::timestamptz end "
        f"from {relation} order by ordinal"
    )
    await connection.execute(f"drop table {relation}")
