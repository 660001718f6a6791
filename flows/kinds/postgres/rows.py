"""Rows of a query at the source → a new landing table; errors name the failing side."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from flows.declare import Append, Merge, Overwrite, Replace
from flows.declare.table import Table
from flows.failures.sides import Sides
from flows.kinds.postgres.table import CopyStream, select_keys
from flows.landing import copy
from flows.landing.table import LANDING_SCHEMA, Stamp, create_landing, stamp_landing
from flows.publish.session import LoadSession, Progress
from flows.values.errors import SourceError
from flows.values.identifiers import qualified
from flows.values.plan import Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# What COPY sends without a row.
_WITHOUT_ROWS = len(copy.HEADER) + len(copy.TRAILER)


async def watched(stream: CopyStream, sides: Sides, on_progress: Progress | None = None) -> AsyncGenerator[bytes, None]:
    """The stream's chunks, with progress after the bytes of earlier streams."""
    async with contextlib.aclosing(aiter(stream)) as read, contextlib.aclosing(sides.each(read)) as chunks:
        async for chunk in chunks:
            yield chunk
            if on_progress is not None:
                on_progress("copied", stream.before + stream.bytes)


def refuse_other_count(sent: int, landed: int, where: str) -> None:
    """Raises:
    SourceError: the number of landed rows differs from the number sent.
    """
    if landed != sent:
        raise SourceError(
            f"the source sent {sent} rows, and the landing table has {landed}",
            where=where,
            fix="run again; if it repeats, check for a proxy between source and warehouse",
            retryable=True,
        )


async def land(
    session: LoadSession,
    shape: Shape,
    stream: CopyStream,
    extracted_at: str,
    on_progress: Progress | None = None,
    *,
    first: bool = False,
    unless_empty: bool = False,
) -> bool:
    """Copy the stream's rows into a new landing table; `first`: it will become the raw table.

    `unless_empty`: without rows there is no landing table, and the answer is False. An empty one cost a load of a small
    unchanged table a third of its time: 30 rows of the warehouse's catalogue and four files, made and deleted again.

    Raises:
        SourceError: the number of landed rows differs from the number sent.
    """
    # Closed immediately if the copy fails or is cancelled: while its reader runs, the source connection is blocked.
    async with contextlib.aclosing(watched(stream, session, on_progress)) as chunks:
        begun = [chunk async for chunk in _until_a_row(chunks)] if unless_empty else []
        session.rows_read = stream.rows
        if unless_empty and stream.ended and not stream.rows:
            return False
        landed = await _copy(session, shape, _after(begun, chunks), first=first)
    session.rows_read = stream.rows
    refuse_other_count(stream.rows, landed, session.target.where)
    await stamp_landing(session.warehouse, session.target, Stamp(extracted_at, session.batch_id))
    return True


async def _until_a_row(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The first chunks, up to one with a part of a row; all, if there is no row."""
    size = 0
    while size <= _WITHOUT_ROWS and (chunk := await anext(chunks, None)) is not None:
        size += len(chunk)
        yield chunk


async def _after(begun: list[bytes], chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in begun:
        yield chunk
    async for chunk in chunks:
        yield chunk


async def _copy(session: LoadSession, shape: Shape, chunks: AsyncIterator[bytes], *, first: bool) -> int:
    # COPY FREEZE needs a table created in the same transaction. There is no rollback on failure: the connection is
    # not used again, and its end rolls back.
    transaction = session.warehouse.transaction()
    await transaction.start()
    await create_landing(session.warehouse, session.target, shape, first=first, bare=True)
    session.pass_failpoint("after_landing_created")
    landed = await copy.copy_rows(session.warehouse, session.target, shape.names, chunks, frozen=True)
    await transaction.commit()
    return landed


async def stage_keys(
    session: LoadSession, origin: Connection[Record], table: Table, shape: Shape, window: Window
) -> str:
    """Copy the source's keys below the window's end next to the landing table; returns the relation."""
    stream = CopyStream(origin, select_keys(table, shape, window.below))
    async with contextlib.aclosing(watched(stream, session)) as keys:
        await copy.copy_keys(session.warehouse, session.target, shape, table.compared_by, keys)
    return qualified(LANDING_SCHEMA, copy.keys_table(session.target))


def way_of(table: Table, strategy: str, *, limited: bool) -> Replace | Append | Merge | Overwrite:
    """How rows are written: what is not read by a limited load stays."""
    if limited:
        return Merge() if table.keys else Append()
    # An append skips existing rows, which a reload must correct.
    return Merge() if strategy == "reload" and not isinstance(table.load, Overwrite) else table.load
