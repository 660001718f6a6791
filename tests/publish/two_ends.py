"""A source database and a warehouse, and loads between them: what most tests of loading stand on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.access.addresses import connect
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.plan import plan_table
from flows.publish.session import LoadResult
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.sessions import Session, in_session

Rows = list[tuple[Any, ...]]


def run_sql(url: str, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
    """Run a statement and commit it; the rows it answers, if any."""

    def ask(session: Session) -> Rows:
        cursor = session.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    return in_session(url, statement, ask)


@dataclass(frozen=True)
class TwoEnds:
    """`shop` is where rows come from, `warehouse` where they go."""

    warehouse: TestDatabase
    shop: TestDatabase

    def source(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Run a statement at the source as the application that owns the tables."""
        return run_sql(self.shop.url("app"), statement, parameters)

    def raw(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Run a statement in the warehouse as the loader."""
        return run_sql(self.warehouse.url("loader"), statement, parameters)

    @property
    def warehouse_address(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.warehouse.url("loader"))

    @property
    def shop_address(self) -> DatabaseConnection:
        return DatabaseConnection("shop", self.shop.url("extractor"))

    async def load(self, table: Table, source: str = "shop") -> LoadResult:
        """One load of the table, as the platform does it."""
        declared = Database(source, connection="shop", tables=[table])
        return await load_table(self.warehouse_address, self.shop_address, declared, table)

    async def reason(self, table: Table) -> str:
        """What the plan says that the next load of the table will do, and why."""
        declared = Database("shop", connection="shop", tables=[table])
        async with (
            connect(self.warehouse_address, side="warehouse") as warehouse,
            connect(self.shop_address, side="source") as origin,
        ):
            return (await plan_table(warehouse, origin, declared, table)).plan.reason

    async def cautions(self, table: Table) -> tuple[str, ...]:
        """What the plan says that a person should know before the table is relied upon."""
        declared = Database("shop", connection="shop", tables=[table])
        async with (
            connect(self.warehouse_address, side="warehouse") as warehouse,
            connect(self.shop_address, side="source") as origin,
        ):
            return (await plan_table(warehouse, origin, declared, table)).plan.cautions

    def same(self, table: str, columns: str = "*") -> bool:
        """Whether source and raw hold the same rows, told by their text."""
        query = "select {}::text from (select {} from {} where {}) as t order by 1"
        at_source = self.source(query.format("t", columns, f"public.{table}", "true"))
        in_raw = self.raw(query.format("t", columns, f"raw_shop.{table}", "_deleted_at is null"))
        return at_source == in_raw
