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
from flows.publish.following import Progress
from flows.values.connection import DatabaseConnection
from tests.conftest import TestDatabase, connect_admin
from tests.kinds.tables_of_shop import TablesOfShop
from tests.private_cluster import PrivateCluster, private_cluster
from tests.publish.two_ends import Rows

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
class LogEnds(TablesOfShop):
    """Its `tables` are declared with `capture=Log()`."""

    log: Log = field(default_factory=Log)
    told: list[str] = field(default_factory=list)
    stretches: list[int] = field(default_factory=list)
    noted: Progress | None = None

    @property
    def declared(self) -> Database:
        return Database("shop", connection="shop", tables=self.tables, capture=self.log)

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
