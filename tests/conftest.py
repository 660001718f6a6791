"""What every test may ask for: a PostgreSQL, databases of its own in it, and a Prefect server.

One cluster and one Prefect server serve all workers of a run. Whoever needs one first starts it, under a lock; the
process that controls the run stops both at its end, also after failures and Ctrl-C. Servers that a killed run left
behind are stopped by the next run.
"""

import gc
import json
import os
import secrets
import shutil
import sys
import tempfile
import zoneinfo
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.local import ports, process, roles
from infra.local.home import Home, read_json, write_private
from infra.local.postgres import Cluster
from infra.local.postgres_settings import DEV_SETTINGS
from infra.local.prefect_server import PrefectServer, api_url
from infra.local.service import without
from tests.access.authority import Authority
from tests.compiled import compile_once
from tests.sessions import forget

ROOT = Path(__file__).parents[1]
HOME_VARIABLE = "MEDALLION_TEST_HOME"
#: Short: paths of sockets and sandboxes below it are limited to some 100 bytes.
HOME_PREFIX = "mdl-"
#: Memory, where there is enough of it: a new database is some 370 files, and creating each takes 0.7 ms on a busy disk.
MEMORY = Path("/dev/shm")  # noqa: S108 - a mount of the system's, and the folder made in it is our own
MEMORY_NEEDED = 6 * 1024**3  # 2 to 3 GB are used in a run of all tests

TEST_SETTINGS: Mapping[str, str] = {
    **DEV_SETTINGS,
    "shared_buffers": "128MB",
    # The data dies with the run: nothing need ever reach the disk.
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "512MB",
    "max_connections": "200",
    "scram_iterations": "1",  # passwords of a run that nobody guesses: each of many logins takes 6 ms instead of 10
    "max_prepared_transactions": "8",  # a cursor must not pass one, and the server's default allows none
}


# -- the run

#: Whether this process makes the home of the run, and removes it.
_BEGINS = pytest.StashKey[bool]()


def _is_within_a_run() -> bool:
    home = os.environ.get(HOME_VARIABLE)
    return home is not None and (Path(home) / "owner").exists()


