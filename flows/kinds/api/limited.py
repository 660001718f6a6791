"""A load of some records of an endpoint, as many as the row limit for development allows.

It leaves alone what is known of the list: no place in it, no ETag and no known fields are stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.declare import Merge
from flows.kinds.api import Api, Endpoint
from flows.kinds.api.landing import ListLanding
from flows.kinds.api.list import ListLoad
from flows.kinds.api.list_state import ListRead
from flows.kinds.api.pages.endpoint import open_reader
from flows.kinds.api.pages.page import Page
from flows.kinds.api.plan import identity_of
from flows.kinds.api.shape import mark_of, shape_of
from flows.landing.readable import readable
from flows.landing.records import Records
from flows.landing.table import SchemaChange, compare, ensure_types, raw_columns
from flows.publish.run import Loaded, LoadRun
from flows.publish.sample import leave_out_tombstones, of_a_sample
from flows.publish.staged import Staged
from flows.quality.quarantine import Unreadable
from flows.values.errors import DeclarationError
from flows.values.json_path import plain_steps
from flows.values.plan import CursorState, LoadPlan, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Limited:
    """How many records are read; `first`: raw has no such table yet; `keeps_cursor`: beside a full load."""

    limit: int
    first: bool
    keeps_cursor: bool


def refuse_beside_state(endpoint: Endpoint, where: str, *, keeps_cursor: bool) -> None:
    """Beside a full load, some records must not pass for what is known of it.

    Raises:
        DeclarationError: later loads start where raw's children end, or ask whether the list that raw has has changed.
    """
    of_children = endpoint.parent is not None and endpoint.cursor is not None
    if keeps_cursor and (of_children or endpoint.etag):
        relies = "starts each parent's list behind its newest child in raw" if of_children else "relies on its ETag"
        raise DeclarationError(
            f"raw has a full load, and the next load {relies}",
            where=where,
            fix=f"run it without a row limit; or begin a new raw table with `medallion reload {where} --recreate`",
        )


async def load_some(run: LoadRun[Api, Endpoint], plan: LoadPlan, state: CursorState, limited: Limited) -> Loaded:
    """Read pages until there are enough records, and publish those.

    Raises:
        MedallionError: the source failed, and nothing was published.
    """
    session, endpoint, target = run.session, run.table, run.target
    landing, shape = ListLanding(session, endpoint), shape_of(endpoint)
    of_list = ListLoad(run, plan, state, ListRead(mark_of(run.source, endpoint), since=plan.lower))
    raw = await raw_columns(session.warehouse, target)
    changes: list[SchemaChange] = compare(shape, raw, target.where) if raw is not None else []
    await ensure_types(session.warehouse, target, shape)
    await landing.begin(first=limited.first)
    session.pass_failpoint("after_landing_created")
    taken = _Taken(endpoint, limited.limit)
    async with (
        open_reader(run.source, endpoint, of_list.connection, limits=of_list.limits) as reader,
        of_list.pages(reader) as pages,
        contextlib.aclosing(session.each(pages)) as coming,
        contextlib.aclosing(taken.of(coming)) as records,
    ):
        landed = await landing.land(records)
    await landing.keep(taken.unreadable)
    unreadable = await landing.stamped()
    session.rows_read = landed + len(unreadable)
    await leave_out_tombstones(session)

    async def note(warehouse: Connection[Record], batch_id: int) -> None:
        await landing.end()

    staged = Staged(
        load=Merge(),
        shape=shape,
        keys=endpoint.keys,
        window=Window(lower=plan.lower, next=of_a_sample(identity_of(endpoint), limited.limit)),
        first=limited.first,
        rows_read=session.rows_read,
        received_bytes=taken.received,
        extracted_at=datetime.now(UTC).isoformat(),
        cursor=endpoint.cursor_column,
        cursor_required=endpoint.cursor_column is not None,
        rules=endpoint.rules,
        tolerance=endpoint.tolerance,
        on_duplicate=endpoint.on_duplicate,
        may_repeat=True,
        drops_copies=True,
        changes=tuple(changes),
        unreadable=tuple(unreadable),
        moves_cursor=not limited.keeps_cursor,
        limited=True,
    )
    return Loaded(plan, await run.publish(staged, note))


class _Taken:
    """The first records of some pages. `received` counts their pages' bytes."""

    def __init__(self, endpoint: Endpoint, limit: int) -> None:
        self._left = limit
        parent = endpoint.parent
        self._keys = [
            () if parent is not None and part.name == parent.column else plain_steps(part.at)
            for part in endpoint.key_fields
        ]
        self.received = 0
        self.unreadable: list[Unreadable] = []

    async def of(self, pages: AsyncGenerator[Page, None]) -> AsyncGenerator[Records, None]:
        """Their records, until there are enough; further pages are not asked for."""
        async for page in pages:
            self.received += page.received_bytes
            some = page.records[: self._left]
            self._left -= len(some)
            yield Records(readable(some, self._keys, self.unreadable, careful=True, parent=page.parent), page.parent)
            if self._left <= 0:
                return
