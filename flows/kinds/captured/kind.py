"""Changes captured by triggers: first a full read, and then the rows whose keys were recorded since."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.answers import Column, Ends, Planned, Step, TriggerStatus, Waiting, Words
from flows.kinds.captured import foreign, foreign_setup, load, setup
from flows.kinds.captured.foreign import ForeignCaptured
from flows.kinds.captured.foreign_compare import compare_foreign
from flows.kinds.captured.pending import pending_keys
from flows.kinds.captured.plan import CapturedPlan, as_copied, plan_captured
from flows.kinds.captured.status import capture_status
from flows.kinds.databases.kind import Databases
from flows.kinds.postgres.compare.compare import compare_table
from flows.kinds.postgres.kind import Postgres
from flows.kinds.postgres.reading import settled
from flows.kinds.tables import table_columns
from flows.observe.openlineage import Dataset
from flows.publish.run import Loaded, LoadRun
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection

if TYPE_CHECKING:
    from asyncpg import Connection, Record


class Captured(Postgres):
    """Databases whose changes are recorded by triggers."""

    resumes = False  # the chunks of an interrupted snapshot belong to another one
    cursor_decides = False
    at_budget: Literal["stops", "refuses", "checks"] = "refuses"
    heeds_limit = False
    captures = True
    asks_before_capture = True
    has_facts = False  # advice about cursors and windows: captured keys need none

    def open(
        self, source: Database, address: DatabaseConnection, where: str, application: str = "medallion"
    ) -> AbstractAsyncContextManager[Any]:
        """A session of PostgreSQL, or a connection of another database."""
        if _is_foreign(source):
            return _DATABASES.open(source, address, where, application)
        return super().open(source, address, where, application)

    async def plan(self, warehouse: Connection[Record], origin: Any, source: Database, table: Table) -> Planned:
        """By the triggers, what was stored of them, and what raw has."""
        if _is_foreign(source):
            found = await foreign.plan_foreign_captured(warehouse, origin, source, table)
            return Planned(found.batch.plan, found)
        async with settled(origin, source, as_copied(table)):
            planned = await plan_captured(warehouse, origin, source, table)
        return Planned(planned.batch.plan, planned)

    async def waiting(self, warehouse: Connection[Record], origin: Any, planned: Planned) -> Waiting:
        """Rows whose keys were recorded; and whether keys differ."""
        carry: CapturedPlan | ForeignCaptured = planned.carry
        if isinstance(carry, ForeignCaptured):
            table = as_copied(carry.batch.described.table)  # deletes are no rows to read
            batch = replace(carry.batch, described=replace(carry.batch.described, table=table))
            return await _DATABASES.waiting(warehouse, origin, Planned(batch.plan, batch))
        return await super().waiting(warehouse, origin, Planned(carry.batch.plan, carry.batch))

    async def load(self, run: LoadRun[Database, Table], planned: Planned) -> Loaded:
        """In one snapshot with the change table."""
        if isinstance(planned.carry, ForeignCaptured):
            return await foreign.load_foreign_captured(run, planned.carry)
        return await load.load_captured(run, planned.carry)

    async def acknowledge(self, run: LoadRun[Database, Table], planned: Planned, loaded: Loaded) -> None:
        """What was read is deleted from the change table."""
        if isinstance(planned.carry, ForeignCaptured):
            return await foreign.acknowledge_foreign(run, planned.carry)
        await load.acknowledge(run, planned.carry)

    async def compare(self, ends: Ends[Database, Table]) -> tuple[Reconciliation, Sequence[Key]]:
        """By content, for PostgreSQL: keys that were recorded are pending. By counts for others."""
        if _is_foreign(ends.source):
            return await compare_foreign(replace(ends, table=as_copied(ends.table))), ()
        async with pending_keys(ends) as pending:
            return await compare_table(ends.warehouse, ends.address, ends.source, as_copied(ends.table), pending)

    async def repair(
        self, ends: Ends[Database, Table], keys: Sequence[Key], source_rows: int, run_id: int | None
    ) -> None:
        """As the source has them now."""
        await super().repair(replace(ends, table=as_copied(ends.table)), keys, source_rows, run_id)

    def refuse_capture(self, source: Database) -> None:
        """It has one."""

    async def missing_capture(self, source: Database, origin: Any) -> Sequence[Step]:
        """Change tables, triggers and rights."""
        if _is_foreign(source):
            return await foreign_setup.missing_steps(origin, source, self.address(source).user)
        return await setup.missing_steps(origin, source, self.address(source).user)

    async def set_up_capture(self, source: Database, origin: Any) -> Sequence[Step]:
        """The change table first: a trigger without it would refuse the application's writes."""
        if _is_foreign(source):
            return await foreign_setup.set_up(origin, source, self.address(source).user)
        return await setup.set_up(origin, source, self.address(source).user)

    async def drop_capture(self, source: Database, origin: Any) -> Sequence[Step]:
        """Triggers and change tables."""
        if _is_foreign(source):
            return await foreign_setup.tear_down(origin, source)
        return await setup.tear_down(origin, source)

    async def capture_status(self, warehouse: Connection[Record], source: Database, origin: Any) -> TriggerStatus:
        """Triggers, and what waits in the change tables."""
        if _is_foreign(source):
            return await foreign_setup.capture_status(origin, source)
        return await capture_status(origin, source)

    def refuse_backfill(self, source: Database, table: Table, column: str | None) -> str:
        """Every row is read by its key."""
        return super(Postgres, self).refuse_backfill(source, table, column)

    def columns(self, table: Table) -> Sequence[Column]:
        """The key, and the cursor's column, which stays what it says of events."""
        return table_columns(table)

    def words(self, table: Table) -> Words:
        """Deletes are recorded."""
        return Words(load="rows captured by triggers", deletes="marked as deleted")

    def describe(self, source: Database) -> str:
        """As the page of all tables says it."""
        name = _DATABASES.describe(source) if _is_foreign(source) else super().describe(source)
        return f"{name}, by triggers"

    def dataset(self, source: Database, table: Table) -> Dataset:
        """By the engine's naming."""
        return _DATABASES.dataset(source, table) if _is_foreign(source) else super().dataset(source, table)

    def reads(self, source: Database, table: Table) -> Sequence[Dataset]:
        """The table."""
        return [self.dataset(source, table)]

    async def holds(self, ends: Ends[Database, Table], column: str, value: str) -> bool:
        """One query, for PostgreSQL."""
        if _is_foreign(ends.source):
            return await _DATABASES.holds(ends, column, value)
        return await super().holds(ends, column, value)


_DATABASES = Databases()


def _is_foreign(source: Database) -> bool:
    return source.engine != "postgresql"
