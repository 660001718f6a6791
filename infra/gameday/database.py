"""The two PostgreSQL servers of the world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from infra.local import ports, roles
from infra.local.account import account_for
from infra.local.postgres import Cluster
from infra.local.programs import run


@dataclass
class Database:
    """A cluster with the platform's roles, and the administrator's way to one of its databases."""

    cluster: Cluster
    database: str
    passwords: Mapping[str, str] = field(repr=False)
    port: int = 0

    def start(self) -> None:
        """Start the server on its port, or a free one the first time."""
        password = self.passwords[roles.ADMIN]
        self.port = self.cluster.start(admin_password=password, port=self.port or ports.any_free()).port

    def crash(self) -> None:
        """Stop it at once, as a machine that loses its power."""
        stopping = ("-m", "immediate", "-D", str(self.cluster.data), "-w", "-s", "-t", "60")
        run(account_for(self.cluster.folder), "pg_ctl", "stop", *stopping, cwd=self.cluster.folder)

    def url(self, role: str = roles.ADMIN, database: str = "", port: int = 0) -> str:
        """The connection URL of a role."""
        return self.cluster.url(role, self.passwords[role], port or self.port, database or self.database)

    @contextmanager
    def session(self, role: str = roles.ADMIN) -> Iterator[psycopg.Connection]:
        """A session in autocommit mode."""
        with psycopg.connect(self.url(role), autocommit=True, connect_timeout=30) as connection:
            yield connection

    def rows(self, query: str, *values: object) -> list[Any]:
        """The rows of a query, in a session of its own."""
        with self.session() as connection:
            return connection.execute(query, values).fetchall()
