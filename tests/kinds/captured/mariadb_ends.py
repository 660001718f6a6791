"""A MariaDB with triggers, and an empty warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.declare import Merge, Triggers
from flows.kinds.answers import Step
from flows.kinds.captured import Database, Table
from flows.kinds.captured.foreign_setup import set_up
from flows.kinds.databases.connection import open_reader
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.values.connection import DatabaseConnection
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.databases.loading import MariaDb
from tests.publish.two_ends import Rows, run_sql
from tests.sessions import take_over_sessions

CHANGES = "medallion__erp__items"


@dataclass
class Ends:
    """A MariaDB, whose tables triggers watch, and an empty warehouse."""

    server: MariaDb
    warehouse: TestDatabase
    table: Table = field(default_factory=lambda: Table("items", key="id", load=Merge()))
    triggers: Triggers = field(default_factory=Triggers)

    @property
    def declared(self) -> Database:
        return Database("erp", connection="erp", engine="mysql", tables=[self.table], capture=self.triggers)

    @property
    def warehouse_address(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.warehouse.url("loader"))

    @property
    def address(self) -> DatabaseConnection:
        return DatabaseConnection("erp", self.server.url)

    async def create(self, columns: str = "id bigint primary key, name varchar(40)") -> None:
        self.server.run(f"create table items ({columns}) engine = InnoDB")
        await self.set_up()

    async def set_up(self) -> Sequence[Step]:
        steps = await self.as_owner(set_up, "reader")
        assert [(step.error, step.sql) for step in steps if not step.done][:1] == []
        return steps

    async def as_owner(self, work: Any, *more: str) -> Sequence[Step]:
        address = DatabaseConnection("erp", f"mysql://owner:o@127.0.0.1:{self.server.port}/erp")
        async with open_reader("mysql", address, "erp", 10) as reader:
            done: Sequence[Step] = await work(reader, self.declared, *more)
            return done

    async def load(self) -> LoadResult:
        take_over_sessions()
        return await load_table(self.warehouse_address, self.address, self.declared, self.table)

    async def compare(self) -> Reconciliation:
        return await compare_table(self.warehouse_address, self.address, self.declared, self.table)

    def rows(self) -> list[tuple[str, ...]]:
        """The source's rows, as texts."""
        return [tuple(line.split("\t")) for line in self.server.run("select * from items order by 1").splitlines()]

    def live(self) -> Rows:
        return run_sql(
            self.warehouse.url("loader"),
            "select id::text, name from raw_erp.items where _deleted_at is null order by items.id",
        )

    def waiting(self) -> list[str]:
        found = self.server.run(f"select concat(capture_op, id) from {CHANGES} order by capture_id")
        return found.splitlines()

    def same(self) -> bool:
        return self.rows() == self.live()
