"""`python -m benchmarks.captured`: what triggers cost the applications of a source.

Inserts and updates of a table without triggers, with statement triggers (transition tables), and with row triggers:
one row per statement, as an application writes, and a thousand, as a job does. CPU seconds are the source server's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from benchmarks.cluster import Bench, private_cluster
from flows.declare import Merge, Triggers
from flows.kinds.captured import Table
from flows.kinds.captured.names import SCHEMA, Names
from flows.kinds.captured.statements import KeyColumn, Statements

_RESULTS = Path(__file__).with_name("results")
_SINGLE = "single-row statements"
_MANY = "statements of 1,000 rows"


@dataclass(frozen=True, slots=True)
class Measured:
    """One case: medians of several runs."""

    case: str
    triggers: str
    rows: int
    seconds: float
    rows_per_second: int
    source_cpu_seconds_per_million: float
    cpu_times_none: float


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.captured", description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=20_000, help="rows of single-row statements; ten times as many else"
    )
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cases = [
        (f"insert, {_SINGLE}", options.rows, _single("insert into items values (%s, 'new', 1)")),
        (f"update, {_SINGLE}", options.rows, _single("update items set amount = amount + 1 where id = %s")),
        (f"insert, {_MANY}", options.rows * 10, _many("insert into items select n, 'new', 1 from {numbers} as n")),
        (f"update, {_MANY}", options.rows * 10, _many("update items set amount = amount + 1 where id {between}")),
    ]
    measured: list[Measured] = []
    with private_cluster() as bench:
        for case, rows, write in cases:
            without = 0.0
            for triggers in ("none", "statement", "row"):
                taken = [_once(bench, triggers, rows, write, filled="update" in case) for _ in range(options.runs)]
                seconds = statistics.median(one[0] for one in taken)
                cpu = statistics.median(one[1] for one in taken)
                without = cpu if triggers == "none" else without
                one = Measured(
                    case,
                    triggers,
                    rows,
                    round(seconds, 2),
                    round(rows / seconds),
                    round(cpu / rows * 1e6, 1),
                    round(cpu / without, 2),
                )
                print(one)
                measured.append(one)
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "captured.json").write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")


def _once(
    bench: Bench, triggers: str, rows: int, write: Callable[[psycopg.Connection, int], None], *, filled: bool
) -> tuple[float, float]:
    """Seconds and CPU seconds of the server for so many rows."""
    bench.execute("source", f"drop schema if exists {SCHEMA} cascade")
    bench.execute("source", "drop table if exists items")
    bench.execute("source", "create table items (id bigint primary key, name text, amount int)")
    if filled:
        bench.execute("source", f"insert into items select n, 'old', 0 from generate_series(0, {rows - 1}) as n")
    if triggers != "none":
        table = Table("items", key="id", load=Merge())
        key = [KeyColumn("id", "bigint", "bigint")]
        made = Statements(Names.of("shop", table), table.relation, key, Triggers(), by_row=triggers == "row")
        bench.execute("source", f"create schema {SCHEMA}")
        for statement in (*made.change_table(), made.function(), *made.create_triggers()):
            bench.execute("source", statement)
    bench.execute("source", "vacuum analyze items")
    bench.execute("source", "checkpoint")
    before, began = bench.cpu()[0], time.monotonic()
    with psycopg.connect(bench.source, autocommit=True) as connection:
        write(connection, rows)
    seconds = time.monotonic() - began
    return seconds, bench.cpu()[0] - before


def _single(statement: str) -> Callable[[psycopg.Connection, int], None]:
    def write(connection: psycopg.Connection, rows: int) -> None:
        for number in range(rows):
            connection.execute(statement.encode(), [number], prepare=True)

    return write


def _many(statement: str) -> Callable[[psycopg.Connection, int], None]:
    def write(connection: psycopg.Connection, rows: int) -> None:
        for first in range(0, rows, 1_000):
            last = first + 999
            text = statement.format(numbers=f"generate_series({first}, {last})", between=f"between {first} and {last}")
            connection.execute(text.encode())

    return write


if __name__ == "__main__":
    main()
