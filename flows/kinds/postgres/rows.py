"""Rows of a query at the source → a new landing table, with the blame on the side that fails."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Protocol

from flows.kinds.postgres.table import CopyStream
from flows.landing import copy
from flows.landing.table import create_landing, stamp_landing
from flows.publish.session import LoadSession, Progress
from flows.values.errors import SourceError
from flows.values.shape import Shape


class Sided(Protocol):
    """Whoever can say which side's connection is in use."""

    side: str


async def watched(
    stream: CopyStream, sided: Sided, on_progress: Progress | None = None, before: int = 0
) -> AsyncGenerator[bytes, None]:
    """The stream's chunks, with progress behind the `before` bytes of earlier streams."""
    sided.side = "source"
    async with contextlib.aclosing(aiter(stream)) as chunks:
        async for chunk in chunks:
            sided.side = "warehouse"
            yield chunk
            sided.side = "source"
            if on_progress is not None:
                on_progress("copied", before + stream.bytes)
    sided.side = "warehouse"


def refuse_other_count(sent: int, landed: int, where: str) -> None:
    """Raises:
    SourceError: what landed is not what the source says it sent.
    """
    if landed != sent:
        raise SourceError(
            f"the source sent {sent} rows and {landed} landed",
            where=where,
            fix="run again; if it repeats, look for a proxy between source and warehouse",
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
    before: int = 0,
) -> None:
    """Copy the stream's rows into a new landing table; `first`: one that will become the raw table.

    Raises:
        SourceError: other rows landed than were sent.
    """
    session.side = "warehouse"
    # Only rows of a table that is made in the same transaction can be born frozen. It is not rolled back when
    # something fails: nothing more is asked of the connection then, and its end does the same.
    transaction = session.warehouse.transaction()
    await transaction.start()
    await create_landing(session.warehouse, session.target, shape, first=first, bare=True)
    session.pass_failpoint("after_landing_created")
    # Closed at once when the copy fails or is cancelled: while its reader is at work, the source can do nothing else.
    async with contextlib.aclosing(watched(stream, session, on_progress, before)) as chunks:
        landed = await copy.copy_rows(session.warehouse, session.target, shape.names, chunks, frozen=True)
    await transaction.commit()
    session.rows_read = stream.rows
    refuse_other_count(stream.rows, landed, session.target.where)
    await stamp_landing(session.warehouse, session.target, extracted_at, session.batch_id)
