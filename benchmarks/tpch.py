"""`python -m benchmarks.tpch`: the eight tables of TPC-H from one PostgreSQL to another, by `pg_dump`, us and others.

`pg_dump | psql` is the limit: it copies the bytes and builds the primary keys, without ledger, metadata or comparison.
Each tool loads all tables from nothing by its fastest documented way, and each run's rows are counted afterwards.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.cluster import Bench, private_cluster
from benchmarks.database import forget
from benchmarks.measure import Contender, Median, Sample, in_turns, run
from benchmarks.peers import forget as forget_peers
from benchmarks.peers import peers
from benchmarks.tpch_once import KEYS

_RESULTS = Path(__file__).with_name("results")
_FORGET = (
    "drop schema if exists raw_bench, landing cascade; truncate ops.cursors, ops.loads cascade; create schema landing"
)
_LIMIT = "pg_dump | psql"
_PUBLISHED = "ingestr 6.2, dlt 23 and `pg_dump | psql` 2.9 CPU seconds per million rows"
# Where each tool leaves the tables.
_SCHEMAS = {_LIMIT: "public", "dlt, connectorx": "raw_dlt", "ingestr": "raw_ingestr", "Sling": "raw_sling"}


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpch", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="the scale factor; 1 is 8.66 million rows")
    parser.add_argument("--runs", type=int, default=3, help="runs of each tool; medians are reported")
    options = parser.parse_args()
    with private_cluster() as bench:
        rows = _generate(bench, options.scale)
        check = functools.partial(_check, bench)
        measured = in_turns(_contenders(bench), options.runs, bench.cpu, sum(rows.values()), check)
    limit = next(one.seconds for one in measured if one.tool == _LIMIT)
    measured = [replace(one, ratio_to_limit=one.seconds / limit) for one in measured]
    for one in measured:
        print(" ".join(_cells(one)))
    _write(measured, rows, options.scale, options.runs)


def _generate(bench: Bench, scale: float) -> dict[str, int]:
    """The tables in the source; returns how many rows each has."""
    bench.execute("source", Path(__file__).with_name("tpch.sql").read_text())
    program = Path(sys.executable).parent / "tpchgen-cli"
    with tempfile.TemporaryDirectory(prefix="mdl-tpch-") as folder:
        for table in KEYS:
            run([str(program), "csv", "-q", "-s", str(scale), "--tables", table, "--output-dir", folder])
            file = Path(folder) / f"{table}.csv"
            copy = f"\\copy {table} from '{file}' with (format csv, header)"
            run([str(bench.programs / "psql"), "-qX", bench.source, "-v", "ON_ERROR_STOP=1", "-c", copy])
            file.unlink()
    bench.execute("source", "vacuum analyze")
    bench.execute("source", "checkpoint")
    return {table: bench.count("source", f"select count(*) from {table}") for table in KEYS}


def _contenders(bench: Bench) -> list[Contender]:
    def emptied() -> None:
        bench.execute("warehouse", f"drop table if exists {', '.join(KEYS)}")
        forget(bench)
        forget_peers(bench)

    ours = {"medallion": "", "medallion, with primary keys": "1"}
    tools: dict[str, Callable[[], Sample]] = {_LIMIT: lambda: _dump(bench)}
    tools |= {name: functools.partial(_ours, bench, keys) for name, keys in ours.items()}
    tools |= peers(bench, tuple(KEYS))
    return [("eight tables", tool, emptied, once) for tool, once in tools.items()]


def _check(bench: Bench, tool: str) -> None:
    """Each table has as many rows as at the source."""
    schema = _SCHEMAS.get(tool, "raw_bench")
    for table in KEYS:
        at_source = bench.count("source", f"select count(*) from {table}")
        loaded = bench.count("warehouse", f"select count(*) from {schema}.{table}")
        assert loaded == at_source, f"{tool}: {table} has {loaded} of {at_source} rows"


def _dump(bench: Bench) -> Sample:
    tables = " ".join(f"-t public.{table}" for table in KEYS)
    dump = f"{bench.programs / 'pg_dump'} --no-owner --no-privileges {tables} '{bench.source}'"
    return run(f"{dump} | {bench.programs / 'psql'} -qX -v ON_ERROR_STOP=1 '{bench.warehouse}'")


def _ours(bench: Bench, keys: str) -> Sample:
    return run(
        [sys.executable, "-m", "benchmarks.tpch_once"],
        {"BENCH_KEYS": keys, "BENCH_SOURCE": bench.source, "BENCH_WAREHOUSE": bench.warehouse},
    )


def _cells(one: Median) -> list[str]:
    per_million = [seconds / one.rows * 1e6 for seconds in (one.cpu_source, one.cpu_tool, one.cpu_warehouse)]
    return [
        one.tool,
        f"{one.seconds:.1f}",
        f"{one.ratio_to_limit:.2f}",
        *(f"{seconds:.2f}" for seconds in (*per_million, one.cpu_per_million)),
        f"{one.peak_mb:.0f}" if one.peak_mb else "",
    ]


def _write(measured: list[Median], rows: dict[str, int], scale: float, runs: int) -> None:
    _RESULTS.mkdir(exist_ok=True)
    records = [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in measured
    ]
    (_RESULTS / "tpch.json").write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    versions = ", ".join(
        f"{name} {_version(name)}" for name in ("dlt", "connectorx", "ingestr", "sling", "tpchgen-cli")
    )
    lines = [
        "# TPC-H, PostgreSQL to PostgreSQL",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}: the eight tables at scale factor {scale:g}, {sum(rows.values()):,} rows, "
        f"medians of {runs} runs in turns, full processes; one PostgreSQL 18 to another on loopback, Python "
        f"{platform.python_version()}; {versions}. CPU seconds are those of the source's server, of the tool's "
        "processes and of the warehouse's server, per million rows. Ledger, metadata and reconciliation are on "
        "in ours.",
        "",
        "| tool | seconds | times the limit | CPU s/M source | CPU s/M tool | CPU s/M warehouse | CPU s/M | peak MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(one))} |" for one in measured),
        "",
        "`pg_dump | psql` also builds the primary keys, as does ours in its second line; the other tools build none.",
        "",
        "ingestr 0.15.9 and Sling 1.4.11 are the last releases whose program comes as a Python package. Newer ones "
        "(ingestr 1.1.76, Sling 1.6.5) download their program from a code host and could not be run here. "
        f"Published for the same tables, on another machine: {_PUBLISHED}.",
        "",
    ]
    (_RESULTS / "tpch.md").write_text("\n".join(lines), encoding="utf-8")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    main()
