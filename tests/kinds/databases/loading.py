"""Loads from databases that are not PostgreSQL, and a MariaDB of the tests' own."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.declare.database import Engine
from flows.kinds.postgres import Database, Table
from flows.publish.session import LoadResult
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table
from infra.local.ports import any_free
from tests.conftest import TestDatabase
from tests.kinds.loading import at, rows
from tests.sessions import take_over_sessions

SERVER, INSTALL = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
DRIVER = Path("/etc/odbcinst.ini")
MISSING = (
    ""
    if SERVER and INSTALL and DRIVER.exists() and "MariaDB" in DRIVER.read_text()
    else "MariaDB and its ODBC driver are not installed (Debian: mariadb-server odbc-mariadb)"
)
START_SECONDS = 30


@dataclass(frozen=True)
class MariaDb:
    """A running server. Statements go through its own client, so that nothing of ours reads them."""

    port: int
    socket: Path

    @property
    def url(self) -> str:
        return f"mysql://reader:r%7Dd;er@127.0.0.1:{self.port}/erp"

    def run(self, script: str, *options: str) -> str:
        """The script's answer, tab-separated."""
        return subprocess.run(
            [*self.client, *options], input=script, capture_output=True, text=True, check=True
        ).stdout  # fmt: skip

    @property
    def client(self) -> list[str]:
        """A client as root, in database erp."""
        options = ["--no-defaults", "--default-character-set=utf8mb4", "-N", "-uroot", f"-S{self.socket}", "-Derp"]
        return ["mariadb", *options]

    @contextmanager
    def open_session(self) -> Iterator["OpenSession"]:
        """A session that stays, with whatever it has not committed."""
        with subprocess.Popen(
            [*self.client, "--unbuffered"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield OpenSession(process)
            if process.stdin:
                process.stdin.close()


@dataclass(frozen=True)
class OpenSession:
    process: "subprocess.Popen[str]"

    def run(self, script: str) -> None:
        """Returns when the server has done it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{script};\nselect 'done';\n")
        self.process.stdin.flush()
        while self.process.stdout.readline().strip() != "done":
            pass


@contextmanager
def running_mariadb() -> Iterator[MariaDb]:
    """A server in a folder of its own, away from UTC so that a clock taken for another shows."""
    root = Path(tempfile.mkdtemp(prefix="mdm-"))
    root.chmod(0o711)
    data, socket, port = root / "data", root / "s", any_free()
    user = ["--user=mysql"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(root, "mysql")
    assert SERVER is not None
    assert INSTALL is not None
    common = ["--no-defaults", *user, f"--datadir={data}"]
    install = [INSTALL, *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(install, check=True, capture_output=True)
    options = [
        f"--socket={socket}", f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={root / 'pid'}",
        "--sql-mode=", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0",
        "--max-allowed-packet=64M", "--performance-schema=OFF", "--skip-log-bin",
    ]  # fmt: skip
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            [SERVER, *common, *options], stdout=log, stderr=log, env={**os.environ, "TZ": "America/New_York"}
        )
    try:
        database = MariaDb(port, socket)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                database.run("select 1", "-Dmysql")
                break
            except subprocess.CalledProcessError:
                if time.monotonic() > until or server.poll() is not None:
                    raise
                time.sleep(0.1)
        database.run(
            "create database erp character set utf8mb4; create user reader@'127.0.0.1' identified by 'r}d;er'; "
            "create user reader@localhost identified by 'r}d;er'; "
            "grant select on erp.* to reader@'127.0.0.1'; grant process on *.* to reader@'127.0.0.1'; "
            "grant select on erp.* to reader@localhost; grant process on *.* to reader@localhost;",
            "-Dmysql",
        )
        yield database
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(root, ignore_errors=True)


async def load(warehouse: TestDatabase, url: str, table: Table, engine: Engine, **options: Any) -> LoadResult:
    """One load of one table from a foreign source named `erp`."""
    source = Database("erp", connection="erp", engine=engine, tables=[table])
    take_over_sessions()
    return await load_table(at(warehouse, "loader"), DatabaseConnection("erp", url), source, table, **options)


def raw(warehouse: TestDatabase, table: str, columns: str = "*", order: str = "1") -> list[dict[str, Any]]:
    """Raw's rows."""
    return rows(warehouse, f"select {columns} from raw_erp.{table} order by {order}")