def pytest_configure(config: pytest.Config) -> None:
    # Workers inherit the home by the environment. So does a pytest that a test starts: it uses the run's servers.
    config.stash[_BEGINS] = not hasattr(config, "workerinput") and not _is_within_a_run()
    if config.stash[_BEGINS]:
        _remove_homes_of_killed_runs()
        home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=fastest_folder()))
        home.chmod(0o711)  # PostgreSQL passes through as another account when root runs the tests
        (home / "owner").write_text(f"{os.getpid()}\n{process.born(os.getpid())}\n")
        (home / "run").mkdir()
        os.environ[HOME_VARIABLE] = str(home)
        _trust_nobody(home)
        if config.getoption("numprocesses", 0) and not sys.dont_write_bytecode:
            compile_once(config)
    home = Path(os.environ[HOME_VARIABLE])
    # No test may meet the stack, the profile or the credentials of the person who runs it.
    outside = ("MEDALLION_", "PREFECT_", "PG", "SENTRY_", "OTEL_", "TRACEPARENT")
    for name in [*os.environ]:
        if name.startswith(outside) and name != HOME_VARIABLE:
            del os.environ[name]
    os.environ.update(
        MEDALLION_HOME=str(home / "stack"),
        PREFECT_HOME=str(home / "prefect-client"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        SODA_CORE_TELEMETRY_ENABLED="false",
        RUNTIME__DLTHUB_TELEMETRY="false",
        DO_NOT_TRACK="1",
        PYTHONTZPATH="",  # Prefect asks for all time zones with each schedule; see infra/local/prefect_server.py
    )
    zoneinfo.reset_tzpath()


#: Where programs look for the authorities that they trust.
TRUST_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


def _trust_nobody(home: Path) -> None:
    """Put one authority in the place of the system's 140, which each client reads anew: 40 to 60 ms of a core.

    Tests speak to servers on this machine, most of them without TLS. Those of TLS name authorities of their own.
    """
    outside = {name: os.environ.pop(name) for name in TRUST_VARIABLES if name in os.environ}
    write_private(home / "outside.json", outside)
    os.environ["SSL_CERT_FILE"] = str(Authority(home / "authority").root)


def trusting_as_the_machine_does() -> dict[str, str]:
    """The environment for programs that reach beyond this machine."""
    kept = Path(os.environ[HOME_VARIABLE]) / "outside.json"
    outside = {name: str(value) for name, value in (read_json(kept) or {}).items()}
    return {**without("SSL_CERT_"), **outside}


#: The groups that take longest, the longest first. What sleeps must not begin last, and what takes minutes must not
#: either: nothing would be left to do beside it.
LONGEST = ("by itself", "deployments", "release", "dbt", "backup", "canary", "pipeline", "beside", "recomputed", "dlt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups first, then the other groups, then what is in none; within these as they were found."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    marker = item.get_closest_marker("xdist_group")
    if marker is None:
        return len(LONGEST) + 1
    return LONGEST.index(marker.args[0]) if marker.args[0] in LONGEST else len(LONGEST)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported and collected stays: looking for garbage in it is a fourteenth of a worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if config.stash[_BEGINS]:
        _remove(Path(os.environ[HOME_VARIABLE]))


def fastest_folder() -> Path:
    """Where everything of the run is kept: in memory, or where temporary files go."""
    with suppress(OSError):
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
            return MEMORY
    return Path(tempfile.gettempdir())


def _remove_homes_of_killed_runs() -> None:
    folders = {MEMORY, Path(tempfile.gettempdir())}
    for home in [home for folder in folders for home in folder.glob(f"{HOME_PREFIX}*")]:
        try:
            pid, born = (home / "owner").read_text().splitlines()
        except (OSError, ValueError):
            continue
        if process.born(int(pid)) != born and home.stat().st_uid == os.geteuid():
            _remove(home)


def _remove(home: Path) -> None:
    _prefect(home).stop()
    _second_prefect(home).stop()
    for record in (home / "run").glob("*"):
        running = process.find(record)
        if running is not None:
            process.stop(running.pid, process.born(running.pid))
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
    "reviewer": "medallion_reviewer",
    "dashboard": "medallion_dashboard",
}
SHOP_ROLES = {"admin": roles.ADMIN, "app": "shop_app", "extractor": "medallion_extractor"}


@pytest.fixture(autouse=True)
def _what_a_command_sets_ends_with_its_test() -> Iterator[None]:
    """Commands that run in this process set Prefect's variables for it, and keep new files private: what the next test
    starts would inherit the variables, and servers of another account could not read its files.
    """
    before, mask = set(os.environ), os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)
    for name in set(os.environ) - before:
        if name.startswith("PREFECT_"):
            del os.environ[name]


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
            with connect_admin(postmaster.port, passwords) as connection:
                create_templates(TestCluster(postmaster.port, passwords, connection))
            write_private(known, {"port": postmaster.port, "passwords": passwords})
            found = read_json(known)
    assert found is not None
    port, passwords = int(str(found["port"])), json.loads(json.dumps(found["passwords"]))
    with connect_admin(port, passwords) as connection:
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
    """What `warehouse` gives, for fixtures that live longer than a test. Takes 30 ms."""
    with _clone(cluster, "warehouse", "warehouse_template", WAREHOUSE_ROLES) as database:
        yield database


@contextmanager
def fresh_shop(cluster: TestCluster) -> Iterator[TestDatabase]:
    """What `shop` gives, for fixtures that live longer than a test. Takes 30 ms."""
    with _clone(cluster, "shop", "shop_template", SHOP_ROLES) as database:
        yield database


@contextmanager
def copy_of(database: TestDatabase) -> Iterator[TestDatabase]:
    """The database with all that is in it, once more. Nobody may be connected to it."""
    forget(database.name)
    with _clone(database.cluster, database.name.partition("_")[0], database.name, database.roles) as copy:
        yield copy


def connect_admin(port: int, passwords: Mapping[str, str]) -> psycopg.Connection:
    """The administrator's session, in the database `postgres`."""
    url = f"postgresql://{roles.ADMIN}:{passwords[roles.ADMIN]}@127.0.0.1:{port}/postgres"
    return psycopg.connect(url, autocommit=True)


def create_templates(cluster: TestCluster) -> None:
    """Roles, and what `warehouse` and `shop` are copies of."""
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
            connection.execute("vacuum (full, analyze)")  # an eighth less to copy for each test
        # Leaves a file of what each session would else read from the catalogue: 3 ms of a core for the first in a copy.
        with psycopg.connect(cluster.url(roles.ADMIN, name)) as connection:
            connection.execute("select 1")
        # Copying a database waits for every connection to it to end: let there be none.
        cluster.connection.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(name)))


