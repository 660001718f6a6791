"""The landing table of an API's list. It outlives a load: the next load resumes from what a dead one has landed.

Pages land in slices: the pages of a tenth of a second (at least one) and the place after them commit in one
transaction. The commit does not wait for the disk: a crash of the warehouse loses the slice as a unit.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from flows.kinds.api import Endpoint, list_state
from flows.kinds.api.list_state import Gathered, ListRead
from flows.kinds.api.shape import places_of, shape_of, tombstone_of
from flows.landing import records as payloads
from flows.landing.records import Records
from flows.landing.table import LANDING_SCHEMA, Stamp, Target, create_landing, relation_columns, stamp_landing
from flows.publish.session import LoadSession
from flows.publish.staged import WholeLists
from flows.quality.quarantine import Unreadable
from flows.values.identifiers import qualified


@dataclass(slots=True)
class ListLanding:
    """The landing table of one list."""

    session: LoadSession
    endpoint: Endpoint

    @property
    def _unreadable(self) -> str:
        return qualified(LANDING_SCHEMA, f"{self.session.target.landing_name}__u")

    @property
    def _whole_lists(self) -> str:
        return qualified(LANDING_SCHEMA, f"{self.session.target.landing_name}__f")

    @property
    def lists(self) -> WholeLists | None:
        """The parents whose lists have landed completely, if raw distinguishes their lists."""
        parent = self.endpoint.parent
        if parent is None or not self.endpoint.lists_are_told_apart:
            return None
        return WholeLists(self._whole_lists, parent.column)

    async def take_up(self, gathered: Gathered | None, *, first: bool) -> Gathered | None:
        """What an earlier load gathered, if it still exists: after a crash, an unlogged table exists but is empty.

        `first`: it will become the raw table, so it must not be unlogged (raw was dropped while it was filled).
        """
        if gathered is None or gathered.landing is None:
            return gathered
        warehouse, landing = self.session.warehouse, self.session.target.landing
        kind = await warehouse.fetchval(
            "select relpersistence::text from pg_class where oid = to_regclass($1) and oid::bigint = $2",
            landing,
            gathered.landing,
        )
        if kind is None or (first and kind == "u"):
            return None
        # A first load's landing table survives a crash; its auxiliary unlogged tables do not.
        counted = [(landing, gathered.rows), (self._unreadable, gathered.unreadable)]
        if self.lists is not None:
            counted.append((self.lists.relation, gathered.lists))
        for relation, rows in counted:
            if await self._count(relation) != rows:
                return None
        await self._ensure_lists()
        if "_batch_id" in await relation_columns(warehouse, landing):
            # Already stamped, since PostgreSQL had to parse the values of a page. The new batch id is added as a new
            # column: updated rows would move, and of a key's versions the physically last one counts as newest.
            await warehouse.execute(
                f"alter table {landing} drop column _batch_id, "
                f"add column _batch_id bigint not null default {self.session.batch_id}"
            )
            await self._stamp()
        return gathered

    async def begin(self, *, first: bool) -> int:
        """An empty landing table; returns its oid. `first`: it will become the raw table."""
        warehouse, target = self.session.warehouse, self.session.target
        await create_landing(warehouse, target, shape_of(self.endpoint), first=first, bare=True)
        await self.end()
        await self._ensure_lists()
        oid: int = await warehouse.fetchval("select $1::regclass::oid::bigint", target.landing)
        return oid

    async def _count(self, relation: str) -> int:
        """Its rows; zero if the table does not exist."""
        warehouse = self.session.warehouse
        if await warehouse.fetchval("select to_regclass($1) is null", relation):
            return 0
        rows: int = await warehouse.fetchval(f"select count(*) from {relation}")
        return rows

    async def _ensure_lists(self) -> None:
        if self.lists is not None:
            await self.session.warehouse.execute(
                f"create unlogged table if not exists {self.lists.relation} (parent text)"
            )

    async def land(self, pages: AsyncIterator[Records], target: Target | None = None) -> int:
        """Records of some pages → the landing table, or that of another `target`. Returns the records written."""
        return await payloads.land(
            self.session.warehouse,
            target or self.session.target,
            shape_of(self.endpoint),
            places_of(self.endpoint),
            pages,
            self._now(),
            tombstone_of(self.endpoint),
        )

    async def keep(self, records: Sequence[Unreadable]) -> None:
        """Store records that raw cannot hold next to the landing table, until they are quarantined."""
        if not records:
            return
        warehouse = self.session.warehouse
        await warehouse.execute(f"create unlogged table if not exists {self._unreadable} (record jsonb)")
        await warehouse.execute(
            f"insert into {self._unreadable} select unnest($1::text[])::jsonb",
            [json.dumps(asdict(record)) for record in records],
        )

    async def keep_lists(self, parents: Sequence[str]) -> None:
        """Store parents whose lists have been read to the end."""
        if self.lists is not None and parents:
            insert = f"insert into {self.lists.relation} select unnest($1::text[])"
            await self.session.warehouse.execute(insert, parents)

    async def note(self, known: ListRead) -> None:
        """Store the state after the slice, in its transaction."""
        target = self.session.target
        await list_state.save(self.session.warehouse, target.source, target.table, self.session.batch_id, known)

    async def stamped(self) -> list[Unreadable]:
        """Add raw's metadata columns to the landing table. Returns the records that could not land."""
        warehouse = self.session.warehouse
        await self._stamp()
        if await warehouse.fetchval("select to_regclass($1) is null", self._unreadable):
            return []
        kept = await warehouse.fetch(f"select record::text from {self._unreadable}")
        return [_unreadable(json.loads(row["record"])) for row in kept]

    async def _stamp(self) -> None:
        await stamp_landing(self.session.warehouse, self.session.target, self._now())

    def _now(self) -> Stamp:
        return Stamp(datetime.now(UTC).isoformat(), self.session.batch_id)

    async def end(self) -> None:
        """Clean up after everything was published, in the same transaction."""
        await self.session.warehouse.execute(f"drop table if exists {self._unreadable}, {self._whole_lists}")


def _unreadable(facts: dict[str, str | list[str | None] | None]) -> Unreadable:
    key = facts["key"]
    return Unreadable(str(facts["rule"]), str(facts["text"]), tuple(key) if isinstance(key, list) else key)


def published(gathered: Gathered) -> Gathered:
    """What remains once its rows are in raw: the facts about the list as a whole."""
    refused = tuple(key for key in gathered.refused if key not in gathered.redone)
    return replace(forgotten(gathered), refused=refused)


def forgotten(gathered: Gathered) -> Gathered:
    """What remains if its rows are lost."""
    nothing = Gathered()
    lost = ("landing", "rows", "pages", "received", "lists", "unreadable", "place", "learned", "redone")
    return replace(gathered, **{name: getattr(nothing, name) for name in lost})
