"""`python -m benchmarks.profiles`: the CPU seconds that profiles add to loads.

A first load of the benchmark's table, and merges of few and of many rows, each in turns with and without profiles.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cluster import Bench, private_cluster
from benchmarks.measure import run
from flows.values.settings import Settings

_RESULT = Path(__file__).with_name("results") / "profiles.json"
_CREATE = Path(__file__).with_name("order_items.sql")


@dataclass(frozen=True, slots=True)
class Overhead:
    """Medians of several loads in CPU seconds: of the loading process, and of both servers."""

    case: str
    rows: int
    without_profiles: float
    with_profiles: float
    added: float
    added_per_million_rows: float
    added_percent: float


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--times", type=int, default=6)
    options = parser.parse_args()
    with private_cluster() as bench:
        bench.execute("source", _CREATE.read_text().format(rows=options.rows))
        results = [_case(bench, "first load", options.rows, options.times)]
        for changed in (1_000, options.rows // 10):
            results.append(_case(bench, "merge", changed, options.times))
    _RESULT.write_text(json.dumps([asdict(each) for each in results], indent=2) + "\n")
    for each in results:
        print(asdict(each))


def _case(bench: Bench, case: str, rows: int, times: int) -> Overhead:
    without: list[float] = []
    profiled: list[float] = []
    default = Settings().profile_rows
    for time in range(times):
        # In turns, because of what else the machine does; and each first in turn, because merges make tables grow.
        for most in (0, default) if time % 2 else (default, 0):
            (profiled if most else without).append(_load(bench, case, rows, most))
    before, after = statistics.median(without), statistics.median(profiled)
    added = after - before
    return Overhead(
        case, rows, round(before, 2), round(after, 2), round(added, 3), round(added * 1e6 / rows, 3),
        round(100 * added / before, 1),
    )  # fmt: skip


def _load(bench: Bench, case: str, rows: int, profiled: int) -> float:
    if case == "merge":
        bench.execute(
            "source",
            "update order_items set unit_price = unit_price + 1, updated_at = clock_timestamp() where order_item_id in "
            f"(select order_item_id from order_items order by order_item_id limit {rows})",
        )
        bench.execute("source", "vacuum order_items")
    else:
        bench.execute("warehouse", "drop schema if exists raw_bench cascade; truncate ops.loads, ops.cursors cascade")
    environment = {
        "BENCH_SOURCE": bench.source,
        "BENCH_WAREHOUSE": bench.warehouse,
        "BENCH_MODE": "merge",
        "MEDALLION_PROFILE_ROWS": str(profiled),
        "MEDALLION_LARGE_LOAD_MB": "100000",
        "MEDALLION_MEDIUM_LOAD_MB": "100000",
    }
    before = sum(bench.cpu())
    sample = run([sys.executable, "-m", "benchmarks.load_once"], {**os.environ, **environment})
    return sample.cpu_tool + sum(bench.cpu()) - before


if __name__ == "__main__":
    main()
