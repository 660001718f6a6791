"""`python -m benchmarks.prefect_database`: SQLite and PostgreSQL as the Prefect server's database, under a backlog.

A worker was away, 100 runs are due, and it starts them all: a process worker has no limit of its own. Each run goes
through PENDING, RUNNING, tasks with states and logs, an artifact, COMPLETED. Meanwhile the requests of the UI's first
page are timed. To leave the cores to the server, the runs are threads of a few processes. Both servers have the
settings of the embedded stack, and PostgreSQL those of its cluster. Takes up to 20 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import psycopg
from rich.console import Console

from benchmarks.cpu import cpu_of_tree
from infra.local import ports, roles
from infra.local.postgres import Cluster
from infra.local.prefect_server import SQLITE, PrefectServer, api_url
from infra.local.process import Running
from infra.local.service import without

_RESULTS = Path(__file__).with_name("results")
_FLOW = Path(__file__).with_name("prefect_backlog.py")
_DATABASES = ("SQLite", "PostgreSQL")
_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Backlog:
    """How one database did. Times in seconds; `p95` of the UI's requests; bytes of the database, per run."""

    database: str
    runs: int
    at_once: int
    completed: int
    drained: float
    server_cpu: float
    database_cpu: float
    requests: int
    p50: float
    p95: float
    slowest: float
    refused_requests: int
    failed_runs: int
    locked: int
    tracebacks: int
    bytes_per_run: int


@dataclass(frozen=True, slots=True)
class Bench:
    """A Prefect server, and where its database is: a SQLite file, or a URL of PostgreSQL with its cluster."""

    server: PrefectServer
    running: Running
    url: str | None
    cluster: Cluster | None

    @property
    def api(self) -> str:
        """Where the API is."""
        return api_url(self.running.port)

    @property
    def auth(self) -> tuple[str, str]:
        """What the API asks of who sends a request."""
        user, _, password = self.server.secret.partition(":")
        return user, password

    def client(self) -> dict[str, str]:
        """The environment of a process that uses it."""
        return {"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": self.server.secret}

    def bytes(self) -> int:
        """The size of the database, without what is only waiting to be written."""
        if self.url is None:
            with closing(sqlite3.connect(self.server.folder / SQLITE)) as connection:
                (found,) = connection.execute("select sum(pgsize) from dbstat").fetchone()
        else:
            with psycopg.connect(self.url) as session:
                (found,) = session.execute("select pg_database_size(current_database())").fetchone() or (0,)
        return int(found)

    def cpu(self) -> tuple[float, float]:
        """Seconds of a core that the server and PostgreSQL have used."""
        postmaster = self.cluster.running() if self.cluster is not None else None
        return cpu_of_tree(self.running.pid), cpu_of_tree(postmaster.pid) if postmaster is not None else 0.0


