"""`python -m benchmarks.transform`: how long silver and gold take, full and incremental, cold and warm;
selective builds beside plain ones; and partitions.

All of the demo's dataset in raw, put there without loads: 1.47 million lines, and for the partitions 20.9 million
promotions. Cold means a PostgreSQL just started and a dbt that has parsed nothing; the file cache of the system stays,
since it is not ours alone. Gold is compared with pandas on the way, value by value: a fast build of wrong figures
would be no result. Takes 10 minutes and 12 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas
import psycopg
from psycopg.rows import dict_row
from rich.console import Console

from benchmarks.selective import Side, measure_selective, selective_page
from demo.raw import fill_promotions, fill_raw
from flows.models.environment import dbt_environment
from flows.state.ledger import schema_sql
from flows.values.settings import PROJECT_ROOT
from infra.local import roles
from infra.local.postgres import Cluster
from infra.local.postgres_settings import DEV_SETTINGS
from tests.dbt_project.recomputed import TABLES, Dataset, differences

_RESULTS = Path(__file__).with_name("results")
_DBT = Path(sys.executable).with_name("dbt")
_BUILD = ("build", "--exclude-resource-type", "unit_test")
_SLOWEST = 5
_PROMOTIONS = ("--select", "stg_shop__promotions", "fct_promotions")


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a build: seconds in dbt's threads, and the rows it wrote, where PostgreSQL told."""

    name: str
    kind: str
    seconds: float
    rows: int | None


@dataclass(frozen=True, slots=True)
class Build:
    """One dbt process: seconds on the clock, and the nodes, slowest first."""

    case: str
    seconds: float
    nodes: list[Node] = field(repr=False)

    def node(self, name: str) -> Node:
        (found,) = [node for node in self.nodes if node.name == name and node.kind == "model"]
        return found


@dataclass(frozen=True, slots=True)
class Measured:
    """What was asked, of which table, and the answer."""

    what: str
    table: str
    rows: int
    seconds: float


