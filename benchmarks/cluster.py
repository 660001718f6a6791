"""Two private PostgreSQL servers for measuring: a source and a warehouse, filled and emptied at will.

Two, so that the CPU seconds of each end are known.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.cpu import cpu_of_tree
from flows.state.ledger import schema_sql
from infra.local.postgres import Cluster
from infra.local.postgres_settings import DEV_SETTINGS
from infra.local.programs import programs_folder
from infra.local.roles import ADMIN


@dataclass(frozen=True, slots=True)
class Bench:
    """Addresses of the two databases, the folder of PostgreSQL's own programs, and the postmasters' processes."""

    source: str
    warehouse: str
    programs: Path
    source_pid: int
    warehouse_pid: int

    def execute(self, database: str, statement: str) -> None:
        """Run SQL in `source` or `warehouse`."""
        url = self.source if database == "source" else self.warehouse
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    def count(self, database: str, query: str) -> int:
        """The single number a query answers."""
        url = self.source if database == "source" else self.warehouse
        with psycopg.connect(url) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def cpu(self) -> tuple[float, float]:
        """Seconds of a core that the source's server and the warehouse's have used so far."""
        # While a session ends, what it used is neither its own any more nor the postmaster's yet.
        time.sleep(0.5)
        return cpu_of_tree(self.source_pid), cpu_of_tree(self.warehouse_pid)


@contextmanager
def private_cluster() -> Iterator[Bench]:
    """Start a server for each in a folder of its own; stop them and remove the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mdl-bench-"))
    folder.chmod(0o711)
    try:
        with _server(folder, "source") as (source, source_pid), _server(folder, "warehouse") as (warehouse, pid):
            bench = Bench(source, warehouse, programs_folder(), source_pid, pid)
            bench.execute("warehouse", schema_sql())
            yield bench
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(folder: Path, database: str) -> Iterator[tuple[str, int]]:
    """A cluster with one database: its URL, and the postmaster's process."""
    cluster = Cluster(folder / database, {**DEV_SETTINGS, "max_wal_size": "8GB"})
    password = secrets.token_urlsafe(12)
    try:
        postmaster = cluster.start(admin_password=password)
        port = postmaster.port
        with psycopg.connect(cluster.url(ADMIN, password, port, "postgres"), autocommit=True) as connection:
            connection.execute(f"create database {database}".encode())
        yield cluster.url(ADMIN, password, port, database), postmaster.pid
    finally:
        cluster.stop()