@contextmanager
def serving(database: str) -> Iterator[Bench]:
    """A Prefect server on a new database of that kind, stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mdl-bench-"))
    folder.chmod(0o711)
    cluster = Cluster(folder / "postgres") if database == "PostgreSQL" else None
    url = _prepare(cluster) if cluster is not None else None
    server = PrefectServer(
        folder / "prefect",
        record=folder / "record",
        log=folder / "log",
        secret=f"medallion:{secrets.token_urlsafe(12)}",
        database_url=url.replace("postgresql://", "postgresql+asyncpg://", 1) if url is not None else None,
    )
    try:
        running = server.start(port=ports.any_free())
        server.wait(running)
        yield Bench(server, running, url, cluster)
    finally:
        server.stop()
        if cluster is not None:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(cluster: Cluster) -> str:
    passwords = {role: secrets.token_urlsafe(12) for role in (roles.ADMIN, *roles.ROLES)}
    port = cluster.start(admin_password=passwords[roles.ADMIN]).port
    roles.apply_all(lambda name: cluster.url(roles.ADMIN, passwords[roles.ADMIN], port, name), passwords)
    return cluster.url(roles.PREFECT_ROLE, passwords[roles.PREFECT_ROLE], port, roles.PREFECT_DATABASE)


def measure(database: str, runs: int, at_once: int, limit: float) -> Backlog:
    """Schedule the runs, then work them off, `at_once` at a time; after `limit` seconds the rest is given up."""
    with serving(database) as bench:
        _client(bench, "schedule", str(runs)).wait()
        before, cpu = bench.bytes(), bench.cpu()
        watch = _Watch(bench)
        watch.start()
        began = time.perf_counter()
        threads = str(max(at_once // _PROCESSES, 1))
        workers = [_client(bench, "work", str(_PROCESSES), str(number), threads) for number in range(_PROCESSES)]
        _wait(workers, until=time.monotonic() + limit)
        drained = time.perf_counter() - began
        watch.stop()
        time.sleep(8)  # the last events are written within 5 s
        after, completed = bench.cpu(), _completed(bench)
        times = sorted(watch.times)
        return Backlog(
            database,
            runs,
            at_once,
            completed,
            drained,
            after[0] - cpu[0],
            after[1] - cpu[1],
            len(times),
            statistics.median(times),
            times[int(len(times) * 0.95)],
            times[-1],
            watch.refused,
            _count(bench.server.folder.parent.glob("client-work-*"), "\n"),
            _count([bench.server.log], "database is locked"),
            _count([bench.server.log], "Traceback (most recent call last)"),
            (bench.bytes() - before) // runs,
        )


def _wait(workers: list[subprocess.Popen[bytes]], until: float) -> None:
    for worker in workers:
        try:
            worker.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _client(bench: Bench, *arguments: str) -> subprocess.Popen[bytes]:
    folder = bench.server.folder.parent
    environment = {**without("PREFECT_"), **bench.client(), "PREFECT_HOME": str(folder)}
    with (folder / f"client-{'-'.join(arguments)}").open("wb") as said, (folder / "clients.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(_FLOW), *arguments], env=environment, stdout=said, stderr=log, cwd=_FLOW.parents[1]
        )


class _Watch(threading.Thread):
    """Asks what the UI's first page asks, twice a second, as long as the backlog is worked off."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(daemon=True)
        self._bench = bench
        self._ended = threading.Event()
        self.times: list[float] = []
        self.refused = 0

    def run(self) -> None:
        """Until stopped."""
        pages: tuple[tuple[str, dict[str, int]], ...] = (
            ("/flow_runs/filter", {"limit": 50}),
            ("/flow_runs/count", {}),
            ("/task_runs/count", {}),
        )
        with httpx.Client(base_url=self._bench.api, auth=self._bench.auth, timeout=60, trust_env=False) as client:
            while not self._ended.wait(0.5):
                for path, body in pages:
                    began = time.perf_counter()
                    try:
                        answered = client.post(path, json=body).status_code < 500
                    except httpx.HTTPError:
                        answered = False
                    self.times.append(time.perf_counter() - began)
                    self.refused += not answered

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()
        self.join()


def _completed(bench: Bench) -> int:
    body = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    answer = httpx.post(f"{bench.api}/flow_runs/count", json=body, auth=bench.auth, trust_env=False, timeout=120)
    return int(answer.json())


def _count(files: Iterable[Path], text: str) -> int:
    return sum(file.read_text(errors="replace").count(text) for file in files)


def main() -> None:
    """Measure both, and write their page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefect_database", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="runs of the backlog")
    parser.add_argument("--at-once", type=int, nargs="+", default=[25, 100], help="runs worked off at a time")
    parser.add_argument("--limit", type=float, default=300, help="seconds until what is left is given up")
    options = parser.parse_args()
    console = Console(width=140)
    measured = []
    for at_once in options.at_once:
        for database in _DATABASES:
            measured.append(measure(database, options.runs, at_once, options.limit))
            console.print(asdict(measured[-1]))
            _write(measured, options.limit)


def _write(measured: list[Backlog], limit: float) -> None:
    records = [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in measured
    ]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    (_RESULTS / "prefect_database.json").write_text(json.dumps({"date": today, "measured": records}, indent=1) + "\n")
    lines = [
        "# Prefect's database under a backlog",
        "",
        f"{today}: {measured[0].runs} runs that were due, worked off for {limit:.0f} s at most; each run has 12 tasks, "
        f"24 lines of log and an artifact. Prefect {version('prefect')}, PostgreSQL 18, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores shared by clients, server and database. API: the "
        "requests of the UI's first page, sent meanwhile.",
        "",
        "| database | at a time | completed | seconds | server CPU, s | PostgreSQL CPU, s | API p50, s | p95, s "
        "| slowest, s | refused requests | failed runs | database is locked | tracebacks | kB a run |",
        "| --- |" + " ---: |" * 13,
    ]
    lines += [
        f"| {one.database} | {one.at_once} | {one.completed} | {one.drained:.0f} | {one.server_cpu:.0f} "
        f"| {one.database_cpu:.0f} | {one.p50:.2f} | {one.p95:.2f} | {one.slowest:.2f} "
        f"| {one.refused_requests} of {one.requests} | {one.failed_runs} | {one.locked} | {one.tracebacks} "
        f"| {one.bytes_per_run / 1000:.0f} |"
        for one in measured
    ]
    (_RESULTS / "prefect_database.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
