"""What every test may ask for: a PostgreSQL, databases of its own in it, and a Prefect server.

One cluster and one Prefect server serve all workers of a run. Whoever needs one first starts it, under a lock; the
process that controls the run stops both at its end, also after failures and Ctrl-C. Servers that a killed run left
behind are stopped by the next run.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.local import ports, process, roles
from infra.local.home import Home, read_json, write_private
from infra.local.postgres import DEV_SETTINGS, Cluster
from infra.local.prefect_server import PrefectServer, api_url

ROOT = Path(__file__).parents[1]
HOME_VARIABLE = "MEDALLION_TEST_HOME"
#: Short: paths of sockets and sandboxes below it are limited to some 100 bytes.
HOME_PREFIX = "mdl-"

TEST_SETTINGS: Mapping[str, str] = {
    **DEV_SETTINGS,
    "shared_buffers": "128MB",
    # The data dies with the run: nothing need ever reach the disk.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "8",  # a cursor must not pass one, and the server's default allows none
}


# -- the run


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers inherit the environment of the controlling process
        _remove_homes_of_killed_runs()
        home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX))
        home.chmod(0o711)  # PostgreSQL passes through as another account when root runs the tests
        (home / "owner").write_text(f"{os.getpid()}\n{process.born(os.getpid())}\n")
        (home / "run").mkdir()
        os.environ[HOME_VARIABLE] = str(home)
    home = Path(os.environ[HOME_VARIABLE])
    # No test may meet the stack, the profile or the credentials of the person who runs it.
    for name in [*os.environ]:
        if name.startswith(("MEDALLION_", "PREFECT_", "PG", "SENTRY_")) and name != HOME_VARIABLE:
            del os.environ[name]
    os.environ.update(
        MEDALLION_HOME=str(home / "stack"),
        PREFECT_HOME=str(home / "prefect-client"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        SODA_CORE_TELEMETRY_ENABLED="false",
        RUNTIME__DLTHUB_TELEMETRY="false",
        DO_NOT_TRACK="1",
    )


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _remove(Path(os.environ[HOME_VARIABLE]))


def _remove_homes_of_killed_runs() -> None:
    for home in Path(tempfile.gettempdir()).glob(f"{HOME_PREFIX}*"):
        try:
            pid, born = (home / "owner").read_text().splitlines()
        except (OSError, ValueError):
            continue
        if process.born(int(pid)) != born and home.stat().st_uid == os.geteuid():
            _remove(home)


def _remove(home: Path) -> None:
    _prefect(home).stop()
    Cluster(home / "postgres").stop()
    shutil.rmtree(home, ignore_errors=True)


# -- PostgreSQL


@dataclass(frozen=True)
class TestCluster:
    """The PostgreSQL of the run. Databases in it are shared: ask for `warehouse` or `shop` to get your own."""

    __test__ = False

    port: int
    passwords: Mapping[str, str] = field(repr=False)
    connection: psycopg.Connection = field(repr=False)

    def url(self, role: str, database: str) -> str:
        """The address of a database for a role by its full name, such as `medallion_reader`."""
        return f"postgresql://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/{database}"


@dataclass(frozen=True)
class TestDatabase:
    """A database of one test. `url(role)` is its address for a role; roles see what they see in production."""

    __test__ = False

    name: str
    cluster: TestCluster
    roles: Mapping[str, str]

    def url(self, role: str) -> str:
        return self.cluster.url(self.roles[role], self.name)


WAREHOUSE_ROLES = {
    "admin": roles.ADMIN,
    "loader": "medallion_loader",
    "transformer": "medallion_transformer",
    "reader": "medallion_reader",
}
SHOP_ROLES = {"admin": roles.ADMIN, "app": "shop_app", "extractor": "medallion_extractor"}


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    home = Home(Path(os.environ[HOME_VARIABLE]))
    known = home.root / "cluster.json"
    with home.lock():
        found = read_json(known)
        if found is None:
            passwords = {role: secrets.token_urlsafe(12) for role in (roles.ADMIN, *roles.ROLES)}
            started = Cluster(home.postgres, TEST_SETTINGS)
            postmaster = started.start(admin_password=passwords[roles.ADMIN])
            with _connect_admin(postmaster.port, passwords) as connection:
                _create_templates(TestCluster(postmaster.port, passwords, connection))
            write_private(known, {"port": postmaster.port, "passwords": passwords})
            found = read_json(known)
    assert found is not None
    port, passwords = int(str(found["port"])), json.loads(json.dumps(found["passwords"]))
    with _connect_admin(port, passwords) as connection:
        yield TestCluster(port, passwords, connection)


@pytest.fixture
def warehouse(cluster: TestCluster) -> Iterator[TestDatabase]:
    """A warehouse of this test's own: roles, privileges, and the empty tables of operations."""
    with fresh_warehouse(cluster) as database:
        yield database