class Platform:
    """A PostgreSQL of this run, with raw filled, and the dbt that transforms it."""

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder / "postgres", {**DEV_SETTINGS, "max_wal_size": "16GB"})
        self._password = secrets.token_urlsafe(12)
        self.folder = folder
        self.url = self._start("postgres")
        with self.connect() as connection:
            connection.execute("create database warehouse")
        self.url = self._start("warehouse")
        with self.connect() as connection:
            connection.execute(schema_sql().encode())  # scores of quality count what the door refused
            connection.execute((PROJECT_ROOT / "tests/dbt_project/raw_tables.sql").read_bytes())
            connection.execute("reset search_path")

    def _start(self, database: str) -> str:
        postmaster = self._cluster.start(admin_password=self._password)
        port, self.pid = postmaster.port, postmaster.pid
        return self._cluster.url(roles.ADMIN, self._password, port, database)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)

    def stop(self) -> None:
        self._cluster.stop()

    def cool(self) -> None:
        """Restart the server, and forget what dbt parsed."""
        self._cluster.stop()
        shutil.rmtree(self.folder / "target", ignore_errors=True)
        self.url = self._start("warehouse")

    def build(self, case: str, *arguments: str, project: Path = PROJECT_ROOT / "dbt_project") -> Build:
        """Run dbt. Raises RuntimeError when it fails, with the end of what it said."""
        target = self.folder / "target"
        environment = {
            **os.environ,
            **dbt_environment(self.url),
            "DBT_PROJECT_DIR": str(project),
            "DBT_PROFILES_DIR": str(project),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(self.folder / "logs"),
        }
        started = time.perf_counter()
        done = subprocess.run(
            [str(_DBT), *_BUILD, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{case}: dbt ended with {done.returncode}: {done.stdout[-3000:]}")
        nodes = [
            Node(
                result["unique_id"].split(".")[2],
                result["unique_id"].split(".")[0],
                round(result["execution_time"], 2),
                (result.get("adapter_response") or {}).get("rows_affected"),
            )
            for result in json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
        ]
        return Build(case, round(seconds, 1), sorted(nodes, key=lambda node: -node.seconds))

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(query.encode()).fetchall()


@contextmanager
def platform_of_its_own() -> Iterator[Platform]:
    """Start it in a folder of its own; stop it and remove the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mdl-bench-"))
    folder.chmod(0o711)
    measured = Platform(folder)
    try:
        yield measured
    finally:
        measured.stop()
        shutil.rmtree(folder, ignore_errors=True)


def measure_builds(measured: Platform, say: Callable[[str], None]) -> list[Build]:
    """Full and incremental, each cold and warm, and one with the changes of a day."""
    builds = []

    def build(case: str, *arguments: str) -> None:
        builds.append(measured.build(case, *arguments))
        say(f"{case}: {builds[-1].seconds:.1f} s")

    with measured.connect() as connection:
        lines = fill_raw_all(connection)
    say(f"{lines:,} lines in raw")
    measured.cool()
    build("first, cold")
    build("full refresh, warm", "--full-refresh")
    measured.cool()
    build("incremental, nothing changed, cold")
    build("incremental, nothing changed, warm")
    with measured.connect() as connection:
        connection.execute("""
            update raw_shop.basket_items as line
            set quantity = quantity + 1, updated_at = now(), _extracted_at = now(), _batch_id = 2
            from raw_shop.baskets as basket
            where line.basket_id = basket.basket_id and basket.sold_at >= '2017-12-31'
        """)
    build("incremental, a day's lines changed, warm")
    return builds


def fill_raw_all(connection: psycopg.Connection[Any]) -> int:
    with connection.transaction():
        lines = fill_raw(connection)
    connection.execute("vacuum analyze")
    return lines


def compare_with_pandas(measured: Platform) -> tuple[int, list[str]]:
    """All of the marts against the files: values compared, and what differs."""
    # No promotions are in raw yet.
    dataset = Dataset(promotion_stores=())
    values, found = 0, []
    for table in TABLES:
        expected = getattr(dataset, table)
        built = pandas.DataFrame(measured.rows(f"select * from gold.{table}"))
        compared, differing = differences(expected, built)
        values += compared
        found += [f"{table}.{text}" for text in differing]
    return values, found


def measure_partitions(measured: Platform, say: Callable[[str], None]) -> list[Measured]:
    """20.9 million promotions as a partitioned table, and the same model as a plain one."""
    with measured.connect() as connection:
        with connection.transaction():
            placements = fill_promotions(connection)
        connection.execute("vacuum analyze raw_shop.promotions")
    say(f"{placements:,} promotions in raw")
    plain = plain_project(measured.folder)
    found: list[Measured] = []

    def build(what: str, *arguments: str, project: Path, table: str) -> None:
        node = measured.build(what, *_PROMOTIONS, "--exclude-resource-type", "test", *arguments, project=project).node(
            "fct_promotions"
        )
        rows = int(measured.rows("select count(*) as rows from gold.fct_promotions")[0]["rows"])
        found.append(Measured(what, table, rows, node.seconds))
        say(f"{what}, {table}: {node.seconds:.1f} s")

    def query(what: str, statement: str, table: str) -> None:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            rows = len(measured.rows(statement))
            times.append(time.perf_counter() - started)
        found.append(Measured(what, table, rows, round(sorted(times)[2], 4)))

    week = "select store_id, count(*) from gold.fct_promotions where week_starts_on = '2017-11-05' group by store_id"
    ours = PROJECT_ROOT / "dbt_project"
    build("full build", "--full-refresh", project=plain, table="plain")
    query("one week by store", week, "plain")
    with measured.connect() as connection:
        connection.execute("drop table gold.fct_promotions")
    build("full build", "--full-refresh", project=ours, table="partitioned")
    query("one week by store", week, "partitioned")
    with measured.connect() as connection:
        connection.execute("""
            update raw_shop.promotions set mailer_location = 'D', _extracted_at = now(), _batch_id = 2
            where week_starts_on >= '2017-12-24'
        """)
        connection.execute("vacuum analyze raw_shop.promotions")
    build("the last two weeks changed", project=ours, table="partitioned")
    with measured.connect() as connection:
        connection.execute("create table incremented as select * from gold.fct_promotions")
    build("full build again", "--full-refresh", project=ours, table="partitioned")
    differing = measured.rows("""
        select count(*) as rows from (
            (select * from incremented except all select * from gold.fct_promotions)
            union all
            (select * from gold.fct_promotions except all select * from incremented)
        ) as differing
    """)[0]["rows"]
    if differing:
        raise RuntimeError(f"full refresh and increment differ in {differing} rows")
    build("the last two weeks changed", "--full-refresh", project=plain, table="plain")
    return found


def plain_project(folder: Path) -> Path:
    """The project, with fct_promotions as an ordinary table."""
    project = folder / "plain"
    shutil.copytree(PROJECT_ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models/gold/fct_promotions.sql"
    text = model.read_text(encoding="utf-8")
    begin, end = text.index("        materialized='partitioned'"), text.index("        indexes=")
    text = text[:begin] + "        materialized='table',\n" + text[end:]
    begin, end = text.index("    {% if holds_partitions() %}"), text.index("{% endif %}") + len("{% endif %}\n")
    model.write_text(text[:begin] + text[end:], encoding="utf-8")
    return project


def write(builds: Sequence[Build], values: int, sides: list[Side], partitions: Sequence[Measured]) -> None:
    """Both results as JSON, and as a page."""
    _RESULTS.mkdir(exist_ok=True)
    content = {
        "builds": [asdict(build) for build in builds],
        "values_compared": values,
        "selective": [asdict(one) for one in sides],
        "partitions": [asdict(one) for one in partitions],
    }
    (_RESULTS / "transform.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (_RESULTS / "transform.md").write_text(page(builds, values, sides, partitions), encoding="utf-8")


def page(builds: Sequence[Build], values: int, sides: list[Side], partitions: Sequence[Measured]) -> str:
    """The page of results."""
    lines = [
        "# Transform",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}: `dbt build` without unit tests, 4 threads, as one process with its imports; "
        f"PostgreSQL 18, Python {platform.python_version()}, {os.cpu_count()} cores. Cold: PostgreSQL just started, "
        "nothing parsed; the system's file cache stays.",
        "",
        f"| build | seconds | nodes | the {_SLOWEST} slowest, in seconds |",
        "|---|---:|---:|---|",
        *(
            f"| {build.case} | {build.seconds:.1f} | {len(build.nodes)} | "
            + ", ".join(f"{node.name} {node.seconds:.1f}" for node in build.nodes[:_SLOWEST])
            + " |"
            for build in builds
        ),
        "",
        f"Gold was computed once more by pandas from the files: {values:,} values, none differs.",
        *selective_page(sides),
    ]
    if partitions:
        lines += [
            "",
            "## Promotions, partitioned by month and plain",
            "",
            "A build is the seconds of its one model, index and statistics included. After a change, the partitioned "
            "table replaces the partitions of the last two months, and the plain one is built anew. Increment and full "
            "build hold the same rows.",
            "",
            "| what | table | rows | seconds |",
            "|---|---|---:|---:|",
            *(f"| {one.what} | {one.table} | {one.rows:,} | {one.seconds:.3g} |" for one in partitions),
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transform", description=__doc__)
    parser.add_argument("--without-promotions", action="store_true", help="leave the 20.9 million promotions out")
    parser.add_argument("--only-selective", action="store_true", help="selective beside plain alone; writes nothing")
    options = parser.parse_args()
    console = Console(width=110)
    with platform_of_its_own() as measured:
        if options.only_selective:
            with measured.connect() as connection:
                console.print(f"{fill_raw_all(connection):,} lines in raw")
            measured.build("first")
            measure_selective(measured, console.print)
            return
        builds = measure_builds(measured, console.print)
        values, differing = compare_with_pandas(measured)
        console.print(f"{values:,} values compared with pandas, {len(differing)} columns differ")
        if differing:
            raise SystemExit("gold is not what pandas computes: " + "; ".join(differing))
        sides = measure_selective(measured, console.print)
        partitions = [] if options.without_promotions else measure_partitions(measured, console.print)
    write(builds, values, sides, partitions)


if __name__ == "__main__":
    main()
