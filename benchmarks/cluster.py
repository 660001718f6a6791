"""A private PostgreSQL for measuring: a source and a warehouse, filled and emptied at will."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from flows.state.ledger import schema_sql
from infra.local.postgres import Cluster
from infra.local.postgres_settings import DEV_SETTINGS
from infra.local.programs import programs_folder
from infra.local.roles import ADMIN


@dataclass(frozen=True, slots=True)
class Bench:
    """Addresses of the two databases, and the folder of PostgreSQL's own programs."""

    source: str
    warehouse: str
    programs: Path

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

    def postmaster(self) -> int:
        """The process of the cluster; its sessions are below it."""
        with psycopg.connect(self.warehouse) as connection:
            row = connection.execute("select current_setting('data_directory')").fetchone()
        assert row is not None
        return int((Path(row[0]) / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def private_cluster() -> Iterator[Bench]:
    """Start it in a folder of its own; stop it and remove the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mdl-bench-"))
    folder.chmod(0o711)
    cluster = Cluster(folder / "postgres", {**DEV_SETTINGS, "max_wal_size": "8GB"})
    password = secrets.token_urlsafe(12)
    try:
        port = cluster.start(admin_password=password).port
        with psycopg.connect(cluster.url(ADMIN, password, port, "postgres"), autocommit=True) as connection:
            connection.execute("create database source")
            connection.execute("create database warehouse")
        bench = Bench(
            cluster.url(ADMIN, password, port, "source"),
            cluster.url(ADMIN, password, port, "warehouse"),
            programs_folder(),
        )
        bench.execute("warehouse", schema_sql())
        yield bench
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
