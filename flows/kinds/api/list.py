"""One load of an API's list, from its pages to raw.

Pages are collected in the landing table, each committed with the place after it, and published in groups: after a
crash, only the page in flight is fetched again.
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
from flows.failures.diagnose import diagnose
from flows.kinds.api import Api, Endpoint, Since, known_fields, list_state, reached
from flows.kinds.api.clocks import Clocks
from flows.kinds.api.counted import ListCount
from flows.kinds.api.gathering import ListGathering
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.landing import published
from flows.kinds.api.list_state import ListRead
from flows.kinds.api.pages.children import Lists, OneByOne, read_children
from flows.kinds.api.pages.coming import Coming
from flows.kinds.api.pages.endpoint import open_reader
from flows.kinds.api.pages.endpoint_reader import EndpointReader
from flows.kinds.api.pages.groups import Groups
from flows.kinds.api.pages.page import Page, Start
from flows.kinds.api.pages.parts import Parts, read_parts
from flows.kinds.api.parents import parents_of
from flows.kinds.api.plan import identity_of
from flows.kinds.api.report import lists_refused, refused_parents, warning_of
from flows.kinds.api.shape import shape_of
from flows.landing.table import SchemaChange
from flows.publish.run import LoadRun
from flows.publish.staged import Staged
from flows.state import ledger, schema_changes
from flows.values.connection import ApiConnection
from flows.values.errors import (
    BudgetReached,
    ListUnfinished,
    MedallionError,
    PlaceLost,
    SourceError,
    SourceUnavailable,
)
from flows.values.plan import CursorState, KeySet, LoadCounts, LoadPlan, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A list whose position is lost repeatedly cannot be read to its end: each time it is read from the start again.
_MOST_BEGINNINGS = 3


class ListLoad:
    """One running load, from its plan to its counts."""

    def __init__(
        self,
        run: LoadRun[Api, Endpoint],
        plan: LoadPlan,
        state: CursorState,
        known: ListRead,
        *,
        renews: bool = False,
    ) -> None:
        """`renews`: raw has a sample, which the list replaces."""
        self.of, self.session = run, run.session
        self.source, self.endpoint, self.plan, self.state = run.source, run.table, plan, state
        self.connection: ApiConnection = run.origin.connection
        self.limits: HttpLimits = run.origin.limits
        self.shape = shape_of(run.table)
        self.gathering = ListGathering(run, plan, known)
        self.upper = known.reached or state.value
        self.groups = 0
        self.renews = renews
        self.changes: list[str] = []
        self.warning: str | None = None
        self._lacks = 0
        self._batch_reached: str | None = None

    async def run(self) -> LoadCounts:
        """Read the list to its end, and publish it.

        Raises:
            MedallionError: the source failed. What was read by then is kept, with the place after it.
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
        """The API no longer accepts the position or change token: restart from the cursor, or from the start."""
        gathering = self.gathering
        at_beginning = gathering.known.place is None and gathering.gathered.place is None and self.groups == 0
        forgotten = at_beginning and not gathering.resumed and not isinstance(self.endpoint.cursor, Since)
        gathering.begin_again(None if forgotten else self.plan.lower, self.upper)

    @asynccontextmanager
    async def pages(self, reader: EndpointReader) -> AsyncIterator[AsyncGenerator[Page, None]]:
        """The list's pages; those of each parent's list, if the endpoint has a parent."""
        known = self.gathering.known
        place = self.gathering.gathered.place or known.place
        if self.endpoint.is_divided and self.endpoint.parent is None:
            parts = Parts(self.endpoint, reached.starts(self.endpoint, self.state), place)
            # The id of a job is committed before it is waited for, so there is one at a time.
            width = 1 if self.endpoint.job is not None else self.source.concurrent_of(self.endpoint)
            pages = read_parts(reader, parts, width)
            async with contextlib.aclosing(pages):
                yield pages
            return
        if self.endpoint.parent is None:
            pages = reader.pages(Start(self.gathering.since, place, known.etag if place is None else None))
            async with contextlib.aclosing(pages):
                yield pages
            return
        # The load's own connection is busy with COPY while parents are read.
        async with connect(self.of.address, side="warehouse", application="medallion parents") as warehouse:
            refused, clocks = self.gathering.gathered.refused, Clocks.of(self.state.identity)
            parents = await parents_of(warehouse, self.source, self.endpoint, self.state.value, place, refused, clocks)
            self._batch_reached = str(parents.until)
            records = parents.records(warehouse, place)
            with_children = functools.partial(parents.with_children, warehouse, self.session.target, self.endpoint)
            parent = self.source.table(self.endpoint.parent.endpoint)
            group, (key, *_) = self.endpoint.parent.group, parent.key_fields
            lists: Lists = OneByOne(reader)
            if group is not None:
                lists = Groups(reader, key.name, key.type, group, with_children)
            children = read_children(lists, records, self.source.concurrent_of(self.endpoint), with_children)
            async with contextlib.aclosing(records), contextlib.aclosing(children):
                yield children

    async def _walk(self, reader: EndpointReader, total: LoadCounts) -> LoadCounts:
        gathering = self.gathering
        async with self.pages(reader) as pages, Coming(pages) as coming:
            while True:
                try:
                    changes = await gathering.stage(coming)
                except asyncpg.DataError:
                    if gathering.careful:
                        raise
                    # A record that jsonb cannot hold, not detected by the fast check.
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
        """Whether to publish although the list did not end: only a complete list shows which records are deleted."""
        return (
            isinstance(stopped, SourceUnavailable | ListUnfinished | BudgetReached)
            and bool(self.gathering.gathered.pages)
            and not isinstance(self.endpoint.load, Replace)
        )

    def _is_lost(self, stopped: MedallionError) -> bool:
        """Whether the API no longer accepts the position. Some respond with 400 or 404, as for any invalid request."""
        refused = isinstance(stopped, SourceError) and not stopped.retryable
        return isinstance(stopped, PlaceLost) or (refused and self.gathering.resumed)

    async def _open_next(self) -> None:
        await self.of.next_batch(self.plan)
        self.session.rows_read = 0

    async def _publish_or_forget(self, changes: list[SchemaChange]) -> LoadCounts:
        try:
            return await self._publish(changes)
        except MedallionError as problem:
            if not problem.retryable:
                # The gathered records were refused: the next load reads them again.
                await list_state.forget_gathered(self.session.warehouse, self.plan.source, self.plan.table)
            raise

    async def _publish(self, changes: list[SchemaChange]) -> LoadCounts:
        session, endpoint, gathering = self.session, self.endpoint, self.gathering
        # Later parts of the list must not remove the earlier ones.
        renews = self.renews and self.groups == 0 and gathering.known.place is None
        count, total = ListCount(gathering, renews), None
        if gathering.gathered.ended and not gathering.gathered.unchanged:
            total = await count.total()
        gathered, fields = gathering.gathered, gathering.fields
        unreadable = await gathering.landing.stamped()
        session.rows_read = gathered.rows + len(unreadable)
        landing, ceiling = session.target.landing, gathering.known.ceiling
        self.upper = await reached.latest(session.warehouse, landing, endpoint, ceiling, self.upper or self.state.value)
        self._lacks = await count.moved(total)
        parts = await reached.by_part(session.warehouse, landing, endpoint, gathered)
        gathered = replace(gathered, parts=parts, batch=gathered.batch or session.batch_id)
        ordered = isinstance(endpoint.cursor, Since) and endpoint.cursor.ordered is True and endpoint.parent is None
        # Stored at the list's end, for cursors that are not in records.
        after = (self._batch_reached or gathered.token or self.upper) if gathered.ended else self.upper
        identity = identity_of(endpoint) | reached.parts_of(endpoint, self.state, gathered, ceiling)
        staged = Staged(
            # Nothing arrived because nothing changed: a replace would treat it as an empty list.
            # A list that has not been shown to be whole shows no deletes either.
            load=Merge()
            if gathered.unchanged or gathered.unproven or gathered.skipped or self._lacks
            else endpoint.load,
            shape=self.shape,
            keys=endpoint.keys,
            window=Window(lower=gathering.since, upper=after, next=CursorState(after, identity=identity)),
            first=gathering.first,
            rows_read=session.rows_read,
            received_bytes=gathered.received,
            extracted_at=datetime.now(UTC).isoformat(),
            cursor=endpoint.cursor.column if isinstance(endpoint.cursor, Since) else None,
            cursor_required=isinstance(endpoint.cursor, Since) and endpoint.cursor.missing == "quarantine",
            rules=endpoint.rules,
            tolerance=endpoint.tolerance,
            on_duplicate=endpoint.on_duplicate,
            may_repeat=True,
            # A merge reads changes, of which the last one counts; a replace reads what is there now, once each.
            drops_copies=not isinstance(endpoint.load, Replace) or endpoint.deleted is not None,
            changes=tuple(changes),
            unreadable=tuple(unreadable),
            source_keys=None if total is None else KeySet(total),
            renews=renews,
            more_follow=not gathered.ended,
            moves_cursor=gathered.ended or ordered,
            tombstones=endpoint.deleted is not None,
            lists=gathering.landing.lists if isinstance(endpoint.load, Merge) else None,
            skipped=lists_refused(gathered, session.target.where),
        )
        if gathered.ended:
            # "Not modified" would keep what is missing away until the list changes.
            is_partial = gathered.ignored or gathered.skipped or self._lacks
            etag = gathering.known.etag if gathered.unchanged else None if is_partial else gathered.etag
            rest = published(gathered).rest
            known = replace(gathering.known, reached=self.upper, etag=etag, place=None, gathered=rest)
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
            if gathered.ended and gathered.outcomes:
                problem = refused_parents(gathered, self.session.target.where)
                await ledger.record_error(warehouse, diagnose(problem, "").facts(self.session.run_id, batch_id))

        counts = await self.of.publish(staged, note)
        if gathered.ended:
            self.warning = warning_of(
                gathered,
                self._lacks,
                replaces=isinstance(endpoint.load, Replace),
                grouped=endpoint.parent is not None and endpoint.parent.group is not None,
            )
        gathering.known = known
        gathering.first = fields.is_new = False
        self.changes += [f"{name} {change}" for name, change, _, _ in fields.changes]
        fields.changes.clear()
        return counts


class _BeginAgain(Exception):
    """The position is lost, or (None) pages must be read again; what was published by then is counted."""

    def __init__(self, counts: LoadCounts, lost: MedallionError | None) -> None:
        super().__init__()
        self.counts = counts
        self.lost = lost
