"""`python -m benchmarks.reconcile`: how long it takes to prove that two ends agree, or to name ten rows that differ.

Beside it stands the least that any proof needs: one scan of every row at each end, both at one time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cluster import Bench, private_cluster
from benchmarks.load_once import TABLES
from benchmarks.measure import Sample, run
from flows.kinds.postgres import Database
from flows.values.connection import DatabaseConnection
from flows.verbs.compare import compare_table

_RESULTS = Path(__file__).with_name("results")
_DAMAGE = (
    "update raw_bench.order_items set note = 'x' where order_item_id in (1, 10000, 20000, 30000)",
    "delete from raw_bench.order_items where order_item_id in (2, 10002, 40000)",
    "insert into raw_bench.order_items select 10000000000 + order_item_id, order_id, product_id, seller_id, quantity, "
    "unit_price, discount, tax_rate, currency, status, is_gift, note, attributes, shipped_on, updated_at, "
    "_extracted_at, _source_system, _batch_id from raw_bench.order_items where order_item_id in (3, 4, 5)",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One case: medians of several runs of a whole process, start-up included, and of the comparison within it."""

    case: str
    rows: int
    seconds: float
    process_seconds: float
    ratio_to_scan: float
    peak_mb: float


def main() -> None:
    """Measure each size, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 2_000_000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    measured: list[Measured] = []
    for rows in options.rows:
        with private_cluster() as bench:
            measured += _measure(bench, rows, options.runs)
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "reconcile.json").write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")


def _measure(bench: Bench, rows: int, runs: int) -> list[Measured]:
    ddl = Path(__file__).with_name("order_items.sql").read_text()
    bench.execute("source", ddl.format(rows=f"{rows}::bigint"))
    run([sys.executable, "-m", "benchmarks.load_once"], _addresses(bench) | {"BENCH_MODE": "merge"})
    for end, table in (("source", "order_items"), ("warehouse", "raw_bench.order_items")):
        bench.execute(end, f"vacuum analyze {table}")
    scan = statistics.median(_scan(bench) for _ in range(runs))
    print(f"{rows:,} rows: one scan of both ends {scan:.2f} s")
    measured = []
    for case, statements in (("agree", ()), ("10 rows differ", _DAMAGE)):
        for statement in statements:
            bench.execute("warehouse", statement)
        inner, samples = [], list[Sample]()
        for _ in range(runs):
            done = _RESULTS.parent / ".reconcile_seconds"
            samples.append(
                run(
                    [sys.executable, "-c", "from benchmarks.reconcile import once; once()"],
                    _addresses(bench) | {"BENCH_DIFFERENCES": "10" if statements else "0", "BENCH_SAYS": str(done)},
                )
            )
            inner.append(float(done.read_text()))
            done.unlink()
        seconds = statistics.median(inner)
        one = Measured(
            case,
            rows,
            round(seconds, 2),
            round(statistics.median(sample.seconds for sample in samples), 2),
            round(seconds / scan, 1),
            round(max(sample.peak_mb for sample in samples)),
        )
        print(f"  {case}: {one.seconds:.2f} s, {one.ratio_to_scan:.1f} times the scan, peak {one.peak_mb:.0f} MB")
        measured.append(one)
    return measured


def _addresses(bench: Bench) -> dict[str, str]:
    return {"BENCH_SOURCE": bench.source, "BENCH_WAREHOUSE": bench.warehouse}


def _scan(bench: Bench) -> float:
    """Every row of both ends read once, as an aggregate must, and nothing computed."""
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda end: bench.count(end[0], f"select count(note) from {end[1]}"),
                [("source", "order_items"), ("warehouse", "raw_bench.order_items")],
            )
        )
    return time.perf_counter() - started


def once() -> None:
    """One comparison in this process; its own seconds go to a file."""
    table = TABLES["merge"]
    result = asyncio.run(
        compare_table(
            DatabaseConnection("warehouse", os.environ["BENCH_WAREHOUSE"]),
            DatabaseConnection("source", os.environ["BENCH_SOURCE"]),
            Database("bench", connection="bench", tables=[table]),
            table,
        )
    )
    assert result.differences == int(os.environ["BENCH_DIFFERENCES"]), result
    Path(os.environ["BENCH_SAYS"]).write_text(str(result.seconds))


if __name__ == "__main__":
    main()
