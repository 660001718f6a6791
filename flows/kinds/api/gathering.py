"""The pages of an API's list, collected in the landing table until there are enough of them to publish."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from flows.declare import Replace
from flows.kinds.api import Api, Endpoint, Since, known_fields
from flows.kinds.api.fields import Change, RecordFields
from flows.kinds.api.landing import ListLanding, forgotten
from flows.kinds.api.list_state import Gathered, ListRead
from flows.kinds.api.pages.coming import Coming, NotYet
from flows.kinds.api.pages.kept import highest
from flows.kinds.api.pages.page import Page
from flows.kinds.api.shape import places_of, shape_of
from flows.landing.readable import Steps, readable, unknown_fields
from flows.landing.records import Records
from flows.landing.table import SchemaChange, compare, ensure_types, raw_columns
from flows.publish.run import LoadRun
from flows.quality.quarantine import Unreadable
from flows.state import ledger
from flows.values.errors import MedallionError, SchemaDrift
from flows.values.plan import LoadPlan
from flows.values.settings import settings

# Pages that arrive within this time are committed together: a commit per page would slow down the fastest APIs.
_SLICE_SECONDS = 0.1


class ListGathering:
    """Pages being landed, and the state of their list after the last commit.

    `stopped` is why the source failed; `resumed`: nothing has arrived yet after the place stored by an earlier load;
    `careful`: the numbers of each record are checked, which takes longer than everything else.
    """

    def __init__(self, run: LoadRun[Api, Endpoint], plan: LoadPlan, known: ListRead) -> None:
        self.run, self.session, self.plan, self.known = run, run.session, plan, known
        endpoint = self.endpoint = run.table
        self.landing = ListLanding(run.session, endpoint)
        self.fields = RecordFields({}, endpoint.on_drift, first=True)
        self.first = plan.strategy == "initial"
        self.since = known.since if known.is_under_way else plan.lower
        self.resumed = known.is_under_way
        self.careful = False
        self.stopped: MedallionError | None = None
        self._received = 0
        self._whole: list[str] = []  # parents whose lists ended in the current slice

    @property
    def gathered(self) -> Gathered:
        """What has landed and is not yet published."""
        return self.known.gathered or Gathered()

    async def take_up(self) -> None:
        """Start with what an earlier load gathered, if it still exists."""
        gathered = await self.landing.take_up(self.known.gathered, first=self.first)
        if gathered is None and self.known.gathered is not None:
            gathered = replace(forgotten(self.known.gathered), ended=False)
        names = (self.plan.source, self.plan.table)
        fields = await known_fields.read(self.session.warehouse, *names)
        if gathered is None:
            is_first = not fields or not await ledger.was_read_whole(self.session.warehouse, *names)
            gathered = Gathered(is_first=is_first)
        self.known = replace(self.known, gathered=gathered)
        self.resumed = (gathered.place or self.known.place) is not None
        self.fields = RecordFields(fields, self.endpoint.on_drift, first=gathered.is_first)
        if gathered.learned is not None:
            self.fields.resume(gathered.learned)

    async def stage(self, coming: Coming) -> list[SchemaChange]:
        """Gather pages until there are enough of them to publish, the list ends, or the source fails."""
        session, warehouse, target = self.session, self.session.warehouse, self.session.target
        self.stopped = None
        raw = await raw_columns(warehouse, target)
        changes = compare(shape_of(self.endpoint), raw, target.where) if raw is not None else []
        await ensure_types(warehouse, target, shape_of(self.endpoint))
        if self.gathered.landing is None:
            landing = await self.landing.begin(first=self.first)
            self.known = replace(self.known, gathered=replace(self.gathered, landing=landing))
        session.pass_failpoint("after_landing_created")
        began = time.monotonic()
        while not self._is_full(began):
            await self._slice(coming, began)
        return changes

    def _is_full(self, began: float) -> bool:
        gathered, limits = self.gathered, settings()
        if gathered.ended or self.stopped is not None:
            return True
        if self.run.spending.is_exhausted():
            whole = isinstance(self.endpoint.load, Replace)
            self.stopped = self.run.spending.reached(
                f"from its place in the list{', which is published at its end' if whole else ''}"
            )
            return True
        if isinstance(self.endpoint.load, Replace) or not gathered.pages:
            return False
        return time.monotonic() - began >= limits.api_group_seconds or gathered.received >= limits.api_group_mb * 1e6

    async def _slice(self, coming: Coming, began: float) -> None:
        """Land the pages that arrive within a moment, at least one, and commit them with the place after them."""
        page = await self._next(coming)
        if page is None:
            return
        warehouse, behind, unreadable = self.session.warehouse, self.known, list[Unreadable]()
        self._whole.clear()
        try:
            async with warehouse.transaction():
                # A crash loses rows and place together, so the commit need not wait for the disk.
                await warehouse.execute("set local synchronous_commit = off")
                async with contextlib.aclosing(self._records(page, coming, began, unreadable)) as records:
                    landed = await self.landing.land(records)
                await self.landing.keep(unreadable)
                await self.landing.keep_lists(self._whole)
                now = self.gathered
                gathered = replace(
                    now,
                    rows=now.rows + landed,
                    lists=now.lists + len(self._whole),
                    unreadable=now.unreadable + len(unreadable),
                    learned=self.fields.facts(),
                )
                self.known = replace(self.known, gathered=gathered)
                await self.landing.note(self.known)
                if page.keep:
                    # A job's id: losing it would start another job.
                    await warehouse.execute("set local synchronous_commit = on")
        except BaseException:
            self.known = behind
            raise
        self.resumed = False
        self.session.pass_failpoint("after_slice_commit")

    async def _next(self, coming: Coming, within: float | None = None) -> Page | None:
        """The next page; None if the list has ended or the source failed.

        Raises:
            NotYet: it has not arrived within so many seconds.
        """
        with self.session.reading():
            try:
                page = await coming.next(within)
            except MedallionError as problem:
                self.stopped = problem
                page = None
            else:
                if page is None:
                    self.known = replace(self.known, gathered=replace(self.gathered, ended=True))
        return page

    async def _records(
        self, page: Page, coming: Coming, began: float, unreadable: list[Unreadable]
    ) -> AsyncGenerator[Records, None]:
        """The records of the page and of those soon after it, up to one after which the list can be resumed."""
        keys: list[Steps] = [
            place.steps or (() if place.at is None else place.at)
            for place in places_of(self.endpoint)
            if place.name in self.endpoint.keys
        ]
        until = time.monotonic() + _SLICE_SECONDS
        following: Page | None = page
        while following is not None:
            page = following
            self._note(page)
            records = readable(page.records, keys, unreadable, careful=self.careful, parent=page.parent)
            yield Records(self._as_known(records, keys, unreadable, page.parent), page.parent)
            if self.run.on_progress is not None:
                self.run.on_progress("received", self._received)
            # A list cannot be resumed in the middle of a parent's list.
            in_between = page.place is None and not page.is_last
            if not in_between and (page.keep or self._is_full(began) or time.monotonic() >= until):
                return
            try:
                following = await self._next(coming, None if in_between else max(0.0, until - time.monotonic()))
            except NotYet:
                return

    def acceptable(self, records: Sequence[bytes]) -> Sequence[bytes]:
        """Those of the records that can land.

        Raises:
            SchemaDrift: one does not satisfy the contract, and fields are frozen.
        """
        return self._as_known(readable(records, [], [], careful=True), [], [], None)

    def _as_known(
        self, records: Sequence[bytes], keys: Sequence[Steps], unreadable: list[Unreadable], parent: str | None
    ) -> Sequence[bytes]:
        """The records that satisfy the endpoint's contract about their fields.

        Raises:
            SchemaDrift: one does not, and fields are frozen.
        """
        odd = self.fields.look(records)
        if self.fields.refused and self.endpoint.on_drift == "freeze":
            raise _drift(self.fields.refused, self.session.target.where)
        if not odd:
            return records
        unreadable += [unknown_fields(records[place], keys, parent) for place in sorted(odd)]
        return [record for place, record in enumerate(records) if place not in odd]

    def _note(self, page: Page) -> None:
        self._received += page.received_bytes
        self.run.spend(len(page.records), page.received_bytes, requests=1)
        gathered, known = self.gathered, self.known
        # A missing parent (404, 410) does not mean that its children are deleted: it may come back. Nor does a list
        # that has not been shown to be whole.
        if self.landing.lists is not None and page.place is not None and page.is_proven and not page.gone:
            self._whole.append(page.parent_keys[0])
        etag = gathered.etag
        is_divided = page.parent is not None or self.endpoint.is_divided
        if page.number == 1 and not (is_divided and known.ceiling):
            etag = page.etag if self.endpoint.etag else None
            known = replace(known, ceiling=self._ceiling(page))
        elif page.number == 1 and isinstance(cursor := self.endpoint.cursor, Since) and cursor.is_time:
            known = replace(known, ceiling=_earlier(known.ceiling, self._ceiling(page)))
        gathered, cursor = _with_outcome(gathered, page), self.endpoint.cursor
        is_all = self.since is None or (isinstance(cursor, Since) and self.since == cursor.begin)
        total = page.total if is_all and not is_divided else None
        if page.skipped and self.endpoint.parent is None and page.parent is not None:
            gathered = replace(gathered, held=(*gathered.held, page.parent))
        gathered = replace(
            gathered,
            unproven=gathered.unproven + (page.is_last and not page.gone and not page.skipped and not page.is_proven),
            ignored=gathered.ignored + page.ignored,
            skipped=gathered.skipped + page.skipped,
            pages=gathered.pages + 1,
            received=gathered.received + page.received_bytes,
            place=page.place or gathered.place,
            # For children, only the end of the generator marks the end.
            ended=page.place is None and page.is_last,
            unchanged=page.unchanged,
            token=page.token or gathered.token,
            etag=etag,
            total=gathered.total if total is None else total,
            least_total=min((one for one in (total, gathered.least_total) if one is not None), default=None),
            most_total=max((one for one in (total, gathered.most_total) if one is not None), default=None),
            last=page.last if page.is_last else gathered.last,
        )
        self.known = replace(known, since=self.since, gathered=gathered)

    def _ceiling(self, page: Page) -> str | None:
        """What the cursor must not pass, by the first page of the list; None if nothing limits it.

        A record that changes on a page already read may have an earlier timestamp than one on a later page. By the
        API's own clock, everything before its first response has been seen; of numbers that begin with the highest one,
        everything up to that.
        """
        cursor = self.endpoint.cursor
        if not isinstance(cursor, Since) or cursor.is_time:
            # Of ordered lists too: behind a record stamped in the future, nothing that is written next would be read.
            return (page.moment or datetime.now(UTC)).isoformat()
        return highest(page.records, cursor) if cursor.ordered == "desc" else None

    def begin_again(self, since: str | None, reached: str | None) -> None:
        """Discard the list's place and what was gathered."""
        self.since, self.resumed = since, False
        gathered = Gathered(is_first=self.gathered.is_first, refused=self.gathered.refused)
        self.known = ListRead(self.known.declared, since=since, reached=reached, gathered=gathered)


