"""`python -m benchmarks.sizes`: whether memory stays flat when a table is ten times as large, and 20.9 M real rows.

The real rows are the promotions of the demo's grocery chain, which the demo itself leaves out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from benchmarks.cluster import Bench, private_cluster
from benchmarks.database import copy_by_psql, forget
from benchmarks.measure import Sample, run
from demo.dataset import path_of

_RESULTS = Path(__file__).with_name("results")
_PROMOTIONS = """
    drop table if exists promotions;
    create table promotions (
        promotion_id bigint generated always as identity,
        product_id bigint not null,
        store_id bigint not null,
        display_location text,
        mailer_location text,
        week smallint not null
    )
"""
_COLUMNS = "product_id, store_id, display_location, mailer_location, week"


@dataclass(frozen=True, slots=True)
class Measured:
    """One load of a whole process; `peak_mb` is the most memory that it held."""

    case: str
    tool: str
    rows: int
    seconds: float
    ratio_to_limit: float
    peak_mb: float


def main() -> None:
    """Measure each size, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000, 20_000_000])
    options = parser.parse_args()
    measured: list[Measured] = []
    for rows in options.rows:
        with private_cluster() as bench:
            measured += _shown(_orders(bench, rows))
    with private_cluster() as bench:
        measured += _shown(_promotions(bench))
    (_RESULTS / "sizes.json").write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")


def _shown(measured: Iterator[Measured]) -> Iterator[Measured]:
    for one in measured:
        print(f"{one.case}, {one.tool}: {one.seconds:.1f} s, {one.ratio_to_limit:.2f} times, peak {one.peak_mb:.0f} MB")
        yield one


def _orders(bench: Bench, rows: int) -> Iterator[Measured]:
    ddl = Path(__file__).with_name("order_items.sql").read_text()
    bench.execute("source", ddl.format(rows=f"{rows}::bigint"))
    yield from _pair(bench, f"order items, {rows:,} rows", "order_items", rows, "merge")


def _promotions(bench: Bench) -> Iterator[Measured]:
    bench.execute("source", _PROMOTIONS)
    rows = 0
    with psycopg.connect(bench.source) as connection, parquet.ParquetFile(path_of("promotions")) as file:
        with connection.cursor().copy(f"copy promotions ({_COLUMNS}) from stdin (format csv)") as copy:
            for batch in file.iter_batches(200_000, columns=_COLUMNS.split(", ")):
                rows += batch.num_rows
                csv.write_csv(batch, _Sink(copy.write), csv.WriteOptions(include_header=False))
        connection.execute("alter table promotions add primary key (promotion_id)")
    bench.execute("source", "vacuum analyze promotions")
    yield from _pair(bench, f"promotions, {rows:,} real rows", "promotions", rows, "promotions")


def _pair(bench: Bench, case: str, table: str, rows: int, mode: str) -> Iterator[Measured]:
    """The limit, then ours."""
    forget(bench)
    limit = copy_by_psql(bench, table)
    yield Measured(case, "psql | psql", rows, round(limit.seconds, 2), 1.0, 0.0)
    bench.execute("warehouse", f"drop table {table}")
    forget(bench)
    ours = _load(bench, mode)
    held = bench.count("warehouse", f"select count(*) from raw_bench.{table}")
    assert held == rows, (held, rows)
    ratio = round(ours.seconds / limit.seconds, 2)
    yield Measured(case, "medallion", rows, round(ours.seconds, 2), ratio, round(ours.peak_mb, 1))
    again = _load(bench, mode)
    yield Measured(
        f"{case}, nothing new",
        "medallion",
        rows,
        round(again.seconds, 2),
        round(again.seconds / limit.seconds, 2),
        round(again.peak_mb, 1),
    )


def _load(bench: Bench, mode: str) -> Sample:
    addresses = {"BENCH_SOURCE": bench.source, "BENCH_WAREHOUSE": bench.warehouse}
    return run([sys.executable, "-m", "benchmarks.load_once"], addresses | {"BENCH_MODE": mode})


class _Sink:
    """Somewhere for pyarrow to write."""

    closed = False

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """The COPY is closed by whoever opened it."""


if __name__ == "__main__":
    main()
