"""A PostgreSQL source with triggers, and an empty warehouse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from flows.access.addresses import connect
from flows.declare import Merge, Triggers
from flows.kinds.answers import Step
from flows.kinds.captured import Database, Table
from flows.kinds.captured.setup import set_up, tear_down
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
class CapturedEnds:
    """`shop` is where changes come from, `warehouse` where they go."""

    warehouse: TestDatabase
    shop: TestDatabase
    tables: list[Table] = field(default_factory=list)
    triggers: Triggers = field(default_factory=Triggers)

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
    def declared(self) -> Database:
        return Database("shop", connection="shop", tables=self.tables, capture=self.triggers)

    @property
    def warehouse_address(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.warehouse.url("loader"))

    @property
    def address(self) -> DatabaseConnection:
        return DatabaseConnection("shop", self.shop.url("extractor"))

    @property
    def reader(self) -> str:
        return str(urlsplit(self.address.url).username)

    async def create(self, columns: str, key: str | tuple[str, ...] = "id", more: str = "", **declared: Any) -> Table:
        """A table at the source that our role may read, its declaration, and its triggers."""
        self.source(f"create table items ({columns}) {more}")
        self.source("grant select on items to public")
        self.tables = [Table("items", key=key, load=Merge(), **declared)]
        await self.set_up()
        return self.tables[0]

    def redeclare(self, **changed: Any) -> None:
        """Declare the table otherwise."""
        self.tables = [replace(self.tables[0], **changed)]

    async def set_up(self) -> list[Step]:
        async with connect(DatabaseConnection("shop", self.shop.url("admin")), side="source") as origin:
            steps = await set_up(origin, self.declared, self.reader)
        assert [step.error for step in steps if not step.done] == []
        return steps

    async def drop(self) -> list[Step]:
        async with connect(DatabaseConnection("shop", self.shop.url("admin")), side="source") as origin:
            return await tear_down(origin, self.declared)

    async def load(self) -> LoadResult:
        """One load of the table, as a run does it."""
        take_over_sessions()
        return await load_table(self.warehouse_address, self.address, self.declared, self.tables[0])

    async def compare(self, *, repair: bool = False) -> Reconciliation:
        """Both ends compared."""
        return await compare_table(self.warehouse_address, self.address, self.declared, self.tables[0], repair=repair)

    async def plan(self) -> tuple[str, str]:
        """What the next load of the table would do, and why."""
        kind = kind_of(self.declared)
        async with (
            connect(self.warehouse_address, side="warehouse") as warehouse,
            kind.open(self.declared, self.address, "shop") as origin,
        ):
            plan = (await kind.plan(warehouse, origin, self.declared, self.tables[0])).plan
        return plan.strategy, plan.reason

    def waiting(self) -> Rows:
        """The change table: operations and ids."""
        return self.admin("select capture_op, id from medallion_captured.shop__items order by capture_id")

    def live(self, columns: str = "*") -> Rows:
        return self.raw(f"select {columns} from raw_shop.items where _deleted_at is null order by 1")

    def same(self) -> bool:
        """Whether source and raw hold the same rows."""
        names = self.source(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute "
            "where attrelid = 'items'::regclass and attnum > 0 and not attisdropped"
        )[0][0]
        query = "select t::text from (select {} from {} where {}) as t order by 1"
        return self.source(query.format(names, "items", "true")) == self.raw(
            query.format(names, "raw_shop.items", "_deleted_at is null")
        )
