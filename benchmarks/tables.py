"""`python -m benchmarks.tables`: a source of many small tables, through Prefect, first loaded and then unchanged.

The limit is COPY of every table, as many at a time, and nothing more: no ledger, no key, no reconciliation, no Prefect.
Prefect's server and the databases share the cores with the flow, as on a machine of one's own.
"""

from __future__ import annotations

import argparse
import json
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
    """One run of a whole process; what it left at Prefect's server, and by how much that server's database grew."""

    case: str
    tool: str
    tables: int
    seconds: float
    ratio_to_limit: float
    peak_mb: float
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
    limit = _once(bench, prefect, "floor", tables)
    case = f"first load of {tables:,} tables of {_ROWS} rows"
    yield Measured(case, "COPY", tables, round(limit.seconds, 2), 1.0, round(limit.peak_mb, 1))
    bench.execute("warehouse", "drop schema floor cascade")
    for each in (case, f"{tables:,} tables, unchanged"):
        before, size = _left(prefect), prefect.bytes()
        sample = _once(bench, prefect, "ingest", tables)
        time.sleep(8)  # the last events are written within 5 s
        after, grown = _left(prefect), prefect.bytes() - size
        yield Measured(
            each,
            "medallion",
            tables,
            round(sample.seconds, 2),
            round(sample.seconds / limit.seconds, 2),
            round(sample.peak_mb, 1),
            *(now - then for now, then in zip(after, before, strict=True)),
            kb_per_table=round(grown / tables / 1000, 1),
        )


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
