"""`python -m benchmarks.readers`: how long readers of a table wait while dbt replaces it beside an idle transaction.

A reader asks every 200 ms, whether the query before was answered or not, so one that hangs for 20 s counts as all the
queries that were due meanwhile. Another has read the table and keeps its transaction open for `--idle` seconds.
Measured with dbt's own macros and roles without bounds, as it was before, and with the project's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from flows.models.project import DBT_PROJECT, run_dbt
from infra.local import roles
from infra.local.postgres import Cluster
from infra.local.postgres_settings import DEV_SETTINGS

_RESULTS = Path(__file__).with_name("results")
_ASK_EVERY_SECONDS = 0.2
_QUERY = b"select sum(amount) from gold.mart where id < 1000"


@dataclass(frozen=True, slots=True)
class Measured:
    """One build: its seconds, and those that readers waited for answers, from when each was due."""

    case: str
    build_seconds: float
    queries: int
    p50_seconds: float
    p99_seconds: float
    longest_seconds: float


def main() -> None:
    """Measure each case, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readers", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--idle", type=float, default=20)
    options = parser.parse_args()
    measured = []
    with _warehouse() as warehouse:
        for macros in ("dbt's own", "the project's"):
            if macros == "dbt's own":
                warehouse.unbind("medallion_reader", "medallion_transformer")
            else:
                warehouse.bind()
            project = warehouse.project(macros, options.rows)
            _build(warehouse, project)  # the first one parses, and replaces nothing
            for idle in (0.0, options.idle):
                beside = f"beside a transaction idle for {idle:.0f} s" if idle else "nobody idle"
                measured.append(_measure(warehouse, project, f"{macros} macros, {beside}", idle))
                print(measured[-1])
    (_RESULTS / "readers.json").write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class _Warehouse:
    folder: Path
    cluster: Cluster
    port: int
    password: str

    def url(self, role: str, database: str = "warehouse") -> str:
        return self.cluster.url(role, self.password, self.port, database)

    def bind(self) -> None:
        roles.apply_all(lambda database: self.url(roles.ADMIN, database), dict.fromkeys(roles.ROLES, self.password))

    def unbind(self, *names: str) -> None:
        with psycopg.connect(self.url(roles.ADMIN), autocommit=True) as admin:
            for name in names:
                admin.execute(f"alter role {name} reset all".encode())

    def project(self, macros: str, rows: int) -> Path:
        project = self.folder / f"project-{len(macros)}"
        (project / "models").mkdir(parents=True)
        (project / "macros").mkdir()
        shutil.copy(DBT_PROJECT / "profiles.yml", project)
        taken = ["generate_schema_name.sql"] + (["wait_for_lock.sql"] if macros == "the project's" else [])
        for name in taken:
            shutil.copy(DBT_PROJECT / "macros" / name, project / "macros")
        (project / "dbt_project.yml").write_text(
            "name: medallion\nprofile: medallion\nmodels: {medallion: {+schema: gold, +materialized: table}}\n"
        )
        (project / "models/mart.sql").write_text(
            f"select id, id % 7 as amount from generate_series(1, {rows}) as made (id)"
        )
        return project


@contextmanager
def _warehouse() -> Iterator[_Warehouse]:
    folder = Path(tempfile.mkdtemp(prefix="mdl-bench-"))
    folder.chmod(0o711)
    cluster, password = Cluster(folder / "postgres", DEV_SETTINGS), secrets.token_urlsafe(12)
    try:
        warehouse = _Warehouse(folder, cluster, cluster.start(admin_password=password).port, password)
        warehouse.bind()
        yield warehouse
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _build(warehouse: _Warehouse, project: Path) -> float:
    began = time.monotonic()
    built = run_dbt(["run"], url=warehouse.url("medallion_transformer"), target=project / "target", project=project)
    if not built.ok:
        raise SystemExit(f"the build failed: {built}")
    return time.monotonic() - began


def _measure(warehouse: _Warehouse, project: Path, case: str, idle: float) -> Measured:
    url, marks = warehouse.url("medallion_reader"), ("asking", "idling", "stop")
    # In processes of their own: dbt works in this one, and would keep threads of it from asking in time.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        asking = pool.submit(_ask, url, project)
        idling = pool.submit(_idle, url, project, idle)
        while not ((project / "asking").exists() and (project / "idling").exists()):
            time.sleep(0.1)
        try:
            seconds = _build(warehouse, project)
        finally:
            (project / "stop").touch()
        idling.result()
        waited = asking.result()
    for mark in marks:
        (project / mark).unlink()
    percentiles = statistics.quantiles(waited, n=100, method="inclusive")
    return Measured(
        case,
        round(seconds, 2),
        len(waited),
        round(percentiles[49], 3),
        round(percentiles[98], 3),
        round(max(waited), 3),
    )


def _ask(url: str, project: Path) -> list[float]:
    waited = []
    with psycopg.connect(url, autocommit=True) as reader:
        due = time.monotonic()
        while not (project / "stop").exists():
            reader.execute(_QUERY)
            waited.append(time.monotonic() - due)
            (project / "asking").touch()
            due += _ASK_EVERY_SECONDS
            time.sleep(max(0, due - time.monotonic()))
    return waited


def _idle(url: str, project: Path, seconds: float) -> None:
    if not seconds:
        (project / "idling").touch()
        return
    with psycopg.connect(url) as reader:
        reader.execute(_QUERY)
        (project / "idling").touch()
        time.sleep(seconds)


if __name__ == "__main__":
    main()
