"""Rows that left the partitions being overwritten: raw has them there, the source elsewhere or not at all.

Those elsewhere are read as well, in the same snapshot, and land with the others: the publish then moves them. Rows
that still did not land are deleted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from flows.declare import Overwrite
from flows.declare.table import Table
from flows.kinds.postgres.compare import source_rows as extract_buckets
from flows.kinds.postgres.rows import refuse_other_count, watched
from flows.kinds.postgres.table import CopyStream, select_rows
from flows.landing import copy
from flows.publish.session import LoadSession
from flows.quality.open_rows import document_within, open_keys_not_landed
from flows.values.checksum import Key
from flows.values.identifiers import quote_identifier
from flows.values.plan import Window
from flows.values.shape import Shape, column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Keys looked up at the source per query.
_KEYS_AT_ONCE = 5_000


async def bring_moved(
    session: LoadSession, origin: Connection[Record], table: Table, shape: Shape, window: Window
) -> tuple[int, int]:
    """Add to the landing table the rows whose key raw or quarantine has in the window and that did not land.

    `origin` is inside the transaction whose snapshot was read. Returns the rows and bytes read.
    """
    if not isinstance(table.load, Overwrite) or not table.keys or window.condition == "true":
        return 0, 0
    target, warehouse, load = session.target, session.warehouse, table.load
    kinds = {key: column.raw_type for key in table.keys if (column := shape.column(key))}
    column = shape.column(load.by)
    assert column is not None  # describe() has refused a table without it
    within = document_within(column.name, column.raw_type, window.condition)
    same = " and ".join(f"l.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in table.keys)
    texts = ", ".join(f"r.{quote_identifier(key)}::text" for key in table.keys)
    rows, received = 0, 0
    await warehouse.execute(f"analyze {target.landing} ({column_list(table.keys)})")
    async with warehouse.transaction():
        aside = await open_keys_not_landed(warehouse, target.landing, kinds, within, table=target.name)
        # A cursor, so that memory does not grow with the number of deleted rows.
        missing = await warehouse.cursor(
            f"select array[{texts}] as key from (select * from {target.raw} where {window.condition}) as r "
            f"where not exists (select from {target.landing} as l where {same})"
        )
        seen = set(aside)
        keys: list[Key] = aside
        while True:
            if keys:
                more = await _bring(session, origin, table, shape, keys)
                rows, received = rows + more[0], received + more[1]
            found = await missing.fetch(_KEYS_AT_ONCE)
            if not found:
                break
            keys = [key for record in found if (key := tuple(record["key"])) not in seen]
    session.rows_read += rows
    return rows, received


async def _bring(
    session: LoadSession, origin: Connection[Record], table: Table, shape: Shape, keys: list[Key]
) -> tuple[int, int]:
    stream = CopyStream(origin, select_rows(table, shape, extract_buckets.among(table, shape, keys)))
    async with contextlib.aclosing(watched(stream, session)) as chunks:
        landed = await copy.copy_rows(session.warehouse, session.target, shape.names, chunks)
    refuse_other_count(stream.rows, landed, session.target.where)
    return stream.rows, stream.bytes