def _earlier(one: str | None, other: str | None) -> str | None:
    """The earlier of two clocks. Lists are read in parallel: one behind the first may have been answered before it."""
    if one is None or other is None:
        return one
    return min(one, other, key=datetime.fromisoformat)


def _with_outcome(gathered: Gathered, page: Page) -> Gathered:
    """With a parent that refused its list, or one that did and has sent it now."""
    key = page.parent_keys
    if page.refused is not None:
        outcomes = {**gathered.outcomes, page.refused: gathered.outcomes.get(page.refused, 0) + 1}
        refused = gathered.refused if key in gathered.refused else (*gathered.refused, key)
        redone = tuple(other for other in gathered.redone if other != key)
        return replace(gathered, outcomes=outcomes, refused=refused, redone=redone, refuses=key)
    # With partitions, a parent has several lists, one after the other: all of them are requested again.
    if page.place is not None and page.ends_parent and key in gathered.refused and key != gathered.refuses:
        return replace(gathered, redone=(*gathered.redone, key))
    return gathered


def _drift(changes: Sequence[Change], where: str) -> SchemaDrift:
    listed = "; ".join(f"{name} {change} ({now})" for name, change, _, now in changes)
    error = SchemaDrift(
        f"records have new or retyped fields, and the fields are frozen: {listed}",
        where=where,
        fix='check the API\'s changes; to accept them, run once with on_drift="evolve"',
    )
    error.__dict__["changes"] = tuple(changes)
    return error
