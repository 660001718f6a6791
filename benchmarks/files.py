"""`python -m benchmarks.files`: a large CSV file into PostgreSQL, by COPY of its bytes and by us.

The limit is COPY into columns of text, which checks nothing. Ours types 15 columns, knows the line of each row, hashes
the file, and has ledger and reconciliation on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.cluster import Bench, private_cluster
from benchmarks.files_once import COLUMNS
from benchmarks.measure import Sample, run

_RESULTS = Path(__file__).with_name("results")
_LIMIT = "COPY of the bytes into text: the limit"
_TOOLS = {_LIMIT: ("copy", "landing.bare"), "medallion": ("medallion", "raw_bench.statements")}
_FORGET = (
    "drop schema if exists raw_bench, landing cascade; create schema landing; "
    "truncate ops.cursors, ops.loads, ops.files cascade",
    "checkpoint",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of whole processes, start-up included."""

    case: str
    tool: str
    rows: int
    megabytes: float
    seconds: float
    ratio_to_limit: float
    peak_mb: float
    cpu_seconds: float


def main() -> None:
    """Measure, print, and write the results of a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the file; fewer to try things out")
    parser.add_argument("--runs", type=int, default=3, help="runs of each tool, in turns")
    options = parser.parse_args()
    with private_cluster() as bench, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statements.csv"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_lines(options.rows))
        measured = _measure(bench, path, options.rows, options.runs)
    for one in measured:
        print(f"{one.tool}: {one.seconds:.2f} s, {one.ratio_to_limit:.2f} times the limit, {one.peak_mb:.0f} MB")
    if options.rows == parser.get_default("rows"):
        _RESULTS.mkdir(exist_ok=True)
        (_RESULTS / "files.json").write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")


def _measure(bench: Bench, path: Path, rows: int, runs: int) -> list[Measured]:
    samples: dict[str, list[Sample]] = {tool: [] for tool in _TOOLS}
    for _ in range(runs):
        for tool, (how, table) in _TOOLS.items():
            for statement in _FORGET:
                bench.execute("warehouse", statement)
            variables = {"BENCH_FOLDER": str(path.parent), "BENCH_WAREHOUSE": bench.warehouse, "BENCH_HOW": how}
            samples[tool].append(run([sys.executable, "-m", "benchmarks.files_once"], variables))
            found = bench.count("warehouse", f"select count(*) from {table}")
            assert found == rows, f"{tool} brought {found} of {rows} rows"
    limit = median(one.seconds for one in samples[_LIMIT])
    return [
        Measured(
            "CSV",
            tool,
            rows,
            round(path.stat().st_size / 1e6, 1),
            round(median(one.seconds for one in found), 2),
            round(median(one.seconds for one in found) / limit, 2),
            round(median(one.peak_mb for one in found), 1),
            round(median(one.cpu_tool for one in found), 2),
        )
        for tool, found in samples.items()
    ]


def _lines(rows: int) -> Iterator[str]:
    """Rows of a bank's statement; one in ten has a quoted text, one in a thousand a line break in it."""
    chance = random.Random(7)
    yield ",".join(COLUMNS) + "\n"
    for number in range(rows):
        day = f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}"
        cents = chance.randrange(10_000_000)
        purpose = f"order {number}"
        if number % 10 == 0:
            purpose = f'"invoice {number},\n""thank you"""' if number % 1000 == 0 else f'"invoice {number}, part"'
        yield (
            f"{number},DE{number % 9973:020},{day},{day} {number % 24:02}:{number % 60:02}:30,"
            f"{cents // 100}.{cents % 100:02},{cents // 50}.{cents % 100:02},EUR,{number % 50},"
            f"{chance.random():.6f},{'true' if number % 3 else 'false'},customer {number % 5000},{purpose},"
            f"{_uuid(chance)},branch {number % 40},{number % 1000}\n"
        )


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


if __name__ == "__main__":
    main()
