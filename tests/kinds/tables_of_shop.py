"""A shop whose tables are read by a kind that captures changes, and the warehouse that they reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flows.access.addresses import connect
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.registry import kind_of
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.values.connection import DatabaseConnection
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.publish.two_ends import Rows, run_sql
from tests.sessions import take_over_sessions


@dataclass
class TablesOfShop:
    """`shop` is where changes come from, `warehouse` where they go. Without a name, the first table is meant."""

    warehouse: TestDatabase
    shop: TestDatabase
    tables: list[Table] = field(default_factory=list)
    run_id: int | None = field(default=None, kw_only=True)

    @property
    def declared(self) -> Database:
        raise NotImplementedError

    def source(self, statement: str, parameters: Any = None) -> Rows:
        """Run a statement at the source as the application that owns the tables."""
        return run_sql(self.shop.url("app"), statement, parameters)

    def admin(self, statement: str) -> Rows:
        """Run a statement at the source as its administrator."""
        return run_sql(self.shop.url("admin"), statement)

    def raw(self, statement: str, parameters: Any = None) -> Rows:
        """Run a statement in the warehouse as the loader."""
        return run_sql(self.warehouse.url("loader"), statement, parameters)

    @property
    def warehouse_address(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.warehouse.url("loader"))

    @property
    def address(self) -> DatabaseConnection:
        return DatabaseConnection("shop", self.shop.url("extractor"))

    def table(self, name: str | None = None) -> Table:
        return self.declared.table(name or self.tables[0].name)

    async def load(self, name: str | None = None) -> LoadResult:
        """One load of a table, as a run does it."""
        take_over_sessions()
        return await load_table(
            self.warehouse_address, self.address, self.declared, self.table(name), run_id=self.run_id
        )

    async def compare(self, name: str | None = None, *, repair: bool = False) -> Reconciliation:
        """Both ends compared."""
        return await compare_table(self.warehouse_address, self.address, self.declared, self.table(name), repair=repair)

    async def reason(self, name: str | None = None) -> tuple[str, str]:
        """What the next load of the table would do, and why."""
        kind = kind_of(self.declared)
        async with (
            connect(self.warehouse_address, side="warehouse") as warehouse,
            kind.open(self.declared, self.address, "shop") as origin,
        ):
            plan = (await kind.plan(warehouse, origin, self.declared, self.table(name))).plan
        return plan.strategy, plan.reason

    def columns(self, name: str | None = None) -> Rows:
        return self.source(
            "select quote_ident(attname) from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 and not attisdropped "
            "order by attnum",
            [name or self.tables[0].name],
        )

    def same(self, name: str | None = None) -> bool:
        """Whether source and raw hold the same rows, by their text."""
        table = name or self.tables[0].name
        columns = ", ".join(str(row[0]) for row in self.columns(table))
        query = "select t::text from (select {} from {} where {}) as t order by 1"
        return self.source(query.format(columns, table, "true")) == self.raw(
            query.format(columns, f"raw_shop.{table}", "_deleted_at is null")
        )
