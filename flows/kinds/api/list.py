"""One list of an API, from its pages to raw.

Pages gather in the landing table, each committed with the place behind it, and are published in groups: what is asked
for again after a death is the page that was on its way.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from flows.access.addresses import connect
from flows.declare import Merge, Replace
from flows.kinds.api import Api, Endpoint, Since, known_fields, list_state
from flows.kinds.api.gathering import ListGathering
from flows.kinds.api.landing import published
from flows.kinds.api.list_state import ListRead
from flows.kinds.api.pages.children import read_children
from flows.kinds.api.pages.coming import Coming
from flows.kinds.api.pages.endpoint import EndpointReader, HttpLimits, Page, count_records, open_reader
from flows.kinds.api.parents import parents_of
from flows.kinds.api.shape import shape_of
from flows.landing.table import SchemaChange
from flows.publish.publish import Staged, check_and_publish
from flows.publish.session import LoadSession, Progress
from flows.state import ledger, schema_changes
from flows.values.connection import ApiConnection, DatabaseConnection
from flows.values.errors import MedallionError, PlaceLost, SourceError, SourceUnavailable
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState, KeySet, LoadCounts, LoadPlan, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A list whose place is lost again and again cannot be read to its end: each time its beginning is read once more.
_MOST_BEGINNINGS = 3


class ListLoad:
    """One load under way, from its plan to its counts."""

    def __init__(
        self,
        address: DatabaseConnection,
        session: LoadSession,
        connection: ApiConnection,
        source: Api,
        endpoint: Endpoint,
        plan: LoadPlan,
        state: CursorState,
        known: ListRead,
        limits: HttpLimits,
        on_progress: Progress | None,
    ) -> None:
        self.address, self.session, self.connection = address, session, connection
        self.source, self.endpoint, self.plan, self.state = source, endpoint, plan, state
        self.limits = limits
        self.shape = shape_of(endpoint)
        self.gathering = ListGathering(session, endpoint, plan, known, on_progress)
        self.upper = known.reached or state.value
        self.groups = 0
        self.changes: list[str] = []
        self._batch_reached: str | None = None

    async def run(self) -> LoadCounts:
        """Read the list to its end, and publish it.

        Raises:
            MedallionError: the source failed. What had been read by then is kept, with the place behind it.
        """
        total = LoadCounts()
        beginnings = 0
        await self.gathering.take_up()
        async with open_reader(self.source, self.endpoint, self.connection, limits=self.limits) as reader:
            while True:
                beginnings += 1
                try:
                    return await self._walk(reader, total)
                except _BeginAgain as again:
                    total, lost = again.counts, again.lost
                if lost is not None:
                    if beginnings >= _MOST_BEGINNINGS:
                        raise lost
                    self._begin_again()

    def _begin_again(self) -> None:
        """The API has forgotten our place, or the change token: from the durable cursor, or from the beginning."""
        gathering = self.gathering
        at_beginning = gathering.known.place is None and gathering.gathered.place is None and self.groups == 0
        forgotten = at_beginning and not gathering.resumed and not isinstance(self.endpoint.cursor, Since)
        gathering.begin_again(None if forgotten else self.plan.lower, self.upper)

    @asynccontextmanager
    async def _pages(self, reader: EndpointReader) -> AsyncIterator[AsyncGenerator[Page, None]]:
        """The list's pages; those of each parent's list, where the endpoint has a parent."""
        known = self.gathering.known
        place = self.gathering.gathered.place or known.place
        if self.endpoint.parent is None:
            pages = reader.pages(since=self.gathering.since, place=place, etag=known.etag if place is None else None)
            async with contextlib.aclosing(pages):
                yield pages
            return
        # The load's own connection is busy with COPY while parents are asked for.
        async with connect(self.address, side="warehouse", application="medallion parents") as warehouse:
            parents = await parents_of(warehouse, self.source, self.endpoint, self.state.value, place)
            self._batch_reached = str(parents.until)
            records = parents.records(warehouse, place)
            with_children = functools.partial(parents.with_children, warehouse, self.session.target, self.endpoint)
            children = read_children(reader, records, self.source.concurrent_of(self.endpoint), with_children)
            async with contextlib.aclosing(records), contextlib.aclosing(children):
                yield children

    async def _walk(self, reader: EndpointReader, total: LoadCounts) -> LoadCounts:
        gathering = self.gathering
        async with self._pages(reader) as pages, Coming(pages) as coming:
            while True:
                try:
                    changes = await gathering.stage(coming)
                except asyncpg.DataError:
                    if gathering.careful:
                        raise
                    # A record that jsonb cannot hold, among those that did not look like it.
                    gathering.careful = True
                    raise _BeginAgain(total, None) from None
                stopped = gathering.stopped
                if stopped is not None and not self._publishes_before(stopped):
                    raise _BeginAgain(total, stopped) if self._is_lost(stopped) else stopped
                ended = self.gathering.gathered.ended
                counts = await self._publish_or_forget(changes)
                self.groups += 1
                total = counts.after(total)
                if ended:
                    return total
                self.session.pass_failpoint("after_chunk_commit")
                await self._open_next()
                if stopped is not None:
                    raise _BeginAgain(total, stopped) if self._is_lost(stopped) else stopped

    def _publishes_before(self, stopped: MedallionError) -> bool:
        """Whether what has come is published although the list did not end: only a whole list says what is gone."""
        return (
            isinstance(stopped, SourceUnavailable)
            and bool(self.gathering.gathered.pages)
            and not isinstance(self.endpoint.load, Replace)
        )

    def _is_lost(self, stopped: MedallionError) -> bool:
        """Whether the API knows our place no more. Some say so by 400 or 404, as they do of any wrong request."""
        refused = isinstance(stopped, SourceError) and not stopped.retryable
        return isinstance(stopped, PlaceLost) or (refused and self.gathering.resumed)

    async def _open_next(self) -> None:
        self.session.batch_id = await ledger.open_load(
            self.session.warehouse,
            self.session.run_id,
            self.plan.source,
            self.plan.table,
            self.plan.mode,
            self.plan.path,
        )
        self.session.rows_read = 0

    async def _publish_or_forget(self, changes: list[SchemaChange]) -> LoadCounts:
        try:
            return await self._publish(changes)
        except MedallionError as problem:
            if not problem.retryable:
                # What was gathered is what was wrong: the next load reads it again.
                await list_state.forget_gathered(self.session.warehouse, self.plan.source, self.plan.table)
            raise

    async def _publish(self, changes: list[SchemaChange]) -> LoadCounts:
        session, endpoint, gathering = self.session, self.endpoint, self.gathering
        gathered, fields = gathering.gathered, gathering.fields
        unreadable = await gathering.landing.stamped()
        session.rows_read = gathered.rows + len(unreadable)
        self.upper = await self._latest()
        source_keys = None
        if gathered.ended and not gathered.unchanged:
            session.side = "source"
            total = await count_records(self.source, endpoint, self.connection, limits=self.limits)
            source_keys = None if total is None else KeySet(total)
            session.side = "warehouse"
        ordered = isinstance(endpoint.cursor, Since) and endpoint.cursor.ordered
        # What is stored at the list's end, for cursors that no record has.
        after = (self._batch_reached or gathered.token or self.upper) if gathered.ended else self.upper
        staged = Staged(
            # Nothing came because nothing changed: a replace would take it for an empty list.
            load=Merge() if gathered.unchanged else endpoint.load,
            shape=self.shape,
            keys=endpoint.keys,
            window=Window(lower=gathering.since, upper=after, next=CursorState(after)),
            first=gathering.first,
            rows_read=session.rows_read,
            received_bytes=gathered.received,
            extracted_at=datetime.now(UTC).isoformat(),
            cursor=endpoint.cursor_column,
            cursor_required=endpoint.cursor_column is not None,
            rules=endpoint.rules,
            tolerance=endpoint.tolerance,
            changes=tuple(changes),
            unreadable=tuple(unreadable),
            source_keys=source_keys,
            more_follow=not gathered.ended,
            moves_cursor=gathered.ended or ordered,
            tombstones=endpoint.deleted is not None,
            lists=gathering.landing.lists if isinstance(endpoint.load, Merge) else None,
        )
        if gathered.ended:
            etag = gathering.known.etag if gathered.unchanged else gathered.etag
            known = replace(gathering.known, reached=self.upper, etag=etag, place=None, gathered=None)
        else:
            place = gathered.place or gathering.known.place
            known = replace(gathering.known, reached=self.upper, place=place, gathered=published(gathered))

        async def note(warehouse: Connection[Record], batch_id: int) -> None:
            names = (self.plan.source, self.plan.table)
            await list_state.save(warehouse, *names, batch_id, known)
            if fields.is_new:
                await known_fields.save(warehouse, *names, batch_id, fields.known)
            await schema_changes.record(warehouse, *names, batch_id, fields.changes)
            await schema_changes.record_refused(warehouse, *names, batch_id, fields.refused)
            await gathering.landing.end()

        counts = await check_and_publish(self.address, session, staged, note)
        gathering.known = known
        gathering.first = fields.is_new = False
        self.changes += [f"{name} {change}" for name, change, _, _ in fields.changes]
        fields.changes.clear()
        return counts

    async def _latest(self) -> str | None:
        """The furthest cursor among what was known and what landed, below the API's clock when the list began.

        A record stamped in the future would otherwise carry the cursor past everything until then.
        """
        cursor = self.endpoint.cursor
        if not isinstance(cursor, Since):
            return self.state.value
        now = datetime.now(UTC)
        ceiling = datetime.fromisoformat(self.gathering.known.ceiling) if self.gathering.known.ceiling else now
        bound = f"{quote_literal(cursor.at(min(now, ceiling)))}::{cursor.raw_type}"
        column = quote_identifier(cursor.column)
        known = "null" if self.upper is None else quote_literal(self.upper)
        latest: str | None = await self.session.warehouse.fetchval(
            # least() passes over nulls: without the case, records without a readable cursor would move it to the bound.
            f"select greatest(case when max({column}) is not null then least(max({column}), {bound}) end, "
            f"{known}::{cursor.raw_type})::text from {self.session.target.landing}"
        )
        return latest


class _BeginAgain(Exception):
    """The API has forgotten our place, or (None) pages are to be read again; what was published by then is counted."""

    def __init__(self, counts: LoadCounts, lost: MedallionError | None) -> None:
        super().__init__()
        self.counts = counts
        self.lost = lost
