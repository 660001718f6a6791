"""Bytes into a landing table, by COPY."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flows.load.table import LANDING_SCHEMA, Target
from flows.spec.identifiers import qualified, quote_identifier, quote_literal
from flows.spec.plan import KeySet
from flows.spec.shape import METADATA_NAMES, Shape, column_list, fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# The binary COPY format's signature, flags and header extension; and its trailer
# (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format").
_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
_TRAILER = struct.pack("!h", -1)
_NULL = struct.pack("!i", -1)
# Two columns; the first one's length follows, then jsonb's version byte.
_PAYLOAD_HEAD = struct.Struct("!hiB")

Form = Literal["binary", "csv"]
"""How rows are written: PostgreSQL's own bytes, or texts that its types read."""


async def copy_rows(
    connection: Connection[Record],
    target: Target,
    columns: Sequence[str],
    chunks: AsyncIterable[bytes],
    form: Form = "binary",
) -> int:
    """Rows of these columns in one of COPY's formats → the landing table. Returns the rows written."""
    return await _copy(connection, target.landing_name, columns, chunks, form)


async def _copy(
    connection: Connection[Record],
    table: str,
    columns: Sequence[str],
    chunks: AsyncIterable[bytes],
    form: Form = "binary",
) -> int:
    """COPY into a table of the landing schema, ended when the connection is.

    asyncpg alone would wait for ever to be allowed to write, when a connection breaks while its buffers are full.
    """
    copying = asyncio.ensure_future(
        connection.copy_to_table(table, schema_name=LANDING_SCHEMA, columns=list(columns), source=chunks, format=form)
    )

    def end(_: object) -> None:
        copying.cancel()

    connection.add_termination_listener(end)
    try:
        status = await copying
    except asyncio.CancelledError:
        ourselves = asyncio.current_task()
        if not connection.is_closed() or (ourselves is not None and ourselves.cancelling()):
            raise
        raise ConnectionResetError("the connection broke during COPY") from None
    finally:
        if not connection.is_closed():
            connection.remove_termination_listener(end)
    return int(status.split()[-1])


def keys_table(target: Target) -> str:
    """The name of the table that the source's keys land in."""
    return f"{target.landing_name}__k"


def differences_table(target: Target) -> str:
    """The name of the table that says which rows of landing table and raw differ."""
    return f"{target.landing_name}__d"


async def copy_keys(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    keys: tuple[str, ...],
    chunks: AsyncIterable[bytes],
    form: Form = "binary",
) -> int:
    """All keys of the source in one of COPY's formats → the keys table. Returns their number."""
    relation = qualified(LANDING_SCHEMA, keys_table(target))
    columns = [f"{quote_identifier(key)} {column.raw_type}" for key in keys if (column := shape.column(key))]
    await connection.execute(f"drop table if exists {relation}")
    await connection.execute(f"create unlogged table {relation} ({', '.join(columns)})")
    copied = await _copy(connection, keys_table(target), keys, chunks, form)
    await connection.execute(f"analyze {relation}")
    return copied


async def staged_key_set(connection: Connection[Record], relation: str, keys: tuple[str, ...]) -> KeySet:
    """The keys that a source sent, counted and marked as `key_set` does with raw's."""
    row = await connection.fetchrow(
        f"select count(*) as rows, {fingerprint([quote_identifier(key) for key in keys])} as mark from {relation}"
    )
    assert row is not None  # an aggregate always answers one row
    return KeySet(row["rows"], row["mark"])


@dataclass(frozen=True, slots=True)
class Records:
    """JSON records of one page; of a child endpoint, with the key of the parent that they belong to."""

    payloads: Sequence[bytes]
    parent: str | None = None


async def payload_rows(pages: AsyncIterable[Records]) -> AsyncGenerator[bytes, None]:
    """Pages of JSON records → one binary COPY of two columns, jsonb and text. The records' bytes are not decoded."""
    yield _HEADER
    head = _PAYLOAD_HEAD.pack
    async for page in pages:
        parent = _NULL if page.parent is None else _with_length(page.parent.encode())
        rows = []
        for record in page.payloads:
            rows.append(head(2, len(record) + 1, 1))
            rows.append(record)
            rows.append(parent)
        yield b"".join(rows)
    yield _TRAILER


def _with_length(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


def payload_table(target: Target) -> str:
    """The name of the table that an API's records land in before their keys are read out of them."""
    return f"{target.landing_name}__p"


async def copy_payloads(connection: Connection[Record], target: Target, pages: AsyncIterable[Records]) -> int:
    """Pages of JSON records → the payload table. Returns the records written."""
    name = payload_table(target)
    relation = qualified(LANDING_SCHEMA, name)
    await connection.execute(f"drop table if exists {relation}")
    await connection.execute(
        f"create unlogged table {relation} (ordinal bigint generated always as identity, payload jsonb, parent text)"
    )
    async with contextlib.aclosing(payload_rows(pages)) as rows:
        return await _copy(connection, name, ["payload", "parent"], rows)


async def type_payloads(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    metadata: tuple[str, str, int],
    tombstone: str = "false",
) -> None:
    """Payload table → landing table: key and cursor read out of each record, in the types raw has.

    A column's `select` is its text, as SQL over `payload` and `parent`; one that is not of its type becomes null here,
    and the door's rules name it. `tombstone` is SQL for records that tell of a delete: they land with `_deleted_at`.
    """
    extracted_at, source, batch = metadata
    values = []
    for column in shape.columns:
        if column.name == "payload":
            values.append("payload")
            continue
        text = column.select
        values.append(
            f"case when pg_input_is_valid({text}, {quote_literal(column.raw_type)}) "
            f"then ({text})::{column.raw_type} end"
        )
    names = column_list([*shape.names, *METADATA_NAMES])
    relation = qualified(LANDING_SCHEMA, payload_table(target))
    await connection.execute(
        f"insert into {target.landing} ({names}) select {', '.join(values)}, "
        f"{quote_literal(extracted_at)}::timestamptz, {quote_literal(source)}, {batch}, "
        f"case when {tombstone} then {quote_literal(extracted_at)}::timestamptz end "
        f"from {relation} order by ordinal"
    )
    await connection.execute(f"drop table {relation}")