@pytest.fixture
def shop(cluster: TestCluster) -> Iterator[TestDatabase]:
    """A small shop of this test's own: demo/shop.sql with the rows of tests/shop_rows.sql."""
    with fresh_shop(cluster) as database:
        yield database


@contextmanager
def fresh_warehouse(cluster: TestCluster) -> Iterator[TestDatabase]:
    """What `warehouse` gives, for fixtures that live longer than a test. Takes 80 ms."""
    with _clone(cluster, "warehouse", WAREHOUSE_ROLES, roles.grant_warehouse) as database:
        yield database


@contextmanager
def fresh_shop(cluster: TestCluster) -> Iterator[TestDatabase]:
    """What `shop` gives, for fixtures that live longer than a test. Takes 80 ms."""
    with _clone(cluster, "shop", SHOP_ROLES, roles.grant_shop) as database:
        yield database


def _connect_admin(port: int, passwords: Mapping[str, str]) -> psycopg.Connection:
    url = f"postgresql://{roles.ADMIN}:{passwords[roles.ADMIN]}@127.0.0.1:{port}/postgres"
    return psycopg.connect(url, autocommit=True)


def _create_templates(cluster: TestCluster) -> None:
    roles.ensure_roles(cluster.connection, cluster.passwords)
    cluster.connection.execute("revoke connect, temporary on database postgres, template1 from public")
    warehouse, shop = "warehouse_template", "shop_template"
    for name in (warehouse, shop):
        roles.ensure_database(cluster.connection, name)
    with psycopg.connect(cluster.url(roles.ADMIN, warehouse)) as connection:
        roles.grant_warehouse(connection)
    with psycopg.connect(cluster.url("medallion_loader", warehouse)) as connection:
        connection.execute((ROOT / "flows/state/schema.sql").read_bytes())
    with psycopg.connect(cluster.url(roles.ADMIN, shop)) as connection:
        roles.grant_shop(connection)
    with psycopg.connect(cluster.url("shop_app", shop)) as connection:
        connection.execute((ROOT / "demo/shop.sql").read_bytes())
        connection.execute((ROOT / "tests/shop_rows.sql").read_bytes())
    for name in (warehouse, shop):
        with psycopg.connect(cluster.url(roles.ADMIN, name), autocommit=True) as connection:
            connection.execute("vacuum analyze")
        # Copying a database waits for every connection to it to end: let there be none.
        cluster.connection.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(name)))


@contextmanager
def _clone(
    cluster: TestCluster, kind: str, named: Mapping[str, str], grant: Callable[[psycopg.Connection], None]
) -> Iterator[TestDatabase]:
    name = f"{kind}_{secrets.token_hex(6)}"
    # Strategy wal_log copied in 12 to 25 ms and dropped in 7; file_copy took 45 and 25.
    cluster.connection.execute(
        sql.SQL("create database {} template {} strategy wal_log").format(
            sql.Identifier(name), sql.Identifier(f"{kind}_template")
        )
    )
    database = TestDatabase(name, cluster, named)
    try:
        # A copy does not inherit the privileges on the database itself.
        with psycopg.connect(database.url("admin")) as connection:
            grant(connection)
        yield database
    finally:
        cluster.connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


# -- Prefect


def _prefect(home: Path) -> PrefectServer:
    return PrefectServer(home / "prefect", record=home / "run" / "prefect", log=home / "prefect.log")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The API address of the run's Prefect server; for as long as the worker lives, Prefect in it talks to that."""
    home = Home(Path(os.environ[HOME_VARIABLE]))
    server = _prefect(home.root)
    with home.lock():
        running = server.running() or server.start(port=ports.any_free())
    server.wait(running)
    url = api_url(running.port)
    os.environ["PREFECT_API_URL"] = url
    from prefect.settings import PREFECT_API_URL, temporary_settings

    # Prefect read the environment when it was imported, which may have been long before.
    with temporary_settings({PREFECT_API_URL: url}):
        yield url
    del os.environ["PREFECT_API_URL"]
