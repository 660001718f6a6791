"""MySQL, MariaDB, SQLite and SQL Server: rows by way of Arrow, compared by counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

from flows.access import addresses
from flows.access.addresses import connect
from flows.declare import Replace
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.answers import Column, Ends, Planned, Waiting
from flows.kinds.databases import rows
from flows.kinds.databases.connection import Reader, open_reader
from flows.kinds.databases.keys import keys_differ
from flows.kinds.databases.plan import ForeignPlan, plan_foreign
from flows.kinds.databases.stage import carry_out
from flows.kinds.kind import Kind
from flows.kinds.tables import table_columns
from flows.landing.table import Target
from flows.observe.openlineage import Dataset, database_dataset
from flows.publish.counts import Totals, compare_counts
from flows.publish.identity import refuse_other_masks
from flows.publish.raw_rows import count_live
from flows.publish.refusal import refusal_by_counts
from flows.publish.replay import RowChecks
from flows.publish.run import Loaded, LoadRun
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection
from flows.values.plan import CursorState
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_ENGINES = {"mysql": "MySQL or MariaDB", "sqlite": "SQLite", "mssql": "SQL Server"}


class Databases(Kind[Database, Table]):
    """Databases that are not PostgreSQL."""

    cursor_decides = True
    heeds_limit = True
    at_budget = "refuses"

    def address(self, source: Database) -> DatabaseConnection:
        """The database's connection URL."""
        found = addresses.look_up(source.name, source.connection)
        return DatabaseConnection(source.connection, found.url, reread=partial(self.address, source))

    def open(
        self, source: Database, address: DatabaseConnection, where: str, application: str = "medallion"
    ) -> AbstractAsyncContextManager[Reader]:
        """A connection that is not yet in a snapshot."""
        return open_reader(source.engine, address, where, settings().connect_timeout_seconds)

    async def plan(self, warehouse: Connection[Record], origin: Reader, source: Database, table: Table) -> Planned:
        """By the table's columns, its cursor, and what raw has."""
        planned = await plan_foreign(warehouse, origin, source, table)
        return Planned(planned.plan, planned)

    async def waiting(self, warehouse: Connection[Record], origin: Reader, planned: Planned) -> Waiting:
        """Counted at the source; of keys that may be gone, all are read."""
        carry: ForeignPlan = planned.carry
        bounded = carry.bounded
        waiting = await rows.count(origin, carry.described, f"{bounded.condition} and {bounded.below}")
        if carry.limit is not None:
            return Waiting(min(waiting, carry.limit))
        table = carry.described.table
        differ = not waiting and table.deletes and await keys_differ(warehouse, origin, carry)
        refusal = None
        if not carry.first and (table.deletes or isinstance(table.load, Replace)):
            at_source = await rows.count(origin, carry.described, bounded.below)
            held = await count_live(warehouse, carry.target, bounded.window.below)
            refusal = refusal_by_counts(table, carry.target, at_source, held)
        return Waiting(waiting, differ, refusal)

    async def load(self, run: LoadRun[Database, Table], planned: Planned) -> Loaded:
        """Stage and publish in one part."""
        return await carry_out(run, planned.carry)

    async def compare(self, ends: Ends[Database, Table]) -> tuple[Reconciliation, Sequence[Key]]:
        """By counts, since other databases hash otherwise than PostgreSQL. A load whose counts do not agree reads the
        table again in full, so nothing is repaired here."""
        source, table = ends.source, ends.table
        async with (
            connect(ends.warehouse, side="warehouse") as warehouse,
            self.open(source, ends.address, ends.where) as reader,
        ):
            planned = await plan_foreign(warehouse, reader, source, table)
            await reader.begin()
            measured = await rows.measure(reader, planned.described, planned.bounded)

            async def coming(_: int) -> int:
                return measured.rows if table.cursor else 0

            totals = Totals(
                measured.below,
                {key.name: key.raw_type for key in planned.described.keys},
                planned.bounded.window.below,
                coming,
                f"only counts: {source.engine} hashes otherwise than PostgreSQL",
                newest=table.on_duplicate == "newest",
            )
            target = Target(source.name, table.name, source.raw_schema)
            return await compare_counts(warehouse, target, totals), ()

    def row_checks(self, table: Table) -> RowChecks:
        """By the declared rules and masks, and the cursor's column."""
        return RowChecks(table.rules, table.cursor_column, masks=table.masked)

    def refuse_replay(self, table: Table, state: CursorState, raw: Collection[str], where: str) -> None:
        """Quarantine has values as they were masked then."""
        refuse_other_masks(state, raw, table, where)

    def columns(self, table: Table) -> Sequence[Column]:
        """Key and cursor; the other columns are the source's."""
        return table_columns(table)

    def describe(self, source: Database) -> str:
        """`SQLite database`."""
        return f"{_ENGINES[source.engine]} database"

    def dataset(self, source: Database, table: Table) -> Dataset:
        """By OpenLineage's naming: what MySQL calls a schema is a database, and a SQLite database is a file."""
        url = self.address(source).url
        if source.engine == "sqlite":
            path = unquote(url.removeprefix("sqlite:///").partition("?")[0])
            return Dataset(f"sqlite:///{path}", table.at_source)
        own = "" if table.schema == "public" else table.schema
        if source.engine == "mysql":
            named = database_dataset(url, "", table.at_source)
            return replace(named, name=f"{own}.{table.at_source}") if own else named
        return database_dataset(url, own or "dbo", table.at_source)

    def made_of(self, table: Table, column: str) -> str | None:
        """Columns arrive under their own names."""
        return None if column.startswith("_") else column
