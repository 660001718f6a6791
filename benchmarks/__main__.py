"""`make bench`: measure, print, and write benchmarks/results/."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import database
from benchmarks.cluster import private_cluster
from benchmarks.measure import Median

_RESULTS = Path(__file__).with_name("results")
_COLUMNS = (
    *("case", "tool", "seconds", "times the limit", "peak MB"),
    *("CPU s/M source", "CPU s/M tool", "CPU s/M warehouse", "CPU s/M"),
)


def main() -> None:
    """Measure the database cases and write their page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the order table")
    parser.add_argument("--runs", type=int, default=5, help="runs of each case; medians are reported")
    parser.add_argument("--only", default="", help="a part of the names of cases: only they, and nothing is written")
    options = parser.parse_args()
    console = Console(width=150)
    measured: list[Median] = []
    with private_cluster() as bench:
        for median in database.measure(bench, options.rows, options.runs, options.only):
            limit = _limit(median, measured)
            measured.append(replace(median, ratio_to_limit=round(median.seconds / limit, 2)))
            console.print(f"{median.case}, {median.tool}: {median.seconds:.2f} s")
    console.print(_table(measured))
    if not options.only:
        _write(measured, options.rows, options.runs)


def _limit(median: Median, before: list[Median]) -> float:
    """Seconds of the limit that a case is held against: the bare COPY, or for a merge the bare statement."""
    limits = {one.case: one.seconds for one in [*before, median] if one.tool in database.LIMITS}
    return limits.get(median.case, limits["full load"])


def _table(measured: list[Median]) -> Table:
    table = Table(title="Database to database")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("case", "tool") else "right")
    for one in measured:
        table.add_row(*_cells(one))
    return table


def _cells(one: Median) -> list[str]:
    cpu = (one.cpu_source, one.cpu_tool, one.cpu_warehouse)
    per_million = [*(seconds / one.rows * 1e6 for seconds in cpu), one.cpu_per_million] if one.rows else []
    return [
        one.case,
        one.tool,
        f"{one.seconds:.2f}",
        f"{one.ratio_to_limit:.2f}",
        f"{one.peak_mb:.0f}" if one.peak_mb else "",
        *((f"{seconds:.2f}" for seconds in per_million) if per_million else [""] * 4),
    ]


def _write(measured: list[Median], rows: int, runs: int) -> None:
    _RESULTS.mkdir(exist_ok=True)
    records = [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in measured
    ]
    (_RESULTS / "database.json").write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    lines = [
        "# Database to database",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}: {rows:,} rows of 15 columns, medians of {runs} runs, whole processes; "
        f"one PostgreSQL 18 to another on loopback, Python {platform.python_version()}, "
        f"asyncpg {version('asyncpg')}. Rules, ledger and reconciliation are on in ours; the limit copies bytes only. "
        "Ours with a key (replace, merge) builds it; every run of ours begins with starting Python.",
        "",
        "CPU seconds are those of the source's server, of the tool's processes and of the warehouse's server, per "
        "million rows that were loaded (of a merge, those that changed).",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(one))} |" for one in measured),
        "",
    ]
    (_RESULTS / "database.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
