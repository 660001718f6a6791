"""A private world: two PostgreSQL servers, a Prefect server, a worker, the watch, an API, and who receives alerts.

with World.made(every_seconds=20) as world:
    world.worker.kill()

Everything listens on the loopback interface, on ports of its own, and gets no variable of the caller's that names a
server. When the block ends, also by Ctrl-C, every process is ended and the folder removed.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from infra.gameday.api import GameApi
from infra.gameday.database import Database
from infra.gameday.leftovers import CLUSTERS, PREFECT_RECORD, made_folder, remove, remove_leftovers
from infra.gameday.names import ENVIRONMENT
from infra.gameday.program import Program
from infra.gameday.project import copy_project
from infra.gameday.proxy import Proxy
from infra.gameday.receiver import Receiver
from infra.local import ports, roles
from infra.local.errors import ServiceFailed
from infra.local.postgres import Cluster
from infra.local.postgres_settings import DEV_SETTINGS
from infra.local.prefect_server import PrefectServer, api_url
from infra.local.service import without

#: The clusters are small, die with the game, and two of them share the machine.
_SETTINGS: Mapping[str, str] = {
    **DEV_SETTINGS,
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "512MB",
}
#: Problems are sent when they have lasted so long: longer than a load that is tried again, and than a server that does
#: not answer for a moment because the machine is busy.
_SETTLE_SECONDS = 15
#: The time between two rounds of the watch.
WATCH_SECONDS = 2
#: A table is hit by several faults within an hour, which would be flapping: each has an end that must be sent. Shorter
#: than two faults are apart, and longer than three loads of a table.
_FLAPPING_SECONDS = 100
_SETTINGS_OF_RUNS: Mapping[str, str] = {
    "MEDALLION_ALERT_SETTLE_SECONDS": str(_SETTLE_SECONDS),
    "MEDALLION_ALERT_FLAPPING_SECONDS": str(_FLAPPING_SECONDS),
    "MEDALLION_WATCH_SECONDS": str(WATCH_SECONDS),
    "MEDALLION_LOAD_ATTEMPTS": "2",
    "MEDALLION_RETRY_FIRST_DELAY_SECONDS": "1",
    "MEDALLION_CONNECT_TIMEOUT_SECONDS": "10",
    "MEDALLION_STATEMENT_TIMEOUT_SECONDS": "20",
    "MEDALLION_LOCK_WAIT_SECONDS": "20",
    "MEDALLION_CIRCUIT_FAILURES": "3",
    "MEDALLION_CIRCUIT_SECONDS": "5",
    "MEDALLION_CIRCUIT_LONGEST_SECONDS": "10",
    "PREFECT_WORKER_HEARTBEAT_SECONDS": "3",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # A server that is away for seconds must not end a run that is in progress.
    "PREFECT_CLIENT_MAX_RETRIES": "10",
}


@dataclass
class World:
    """All of it. `home` is the folder where it lives."""

    home: Path
    source: Database
    warehouse: Database
    proxy: Proxy
    api: GameApi
    receiver: Receiver
    prefect: PrefectServer
    project: Path
    prefect_port: int = 0
    worker: Program = field(init=False)
    watch: Program = field(init=False)

    def __post_init__(self) -> None:
        logs = self.home / "logs"
        self.worker = Program(
            "worker",
            ("prefect", "worker", "start", "--pool", "local", "--name", "gameday"),
            self.project,
            logs / "worker.log",
            self.environment,
        )
        self.watch = Program("watch", ("flows.cli", "watch"), self.project, logs / "watch.log", self.environment)

    @classmethod
    @contextmanager
    def made(cls, *, every_seconds: int, progress: Callable[[str], None] = lambda _: None) -> Iterator[World]:
        """The world, running: deployed, and with runs on its schedules."""
        remove_leftovers()
        home = made_folder()
        with ExitStack() as ending:
            ending.callback(remove, home)
            progress("starting two PostgreSQL servers, Prefect, an API")
            world = _begin(home, every_seconds, ending)
            progress("deploying the game's sources")
            world.finished("infra.gameday.deploying")
            world.worker.start()
            yield world

    def environment(self) -> dict[str, str]:
        """The variables of worker, runs and watch. None of the caller's that configure the platform or Prefect."""
        url = api_url(self.prefect_port)
        return {
            **_outside(),
            **_SETTINGS_OF_RUNS,
            "PYTHONPATH": str(self.project),
            "PYTHONUNBUFFERED": "1",
            "MEDALLION_HOME": str(self.home),
            "MEDALLION_ENVIRONMENT": ENVIRONMENT,
            "MEDALLION_WAREHOUSE_URL": self.warehouse.url("medallion_loader"),
            "MEDALLION_WAREHOUSE_TRANSFORMER_URL": self.warehouse.url("medallion_transformer"),
            "MEDALLION_WAREHOUSE_READER_URL": self.warehouse.url("medallion_reader"),
            "MEDALLION_SOURCE_GAME_URL": self.source.url("medallion_extractor", port=self.proxy.port),
            "MEDALLION_SOURCE_GAMEAPI_URL": self.api.url,
            "MEDALLION_SOURCE_GAMEAPI_KEY": self.api.key,
            "MEDALLION_ALERT_WEBHOOK_URL": self.receiver.url,
            "MEDALLION_WATCH_PING_URL": self.receiver.ping_url,
            "PREFECT_HOME": str(self.home / "prefect-client"),
            "PREFECT_API_URL": url,
            "PREFECT_API_AUTH_STRING": self.prefect.secret,
            "PREFECT_LOGGING_LEVEL": "INFO",
            "DO_NOT_TRACK": "1",
        }

    def finished(self, *module: str) -> str:
        """What a module of the copied project prints. Raises ServiceFailed if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", *module],
            cwd=self.project,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise ServiceFailed(f"{' '.join(module)} failed: {''.join(last)}", where="game day", fix="run it again")
        return done.stdout

    def start_prefect(self) -> None:
        """Start the Prefect server on its port, and wait for it."""
        running = self.prefect.start(port=self.prefect_port or ports.any_free())
        self.prefect_port = running.port
        self.prefect.wait(running, timeout=300)

    def kill_prefect(self) -> None:
        """SIGKILL the Prefect server."""
        running = self.prefect.running()
        if running is not None:
            os.kill(running.pid, signal.SIGKILL)

    def prefect_client(self) -> httpx.Client:
        """A client of the Prefect server's API."""
        user, _, password = self.prefect.secret.partition(":")
        return httpx.Client(base_url=api_url(self.prefect_port), auth=(user, password), timeout=60)

    def active_runs(self) -> int:
        """How many runs a worker has taken, and have not ended. Raises httpx.HTTPError."""
        active = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
        with self.prefect_client() as prefect:
            return int(prefect.post("/flow_runs/count", json=active).raise_for_status().json())