@contextmanager
def _clone(cluster: TestCluster, kind: str, template: str, named: Mapping[str, str]) -> Iterator[TestDatabase]:
    name = f"{kind}_{secrets.token_hex(6)}"
    try:
        copy_database(cluster.connection, name, template)
        yield TestDatabase(name, cluster, named)
    finally:
        forget(name)
        cluster.connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def copy_database(admin: psycopg.Connection, name: str, template: str) -> None:
    """A database with all that is in the template, privileges included."""
    # In memory file_copy takes 14 ms of a core for a database made and dropped and wal_log 19; with four workers at
    # once a fifth of all that PostgreSQL does: wal_log leaves 1,100 pages to the next checkpoint. On a disk
    # wal_log copied in 12 to 25 ms and dropped in 7, file_copy took 45 and 25.
    in_memory = Path(os.environ.get(HOME_VARIABLE) or fastest_folder()).is_relative_to(MEMORY)
    admin.execute(
        sql.SQL("create database {} template {} strategy {}").format(
            sql.Identifier(name), sql.Identifier(template), sql.SQL("file_copy" if in_memory else "wal_log")
        )
    )
    # A copy does not inherit the privileges on the database itself.
    admin.execute(
        "update pg_database as d set datacl = t.datacl from pg_database as t where d.datname = %s and t.datname = %s",
        [name, template],
    )


# -- Prefect


#: The database of the run's Prefect server. It is in PostgreSQL, as the embedded stack's is: where several processes
#: wrote to one in SQLite, it answered some with 503, and each of these waited for 2 s, then 4, then 8.
PREFECT_OF_THE_RUN = "prefect_of_the_run"


def _prefect(home: Path, secret: str = "", database_url: str | None = None) -> PrefectServer:
    return PrefectServer(home / "prefect", home / "run" / "prefect", home / "prefect.log", secret, database_url)


def _second_prefect(home: Path, secret: str = "", database_url: str | None = None) -> PrefectServer:
    second = home / "second"
    return PrefectServer(second / "prefect", second / "record", second / "log", secret, database_url)


@pytest.fixture(scope="session")
def prefect_auth() -> Iterator[str]:
    """What both Prefect servers of the run ask their clients for; Prefect in this process sends it."""
    home = Home(Path(os.environ[HOME_VARIABLE]))
    kept = home.root / "prefect.json"
    with home.lock():
        if read_json(kept) is None:
            write_private(kept, {"auth_string": f"medallion:{secrets.token_urlsafe(12)}"})
        auth_string = str((read_json(kept) or {})["auth_string"])
    os.environ["PREFECT_API_AUTH_STRING"] = auth_string
    from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

    # Prefect read the environment when it was imported, which may have been long before.
    with temporary_settings({PREFECT_API_AUTH_STRING: auth_string}):
        yield auth_string
    del os.environ["PREFECT_API_AUTH_STRING"]


@pytest.fixture(scope="session")
def prefect_server(cluster: TestCluster, prefect_auth: str) -> Iterator[str]:
    """The API address of the run's Prefect server; for as long as the worker lives, Prefect in it talks to that."""
    home = Home(Path(os.environ[HOME_VARIABLE]))
    with home.lock():
        server = _prefect(home.root, prefect_auth, prefect_database(cluster, PREFECT_OF_THE_RUN))
        running = server.running() or server.start(port=ports.any_free())
    server.wait(running)
    url = api_url(running.port)
    os.environ["PREFECT_API_URL"] = url
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        yield url
    # What is still to be sent goes while there is a server; else the process would try for a minute at its end.
    from tests.flows.prefect_facts import forget_senders

    forget_senders()
    del os.environ["PREFECT_API_URL"]


def prefect_database(cluster: TestCluster, name: str) -> str:
    """The URL of a database for a Prefect server, as the embedded one has it, for SQLAlchemy."""
    roles.ensure_prefect_database(cluster.connection, name)
    return cluster.url(roles.PREFECT_ROLE, name).replace("postgresql:", "postgresql+asyncpg:", 1)


@pytest.fixture(scope="session")
def second_prefect_server(cluster: TestCluster, prefect_auth: str) -> Iterator[str]:
    """The API address of one that deployments may fill: their automations act on whatever runs there.

    It boots in some 10 s of a core, so the tests that use it are one group, in one worker.
    """
    server = _second_prefect(Path(os.environ[HOME_VARIABLE]), prefect_auth, prefect_database(cluster, "prefect"))
    server.folder.parent.mkdir()
    try:
        running = server.start(port=ports.any_free())
        server.wait(running)
        yield api_url(running.port)
    finally:
        server.stop()
