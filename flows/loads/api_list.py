"""One list of an API, from its pages to raw, group by group.

Rows and the place behind them commit together: what is read again after a death is at most one group.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from flows.connections import connect
from flows.extract.rest import EndpointReader, HttpLimits, Page, count_records, open_reader
from flows.extract.rest_children import read_children
from flows.load import payloads
from flows.load.payloads import Records
from flows.load.table import SchemaChange, compare, create_landing, ensure_types, raw_columns
from flows.loads.api_parents import parents_of
from flows.loads.api_shape import places_of, shape_of, tombstone_of
from flows.loads.publishing import Staged, check_and_publish
from flows.loads.session import LoadSession, Progress
from flows.loads.unreadable import Steps, readable, unknown_fields
from flows.quality.quarantine import Unreadable
from flows.quality.record_fields import Change, RecordFields
from flows.settings import settings
from flows.spec import Api, ApiConnection, DatabaseConnection, Endpoint, Merge, Replace, Since
from flows.spec.errors import MedallionError, PlaceLost, SchemaDrift, SourceUnavailable
from flows.spec.identifiers import quote_identifier, quote_literal
from flows.spec.json_path import plain_steps
from flows.spec.plan import CursorState, KeySet, LoadCounts, LoadPlan, Window
from flows.state import ledger, list_reads, record_fields
from flows.state.list_reads import ListRead

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A list whose place is lost again and again cannot be read to its end: each time its beginning is read once more.
_MOST_BEGINNINGS = 3


@dataclass(slots=True)
class _Group:
    """Pages that are published together, and why the group ended."""

    pages: int = 0
    records: int = 0
    received: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    ended: bool = False
    unchanged: bool = False
    between_lists: bool = False
    stopped: MedallionError | None = None


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
        self.known = known
        self.limits = limits
        self.on_progress = on_progress
        self.shape = shape_of(endpoint)
        self.upper = known.reached or state.value
        self.groups = 0
        self.changes: list[str] = []
        self.fields = RecordFields({}, endpoint.on_drift, first=True)
        self._first = plan.path == "first"
        self._token: str | None = None
        self._batch_reached: str | None = None
        self._received = 0
        # Whether each record's numbers are looked at: that takes longer than all the rest, and hardly ever finds one.
        self._careful = False
        self._since = known.since if known.place is not None else plan.lower

    async def run(self) -> LoadCounts:
        """Read the list to its end, and publish it.

        Raises:
            MedallionError: the source failed. What had been read by then is published, with the place behind it.
        """
        total = LoadCounts()
        beginnings = 0
        known = await record_fields.read(self.session.warehouse, self.plan.source, self.plan.table)
        self.fields = RecordFields(known, self.endpoint.on_drift, first=not known)
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
        forgotten = self.known.place is None and self.groups == 0 and not isinstance(self.endpoint.cursor, Since)
        self._since = None if forgotten else self.plan.lower
        self.known = ListRead(self.known.declared, since=self._since, reached=self.upper)

    @asynccontextmanager
    async def _pages(self, reader: EndpointReader) -> AsyncIterator[AsyncGenerator[Page, None]]:
        """The list's pages; those of each parent's list, where the endpoint has a parent."""
        if self.endpoint.parent is None:
            pages = reader.pages(since=self._since, place=self.known.place, etag=self.known.etag)
            async with contextlib.aclosing(pages):
                yield pages
            return
        # The load's own connection is busy with COPY while parents are asked for.
        async with connect(self.address, side="warehouse", application="medallion parents") as warehouse:
            parents = await parents_of(warehouse, self.source, self.endpoint, self.state.value)
            self._batch_reached = str(parents.until)
            records = parents.records(warehouse, self.known.place)
            children = read_children(reader, records, self.source.concurrent_of(self.endpoint))
            async with contextlib.aclosing(records), contextlib.aclosing(children):
                yield children

    async def _walk(self, reader: EndpointReader, total: LoadCounts) -> LoadCounts:
        async with self._pages(reader) as pages:
            while True:
                group, behind = _Group(), self.known
                try:
                    changes = await self._stage(group, pages)
                except asyncpg.DataError:
                    if self._careful:
                        raise
                    # A record that jsonb cannot hold, among those that did not look like it.
                    self._careful, self.known = True, behind
                    raise _BeginAgain(total, None) from None
                stopped = group.stopped
                if stopped is not None and (not group.pages or isinstance(self.endpoint.load, Replace)):
                    if isinstance(stopped, PlaceLost):
                        raise _BeginAgain(total, stopped)
                    raise stopped
                counts = await self._publish(group, changes)
                self.groups += 1
                total = counts.after(total)
                if group.ended:
                    return total
                self.session.pass_failpoint("after_chunk_commit")
                await self._open_next()
                if isinstance(stopped, PlaceLost):
                    raise _BeginAgain(total, stopped)
                if stopped is not None:
                    raise stopped

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

    async def _stage(self, group: _Group, pages: AsyncGenerator[Page, None]) -> list[SchemaChange]:
        session, warehouse, target = self.session, self.session.warehouse, self.session.target
        await ledger.note_path(warehouse, session.batch_id, self.plan.path)
        raw = await raw_columns(warehouse, target)
        changes = compare(self.shape, raw, target.where) if raw is not None else []
        await ensure_types(warehouse, target, self.shape)
        await create_landing(warehouse, target, self.shape, first=self._first, bare=True)
        session.pass_failpoint("after_landing_created")
        async with contextlib.aclosing(self._records(group, pages)) as records:
            landed = await payloads.land(
                warehouse,
                target,
                self.shape,
                places_of(self.endpoint),
                records,
                datetime.now(UTC).isoformat(),
                session.batch_id,
                tombstone_of(self.endpoint),
            )
        session.rows_read = landed + len(group.unreadable)
        session.pass_failpoint("after_copy")
        return changes

    async def _records(self, group: _Group, pages: AsyncGenerator[Page, None]) -> AsyncGenerator[Records, None]:
        """The records of the next pages, until the group is full, the list ends, or the source fails."""
        keys = [plain_steps(part.at) for part in self.endpoint.key_fields]
        began = time.monotonic()
        self.session.side = "source"
        while not self._is_full(group, began):
            try:
                page = await anext(pages, None)
            except SourceUnavailable as problem:
                group.stopped = problem
                break
            if page is None:
                group.ended = True
                break
            self.session.side = "warehouse"
            self._note(group, page)
            records = readable(page.records, keys, group.unreadable, careful=self._careful)
            yield Records(self._as_known(records, keys, group), page.parent)
            self.session.side = "source"
            if self.on_progress is not None:
                self.on_progress("received", self._received)
        self.session.side = "warehouse"

    def _as_known(self, records: Sequence[bytes], keys: Sequence[Steps], group: _Group) -> Sequence[bytes]:
        """The records that keep the endpoint's contract about their fields.

        Raises:
            SchemaDrift: one does not, where fields are frozen.
        """
        odd = self.fields.look(records)
        if self.fields.refused and self.endpoint.on_drift == "freeze":
            raise _drift(self.fields.refused, self.session.target.where)
        if not odd:
            return records
        group.unreadable += [unknown_fields(records[place], keys) for place in sorted(odd)]
        return [record for place, record in enumerate(records) if place not in odd]

    def _is_full(self, group: _Group, began: float) -> bool:
        if isinstance(self.endpoint.load, Replace) or group.between_lists or not group.pages or group.ended:
            return group.ended
        limits = settings()
        return time.monotonic() - began >= limits.api_group_seconds or group.received >= limits.api_group_mb * 1e6

    def _note(self, group: _Group, page: Page) -> None:
        group.pages += 1
        group.records += len(page.records)
        group.received += page.received_bytes
        group.unchanged = page.unchanged
        # Of children only their generator's end tells it: a page in the middle of a parent's list has no place.
        group.ended = page.place is None and page.parent is None
        group.between_lists = page.parent is not None and page.place is None
        self._received += page.received_bytes
        self._token = page.token or self._token
        etag = self.known.etag
        if page.number == 1:
            etag = page.etag if self.endpoint.etag and not page.unchanged else etag
            if not (isinstance(self.endpoint.cursor, Since) and self.endpoint.cursor.ordered):
                # What changes on a page that has been read already may carry an earlier stamp than what is seen on
                # a later one. By the API's own clock, whatever stands below its first answer has been seen.
                moment = page.moment or datetime.now(UTC)
                self.known = replace(self.known, ceiling=moment.isoformat())
        self.known = replace(self.known, etag=etag, place=page.place or self.known.place, since=self._since)

    async def _publish(self, group: _Group, changes: list[SchemaChange]) -> LoadCounts:
        session, endpoint = self.session, self.endpoint
        self.upper = await self._latest()
        self.known = replace(self.known, reached=self.upper)
        source_keys = None
        if group.ended and not group.unchanged:
            session.side = "source"
            total = await count_records(self.source, endpoint, self.connection, limits=self.limits)
            source_keys = None if total is None else KeySet(total)
            session.side = "warehouse"
        ordered = isinstance(endpoint.cursor, Since) and endpoint.cursor.ordered
        # What is stored at the list's end, for cursors that no record has.
        after = (self._batch_reached or self._token or self.upper) if group.ended else self.upper
        staged = Staged(
            # Nothing came because nothing changed: a replace would take it for an empty list.
            load=Merge() if group.unchanged else endpoint.load,
            shape=self.shape,
            keys=endpoint.keys,
            window=Window(lower=self._since, upper=after, next=CursorState(after)),
            first=self._first,
            rows_read=session.rows_read,
            received_bytes=group.received,
            extracted_at=datetime.now(UTC).isoformat(),
            cursor=endpoint.cursor_column,
            cursor_required=endpoint.cursor_column is not None,
            rules=endpoint.rules,
            max_quarantined=endpoint.max_quarantined,
            changes=tuple(changes),
            unreadable=tuple(group.unreadable),
            source_keys=source_keys,
            more_follow=not group.ended,
            moves_cursor=group.ended or ordered,
            tombstones=endpoint.deleted is not None,
        )
        known = replace(self.known, place=None) if group.ended else self.known

        async def note(warehouse: Connection[Record], batch_id: int) -> None:
            names = (self.plan.source, self.plan.table)
            await list_reads.save(warehouse, *names, batch_id, known)
            if self.fields.is_new:
                await record_fields.save(warehouse, *names, batch_id, self.fields.known)
            await ledger.record_changes(warehouse, *names, batch_id, self.fields.changes)
            await ledger.record_refused_changes(warehouse, *names, batch_id, self.fields.refused)

        counts = await check_and_publish(self.address, session, staged, note)
        self._first = self.fields.is_new = False
        self.changes += [f"{name} {change}" for name, change, _, _ in self.fields.changes]
        self.fields.changes.clear()
        return counts

    async def _latest(self) -> str | None:
        """The furthest cursor among what was known and what landed, below the API's clock when the list began.

        A record stamped in the future would otherwise carry the cursor past everything until then.
        """
        cursor = self.endpoint.cursor
        if not isinstance(cursor, Since):
            return self.state.value
        now = datetime.now(UTC)
        ceiling = datetime.fromisoformat(self.known.ceiling) if self.known.ceiling else now
        bound = f"{quote_literal(cursor.at(min(now, ceiling)))}::{cursor.raw_type}"
        column = quote_identifier(cursor.column)
        known = "null" if self.upper is None else quote_literal(self.upper)
        latest: str | None = await self.session.warehouse.fetchval(
            # least() passes over nulls: without the case, records without a readable cursor would move it to the bound.
            f"select greatest(case when max({column}) is not null then least(max({column}), {bound}) end, "
            f"{known}::{cursor.raw_type})::text from {self.session.target.landing}"
        )
        return latest


def _drift(changes: Sequence[Change], where: str) -> SchemaDrift:
    listed = "; ".join(f"{name} {change} ({now})" for name, change, _, now in changes)
    error = SchemaDrift(
        f"records have other fields than those known, and they are frozen: {listed}",
        where=where,
        next_move='look at the API\'s changes; to take them in, run once with on_drift="evolve"',
    )
    error.__dict__["changes"] = tuple(changes)
    return error


class _BeginAgain(Exception):
    """The API has forgotten our place, or (None) pages are to be read again; what was published by then is counted."""

    def __init__(self, counts: LoadCounts, lost: PlaceLost | None) -> None:
        super().__init__()
        self.counts = counts
        self.lost = lost
