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
from flows.values.connection import DatabaseConnection
from tests.kinds.tables_of_shop import TablesOfShop
from tests.publish.two_ends import Rows


@dataclass
class CapturedEnds(TablesOfShop):
    """Its `tables` are declared with `capture=Triggers()`."""

    triggers: Triggers = field(default_factory=Triggers)

    @property
    def declared(self) -> Database:
        return Database("shop", connection="shop", tables=self.tables, capture=self.triggers)

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

    def waiting(self) -> Rows:
        """The change table: operations and ids."""
        return self.admin("select capture_op, id from medallion_captured.shop__items order by capture_id")

    def live(self, columns: str = "*") -> Rows:
        return self.raw(f"select {columns} from raw_shop.items where _deleted_at is null order by 1")
