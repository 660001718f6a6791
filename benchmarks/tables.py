"""`python -m benchmarks.tables`: a source of many small tables, through Prefect, first loaded and then unchanged.

The limit is COPY of every table, as many at a time, and nothing more: no ledger, no key, no reconciliation, no Prefect.
Prefect's server and the databases share the cores with the flow, as on a machine of one's own.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psycopg

from benchmarks import prefect_database
from benchmarks.cluster import Bench, private_cluster
from benchmarks.measure import Sample, run
from benchmarks.tables_once import AT_ONCE, name

_RESULTS = Path(__file__).with_name("results")
_ROWS = 200
_COLUMNS = """
    id bigint primary key, code text not null, amount numeric(12, 2) not null, quantity integer not null,
    is_open boolean not null, note text, day date not null, updated_at timestamptz not null
"""
_FILL = f"""
    insert into {{table}} select n, 'code ' || n, n / 7.0, n % 9, n % 2 = 0, case when n % 3 = 0 then 'note ' || n end,
        date '2024-01-01' + n, timestamptz '2024-01-01 00:00:00+00' + n * interval '1 minute'
    from generate_series(1, {_ROWS}) as n
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a whole process; what it left at Prefect's server, and by how much that server's database grew.

    CPU seconds of the flow's process, of Prefect's server with its database, and of source and warehouse: on a machine
    that does other things meanwhile, these say more than the seconds.
    """

    case: str
    tool: str
    tables: int
    seconds: float
    ratio_to_limit: float
    peak_mb: float
    cpu_flow: float
    cpu_prefect: float
    cpu_databases: float
    task_runs: int = 0
    states: int = 0
    log_lines: int = 0
    events: int = 0
    kb_per_table: float = 0.0


def main() -> None:
    """Measure each number of tables, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--tables", type=int, nargs="+", default=[500, 2000])
    options = parser.parse_args()
    measured: list[Measured] = []
    for tables in options.tables:
        with private_cluster() as bench, prefect_database.serving("PostgreSQL") as prefect:
            _register_limits(prefect)
            _fill(bench, tables)
            for one in _measure(bench, prefect, tables):
                print(asdict(one), flush=True)
                measured.append(one)
                _RESULTS.mkdir(exist_ok=True)
                (_RESULTS / "tables.json").write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")


def _register_limits(prefect: prefect_database.Bench) -> None:
    """As `medallion deploy` does."""
    with httpx.Client(base_url=prefect.api, auth=prefect.auth, trust_env=False) as client:
        for limit in ("warehouse", "source-bench"):
            client.post("/v2/concurrency_limits/", json={"name": limit, "limit": AT_ONCE}).raise_for_status()


def _fill(bench: Bench, tables: int) -> None:
    with psycopg.connect(bench.source) as connection:
        for number in range(tables):
            connection.execute(f"create table {name(number)} ({_COLUMNS})".encode())
            connection.execute(_FILL.format(table=name(number)).encode())
            if number % 100 == 99:
                connection.commit()
    bench.execute("source", "vacuum analyze")
    bench.execute("warehouse", f"create schema floor create table form ({_COLUMNS})")


def _measure(bench: Bench, prefect: prefect_database.Bench, tables: int) -> Iterator[Measured]:
    case, limit = f"first load of {tables:,} tables of {_ROWS} rows", 0.0
    for each, tool, mode in (
        (case, "COPY", "floor"),
        (case, "medallion", "ingest"),
        (f"{tables:,} tables, unchanged", "medallion", "ingest"),
    ):
        before, size, cpu = _left(prefect), prefect.bytes(), _cpu(bench, prefect)
        sample = _once(bench, prefect, mode, tables)
        limit = limit or sample.seconds
        if mode == "ingest":
            time.sleep(8)  # the last events are written within 5 s
        flow, server, databases = (now - then for now, then in zip(_cpu(bench, prefect), cpu, strict=True))
        task_runs, states, log_lines, events = (now - then for now, then in zip(_left(prefect), before, strict=True))
        yield Measured(
            each,
            tool,
            tables,
            seconds=round(sample.seconds, 2),
            ratio_to_limit=round(sample.seconds / limit, 2),
            peak_mb=round(sample.peak_mb, 1),
            cpu_flow=round(flow, 1),
            cpu_prefect=round(server, 1),
            cpu_databases=round(databases, 1),
            task_runs=task_runs,
            states=states,
            log_lines=log_lines,
            events=events,
            kb_per_table=round((prefect.bytes() - size) / tables / 1000, 1),
        )


def _cpu(bench: Bench, prefect: prefect_database.Bench) -> tuple[float, float, float]:
    """Of the processes that were run and have ended, of Prefect, and of the databases."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, sum(prefect.cpu()), sum(bench.cpu())


def _left(prefect: prefect_database.Bench) -> list[int]:
    assert prefect.url is not None
    with psycopg.connect(prefect.url) as session:
        rows = [
            session.execute(f"select count(*) from {table}".encode()).fetchone()
            for table in ("task_run", "task_run_state", "log", "events")
        ]
    return [int(row[0]) for row in rows if row is not None]


def _once(bench: Bench, prefect: prefect_database.Bench, mode: str, tables: int) -> Sample:
    home = prefect.server.folder.parent / "client"
    return run(
        [sys.executable, "-m", "benchmarks.tables_once", mode, str(tables)],
        {
            "BENCH_SOURCE": bench.source,
            "BENCH_WAREHOUSE": bench.warehouse,
            "MEDALLION_SOURCE_BENCH_URL": bench.source,
            "MEDALLION_WAREHOUSE_URL": bench.warehouse,
            "MEDALLION_HOME": str(home),
            **prefect.client(),
            "PREFECT_HOME": str(home),
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "results"),
        },
    )


if __name__ == "__main__":
    main()
