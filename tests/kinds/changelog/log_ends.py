"""A source whose log is read, in a cluster of its own: making a slot waits for every transaction of its server."""

from __future__ import annotations

import atexit
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from flows.access.addresses import connect
from flows.declare import Log, Merge
from flows.kinds.changelog import Database, Table
from flows.kinds.changelog.capture import Capture, look
from flows.kinds.changelog.setup import set_up
from flows.kinds.registry import kind_of
from flows.publish.following import Progress
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.values.connection import DatabaseConnection
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase, connect_admin
from tests.private_cluster import PrivateCluster, private_cluster
from tests.publish.two_ends import Rows, run_sql
from tests.sessions import take_over_sessions

SETTINGS = {
    "synchronous_commit": "on",
    "max_replication_slots": "40",
    "max_wal_senders": "20",
    "shared_buffers": "32MB",
    "max_slot_wal_keep_size": "48MB",
}
_running: list[PrivateCluster] = []


def log_cluster() -> PrivateCluster:
    """The cluster of this process, started with its first use; its tests share it."""
    if not _running:
        stack = ExitStack()
        private = stack.enter_context(private_cluster(SETTINGS))
        private.cluster.connection.execute("alter role medallion_extractor replication")
        _running.append(private)
        atexit.register(stack.close)
    return _running[0]


@contextmanager
def log_source() -> Iterator[TestDatabase]:
    """An empty shop in that cluster."""
    private = log_cluster()
    database = private.shop(f"shop_{secrets.token_hex(5)}")
    try:
        yield database
    finally:
        from tests.sessions import forget

        forget(database.name)
        drop_slots(database)
        private.cluster.connection.execute(f"drop database if exists {database.name} with (force)".encode())


def restart_source() -> None:
    """Restart the cluster; sessions and open transactions end."""
    private = log_cluster()
    private.restart("fast")
    session = connect_admin(private.cluster.port, private.cluster.passwords)
    private.cluster = replace(private.cluster, connection=session)


def drop_slots(database: TestDatabase) -> None:
    """Drop the slots of the database that nobody reads."""
    with psycopg.connect(database.url("admin"), autocommit=True) as admin:
        admin.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots "
            "where database = current_database() and not active"
        )


@dataclass
class LogEnds:
    """`shop` is where changes come from, `warehouse` where they go. `tables` are declared with `capture=Log()`."""

    warehouse: TestDatabase
    shop: TestDatabase
    tables: list[Table] = field(default_factory=list)
    log: Log = field(default_factory=Log)
    run_id: int | None = None
    told: list[str] = field(default_factory=list)
    stretches: list[int] = field(default_factory=list)
    noted: Progress | None = None

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
        return Database("shop", connection="shop", tables=self.tables, capture=self.log)

    @property
    def warehouse_address(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.warehouse.url("loader"))

    @property
    def address(self) -> DatabaseConnection:
        return DatabaseConnection("shop", self.shop.url("extractor"))

    def create(self, name: str, columns: str, key: str | tuple[str, ...] = "id", **declared: Any) -> Table:
        """A table at the source that our role may read, and its declaration."""
        self.source(f"create table {name} ({columns})")
        self.source(f"grant select on {name} to public")
        table = Table(name, key=key, load=Merge(), **declared)
        self.tables.append(table)
        return table

    def redeclare(self, name: str, **changed: Any) -> None:
        """Declare the table otherwise."""
        self.tables = [replace(table, **changed) if table.name == name else table for table in self.tables]

    async def set_up(self) -> None:
        """Slot and publication, as the owner of the tables and with the right to make slots."""
        address = DatabaseConnection("shop", self.shop.url("admin"))
        async with connect(address, side="source") as origin:
            steps = await set_up(origin, self.declared)
        assert [step.error for step in steps if step.error] == []

    async def look(self) -> Capture:
        """What the source says of slot and publication."""
        async with connect(self.address, side="source") as origin:
            return await look(origin, self.declared)

    async def load(self, name: str | None = None) -> LoadResult:
        """One load of a table, as a run does it."""
        take_over_sessions()
        table = self.declared.table(name or self.tables[0].name)
        return await load_table(self.warehouse_address, self.address, self.declared, table, run_id=self.run_id)

    async def compare(self, name: str | None = None, *, repair: bool = False) -> Reconciliation:
        """Both ends compared."""
        table = self.declared.table(name or self.tables[0].name)
        return await compare_table(self.warehouse_address, self.address, self.declared, table, repair=repair)

    async def reason(self, name: str | None = None) -> tuple[str, str]:
        """What the next load of the table would do, and why."""
        table, kind = self.declared.table(name or self.tables[0].name), kind_of(self.declared)
        async with (
            connect(self.warehouse_address, side="warehouse") as warehouse,
            kind.open(self.declared, self.address, "shop") as origin,
        ):
            plan = (await kind.plan(warehouse, origin, self.declared, table)).plan
        return plan.strategy, plan.reason

    def live(self, name: str | None = None, columns: str = "*") -> Rows:
        """Raw's rows that are there, by their text."""
        chosen = columns
        if columns == "*":
            chosen = ", ".join(str(row[0]) for row in self.columns(name))
        return self.raw(
            f"select {chosen} from raw_shop.{name or self.tables[0].name} where _deleted_at is null order by 1"
        )

    def there(self, name: str | None = None, columns: str = "*") -> Rows:
        """The source's rows."""
        return self.source(f"select {columns} from {name or self.tables[0].name} order by 1")

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
