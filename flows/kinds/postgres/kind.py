"""PostgreSQL: rows pass as COPY's bytes, both ends are compared by content, and partitions can be read again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from flows.access import addresses
from flows.access.addresses import connect
from flows.declare.database import Database
from flows.declare.partition import Partition
from flows.declare.table import Table
from flows.kinds.answers import Column, Ends, Planned, SourceFacts, Waiting, Words
from flows.kinds.kind import Kind
from flows.kinds.postgres import backfill
from flows.kinds.postgres.compare.compare import compare_table
from flows.kinds.postgres.compare.repair import repair_keys
from flows.kinds.postgres.large.chunks import ChunkJob, stage_chunk
from flows.kinds.postgres.plan import TablePlan, plan_table
from flows.kinds.postgres.query_tables import tables_named
from flows.kinds.postgres.reading import settled
from flows.kinds.postgres.refused import would_be_refused
from flows.kinds.postgres.stage import carry_out
from flows.kinds.postgres.table import count, key_set
from flows.kinds.postgres.tuning import source_facts
from flows.kinds.tables import table_columns
from flows.observe.openlineage import Dataset, database_dataset
from flows.publish import write
from flows.publish.deletes import refuse_too_many
from flows.publish.identity import refuse_other_masks
from flows.publish.replay import RowChecks
from flows.publish.run import Loaded, LoadRun
from flows.publish.session import LoadResult
from flows.quality.open_rows import key_set_not_in_raw
from flows.state.reads import Chunk
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection
from flows.values.identifiers import quote_identifier
from flows.values.plan import CursorState

if TYPE_CHECKING:
    from asyncpg import Connection, Record


class Postgres(Kind[Database, Table]):
    """Databases on PostgreSQL."""

    resumes = True
    reads_in_chunks = True
    cursor_decides = True
    compares_by = "content"
    at_budget: Literal["stops", "refuses", "checks"] = "stops"
    heeds_limit = True
    has_facts = True

    def address(self, source: Database) -> DatabaseConnection:
        """The database's connection URL."""
        found = addresses.look_up(source.name, source.connection)
        return DatabaseConnection(source.connection, found.url, reread=partial(self.address, source))

    def open(
        self, source: Database, address: DatabaseConnection, where: str, application: str = "medallion"
    ) -> AbstractAsyncContextManager[Connection[Record]]:
        """A read-only session that is not yet in a snapshot."""
        return connect(address, side="source", application=application, keep=True)

    async def plan(
        self, warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
    ) -> Planned:
        """By the table's columns, its cursor, what raw has, and how large the table is."""
        async with settled(origin, source, table):
            planned = await plan_table(warehouse, origin, source, table)
        return Planned(planned.plan, planned)

    async def waiting(self, warehouse: Connection[Record], origin: Connection[Record], planned: Planned) -> Waiting:
        """Counted at the source; keys are compared by a fingerprint of each end."""
        carry: TablePlan = planned.carry
        async with settled(origin, carry.source, carry.table):
            waiting = await count(origin, carry.table, carry.window.condition, carry.limit)
            if carry.limit is not None:
                return Waiting(waiting)
            differ = not waiting and carry.table.deletes and await _keys_differ(warehouse, origin, carry)
            refusal = None
            if not carry.first:
                refusal = await would_be_refused(warehouse, origin, carry, waiting)
        return Waiting(waiting, differ, refusal)

    async def load(self, run: LoadRun[Database, Table], planned: Planned) -> Loaded:
        """At once, in chunks, or window by window."""
        return await carry_out(run, planned.carry)

    async def stage_chunk(self, ends: Ends[Database, Table], job: ChunkJob) -> Chunk:
        """One chunk of a large table, in one transaction."""
        return await stage_chunk(ends.warehouse, ends.address, ends.source, ends.table, job)

    async def compare(self, ends: Ends[Database, Table]) -> tuple[Reconciliation, Sequence[Key]]:
        """By content, in one snapshot of each end."""
        return await compare_table(ends.warehouse, ends.address, ends.source, ends.table)

    def refuse_repair(self, table: Table, result: Reconciliation) -> None:
        """Counted over the full comparison: a repair deletes in loads of some thousand keys, each a small share."""
        where = f"{result.source}.{result.table}"
        refuse_too_many(result.extra, result.raw_rows or 0, table.deleted_at_once, where)

    async def repair(
        self, ends: Ends[Database, Table], keys: Sequence[Key], source_rows: int, run_id: int | None
    ) -> None:
        """Under the table's lock, in one load."""
        await repair_keys(
            ends.warehouse, ends.address, ends.source, ends.table, keys, source_rows=source_rows, run_id=run_id
        )

    def row_checks(self, table: Table) -> RowChecks:
        """By the declared rules and masks, and the cursor's column."""
        return RowChecks(table.rules, table.cursor_column, masks=table.masked)

    def refuse_replay(self, table: Table, state: CursorState, raw: Collection[str], where: str) -> None:
        """Quarantine has values as they were masked then."""
        refuse_other_masks(state, raw, table, where)

    def refuse_backfill(self, source: Database, table: Table, column: str | None) -> str:
        """The column that divides the table: named by `column`, or by how it is loaded."""
        return backfill.refuse_unfit(source, table, column)

    async def count_partitions(
        self, ends: Ends[Database, Table], column: str, wanted: list[Partition]
    ) -> tuple[list[tuple[Partition, int, int]], bool]:
        """Rows of each partition at both ends."""
        return await backfill.rows_within(ends.warehouse, ends.address, ends.source, ends.table, column, wanted)

    async def backfill(
        self,
        ends: Ends[Database, Table],
        column: str,
        partition: Partition,
        backfill_id: int,
        run_id: int | None,
        on_progress: Any,
    ) -> LoadResult:
        """One partition, in one load."""
        return await backfill.backfill_partition(
            ends, column, partition, backfill_id, run_id=run_id, on_progress=on_progress
        )

    async def holds(self, ends: Ends[Database, Table], column: str, value: str) -> bool:
        """One query by the column's text."""
        async with connect(ends.address, side="source") as origin, settled(origin, ends.source, ends.table):
            return bool(
                await origin.fetchval(
                    f"select exists (select from {ends.table.relation} "
                    f'where {quote_identifier(column)}::text collate "C" = $1)',
                    value,
                )
            )

    async def source_facts(self, origin: Connection[Record], table: Table, reached: str | None) -> SourceFacts | None:
        """From the catalogue, statistics and the planner."""
        return await source_facts(origin, table, reached)

    def columns(self, table: Table) -> Sequence[Column]:
        """Key, cursor, and the column that divides it; the other columns are the source's."""
        return table_columns(table)

    def words(self, table: Table) -> Words:
        """A query is no table of the source."""
        return Words(name=f"{table.name} (a query)" if table.query else None)

    def describe(self, source: Database) -> str:
        """As the page of all tables says it."""
        return "PostgreSQL database"

    def dataset(self, source: Database, table: Table) -> Dataset:
        """`postgres://host:port`, `database.schema.table`."""
        return database_dataset(self.address(source).url, table.schema, table.at_source)

    def reads(self, source: Database, table: Table) -> Sequence[Dataset]:
        """The table; of a query, the tables that it names."""
        if not table.query:
            return [self.dataset(source, table)]
        url = self.address(source).url
        return [database_dataset(url, schema, name) for schema, name in tables_named(table)]

    def made_of(self, table: Table, column: str) -> str | None:
        """Columns arrive under their own names; those of a query are made of whatever it says."""
        return None if table.query or column.startswith("_") else column


async def _keys_differ(warehouse: Connection[Record], origin: Connection[Record], planned: TablePlan) -> bool:
    """Whether a load would look for deletes: it compares the same sets of keys."""
    plan, table = planned.plan, planned.table
    assert plan.shape is not None  # plan_table always describes
    if planned.first:
        return False
    target = planned.target
    kinds = {key: column.raw_type for key in table.keys if (column := plan.shape.column(key))}
    held = await write.key_set(warehouse, target, table.keys)
    newest = table.on_duplicate == "newest"
    aside = await key_set_not_in_raw(warehouse, target.raw, kinds, table=target.name, newest=newest)
    return await key_set(origin, table, plan.shape) != held.plus(aside)
