"""COPY into a landing table."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterable, Sequence
from typing import TYPE_CHECKING, Literal

from flows.landing.table import LANDING_SCHEMA, Target
from flows.observe.tracing import span
from flows.values.identifiers import qualified, quote_identifier
from flows.values.plan import KeySet
from flows.values.shape import Shape, fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# The binary COPY format's signature, flags, header extension and trailer
# (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format").
HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)

Form = Literal["binary", "csv"]
"""The format of COPY: PostgreSQL's binary format, or text that its types parse."""


async def copy_rows(
    connection: Connection[Record],
    target: Target,
    columns: Sequence[str],
    chunks: AsyncIterable[bytes],
    form: Form = "binary",
    *,
    frozen: bool = False,
) -> int:
    """Rows of these columns in one of COPY's formats → the landing table. Returns the rows written.

    `frozen`: rows need no vacuum later, and their first reader need not look up the status of the writing transaction,
    which takes a fifth of the time of checking and indexing them. Only for a table created in this transaction.
    """
    return await copy_into(connection, target.landing_name, columns, chunks, form, frozen=frozen)


async def copy_into(
    connection: Connection[Record],
    table: str,
    columns: Sequence[str],
    chunks: AsyncIterable[bytes],
    form: Form = "binary",
    *,
    frozen: bool = False,
) -> int:
    """COPY into a table of the landing schema; it ends with the connection.

    asyncpg alone would wait forever for write permission if a connection breaks while its buffers are full.
    """
    copying = asyncio.ensure_future(
        connection.copy_to_table(
            table,
            schema_name=LANDING_SCHEMA,
            columns=list(columns),
            source=chunks,
            format=form,
            freeze=True if frozen else None,
        )
    )

    def end(_: object) -> None:
        copying.cancel()

    connection.add_termination_listener(end)
    try:
        with span("land"):
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
    """The name of the landing table of the source's keys."""
    return f"{target.landing_name}__k"


def differences_table(target: Target) -> str:
    """The name of the table with the differing rows of landing table and raw."""
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
    copied = await copy_into(connection, keys_table(target), keys, chunks, form)
    await connection.execute(f"analyze {relation}")
    return copied


async def staged_key_set(connection: Connection[Record], relation: str, keys: tuple[str, ...]) -> KeySet:
    """Count and fingerprint of the source's keys, as `key_set` computes them for raw."""
    row = await connection.fetchrow(
        f"select count(*) as rows, {fingerprint([quote_identifier(key) for key in keys])} as mark from {relation}"
    )
    assert row is not None  # an aggregate always answers one row
    return KeySet(row["rows"], row["mark"])