def _begin(home: Path, every_seconds: int, ending: ExitStack) -> World:
    for name in ("logs", "run"):
        (home / name).mkdir(mode=0o700)
    passwords = {role: secrets.token_urlsafe(16) for role in (roles.ADMIN, *roles.ROLES)}
    source, warehouse = (
        Database(Cluster(home / folder, _SETTINGS), database, passwords)
        for folder, database in zip(CLUSTERS, ("shop", "warehouse"), strict=True)
    )
    for database in (source, warehouse):
        database.start()
        roles.apply_all(
            lambda name, database=database: database.url(database=name),  # type: ignore[misc]
            {role: passwords[role] for role in roles.ROLES},
        )
    with source.session() as connection:
        connection.execute((Path(__file__).parent / "source.sql").read_bytes())
    proxy, api, receiver = Proxy(source.port), GameApi(secrets.token_urlsafe(16)), Receiver()
    for each in (proxy, api, receiver):
        ending.callback(each.stop)
        each.start()
    # In the cluster of the source: that of the warehouse crashes in the game, and Prefect is to live on.
    database_url = source.url(roles.PREFECT_ROLE, roles.PREFECT_DATABASE).replace("postgresql:", "postgresql+asyncpg:")
    prefect = PrefectServer(
        home / "prefect",
        home / PREFECT_RECORD,
        home / "logs/prefect.log",
        f"game:{secrets.token_urlsafe(16)}",
        database_url,
    )
    project = copy_project(home / "project", every_seconds=every_seconds)
    world = World(home, source, warehouse, proxy, api, receiver, prefect, project)
    world.start_prefect()
    return world


def _outside() -> dict[str, str]:
    """The caller's environment without what would lead to the caller's servers, accounts or telemetry."""
    kept = dict(os.environ)
    for prefix in ("MEDALLION_", "PREFECT_", "PG", "AWS_", "DBT_", "OTEL_", "SENTRY_", "PYTHONDONTWRITE"):
        kept = without(prefix, kept)
    return kept
