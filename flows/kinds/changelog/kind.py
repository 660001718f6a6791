"""PostgreSQL by its log: a snapshot whose end is the log's beginning, and then changes.

The position is stored in the transaction that publishes the rows. The slot advances only afterwards, to the lowest
position of the source's tables, so that a table that fails holds back none of the others, and loses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import asyncpg

from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import CONNECTION_LOST
from flows.kinds.answers import CaptureStatus, Column, Ends, Planned, Step, Waiting, Words
from flows.kinds.changelog import setup
from flows.kinds.changelog.follow.follower import follow_log
from flows.kinds.changelog.load import load_captured
from flows.kinds.changelog.pending import pending_keys
from flows.kinds.changelog.plan import CapturePlan, as_copied, plan_captured
from flows.kinds.changelog.slot import advance
from flows.kinds.changelog.status import capture_status
from flows.kinds.postgres.compare.compare import compare_table
from flows.kinds.postgres.kind import Postgres
from flows.kinds.postgres.reading import settled
from flows.kinds.tables import table_columns
from flows.publish.following import Following
from flows.publish.run import Loaded, LoadRun
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key

if TYPE_CHECKING:
    from asyncpg import Connection, Record


class Changelog(Postgres):
    """Databases on PostgreSQL whose changes are captured."""

    resumes = False  # the chunks of an interrupted snapshot belong to another position
    cursor_decides = False
    at_budget: Literal["stops", "refuses", "checks"] = "refuses"
    heeds_limit = False
    captures = True
    has_facts = False  # advice about cursors and windows: changes of the log need none

    async def plan(
        self, warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
    ) -> Planned:
        """By the stored position, the slot, and what raw has."""
        async with settled(origin, source, as_copied(table)):
            planned = await plan_captured(warehouse, origin, source, table)
        return Planned(planned.plan, planned)

    async def waiting(self, warehouse: Connection[Record], origin: Connection[Record], planned: Planned) -> Waiting:
        """Rows of a copy are counted. How many changes there are, only reading them says."""
        carry: CapturePlan = planned.carry
        if carry.how != "copy":
            return Waiting()
        return await super().waiting(warehouse, origin, Planned(carry.batch.plan, carry.batch))

    async def load(self, run: LoadRun[Database, Table], planned: Planned) -> Loaded:
        """As planned; by comparing if the slot turns out to be lost."""
        return await load_captured(run, planned.carry)

    async def acknowledge(self, run: LoadRun[Database, Table], planned: Planned, loaded: Loaded) -> None:
        """The slot advances to what is committed for every table."""
        # What is committed stays; the next load advances the slot.
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, *CONNECTION_LOST):
            await advance(run.warehouse, run.origin, run.source)

    def refuse_follow(self, source: Database) -> None:
        """Its log can be followed."""

    async def follow(self, following: Following[Database]) -> None:
        """The log, read again and again."""
        await follow_log(following)

    async def compare(self, ends: Ends[Database, Table]) -> tuple[Reconciliation, Sequence[Key]]:
        """By content. Keys that have changed since raw's position are pending."""
        async with pending_keys(ends) as pending:
            return await compare_table(ends.warehouse, ends.address, ends.source, as_copied(ends.table), pending)

    async def repair(
        self, ends: Ends[Database, Table], keys: Sequence[Key], source_rows: int, run_id: int | None
    ) -> None:
        """As the source has them now; changes of the log that are older come again, and end there."""
        await super().repair(replace(ends, table=as_copied(ends.table)), keys, source_rows, run_id)

    def refuse_capture(self, source: Database) -> None:
        """It has one."""

    async def missing_capture(self, source: Database, origin: Connection[Record]) -> Sequence[Step]:
        """Publication, slot and rights."""
        return await setup.missing_steps(origin, source)

    async def set_up_capture(self, source: Database, origin: Connection[Record]) -> Sequence[Step]:
        """The slot comes last: without a publication it brings nothing."""
        return await setup.set_up(origin, source)

    async def drop_capture(self, source: Database, origin: Connection[Record]) -> Sequence[Step]:
        """Slot and publication."""
        return await setup.tear_down(origin, source)

    async def capture_status(
        self, warehouse: Connection[Record], source: Database, origin: Connection[Record]
    ) -> CaptureStatus:
        """Slot, publication, and positions."""
        return await capture_status(warehouse, origin, source)

    def refuse_backfill(self, source: Database, table: Table, column: str | None) -> str:
        """The log has no partitions."""
        return super(Postgres, self).refuse_backfill(source, table, column)

    def columns(self, table: Table) -> Sequence[Column]:
        """The key, and the cursor's column, which stays what it says of events."""
        return table_columns(table)

    def words(self, table: Table) -> Words:
        """Deletes are in the log."""
        return Words(load="changes of the log", deletes="marked as deleted")

    def describe(self, source: Database) -> str:
        """As the page of all tables says it."""
        return "PostgreSQL database, by its log"

    def made_of(self, table: Table, column: str) -> str | None:
        """Columns arrive under their own names."""
        return None if column.startswith("_") else column
