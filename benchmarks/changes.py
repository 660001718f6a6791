"""`python -m benchmarks.changes`: changes of PostgreSQL's log, read and applied, against reading the log alone.

Updates in transactions of 1,000 and in a single one, and a mix of inserts, updates and deletes: read raw (messages are
sent and thrown away), loaded by one load, and followed until caught up. Then 2,000 changes a second while following:
from the commit at the source until the row is visible in raw.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from benchmarks.changes_once import follow
from benchmarks.cluster import Bench, private_cluster

_RESULTS = Path(__file__).with_name("results")
_IN_ONE = 1_000_000_000
_UPDATE = "update items set amount = amount + 1, name = 'changed' where id {between}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One way to read the changes of one case: seconds, and CPU seconds of the process and of both servers.

    `times_raw`: its seconds in terms of those of the raw read of the same log.
    """

    case: str
    way: str
    changes: int
    seconds: float
    changes_per_second: int
    times_raw: float
    cpu_seconds_per_million: float
    source_cpu_seconds_per_million: float
    warehouse_cpu_seconds_per_million: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Latency:
    """From a commit at the source until its row is visible in raw, in milliseconds."""

    changes_per_second: int
    seconds: int
    p50: int
    p95: int
    p99: int
    longest: int


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="rows of the table, each changed once")
    parser.add_argument("--seconds", type=int, default=30, help="how long 2,000 changes a second are written")
    parser.add_argument("--keep", action="store_true", help="write no results")
    options = parser.parse_args()
    cases: list[tuple[str, Callable[[Bench, int], int]]] = [
        ("updates, 1,000 a transaction", lambda bench, rows: _update(bench, rows, 1_000)),
        ("updates in one transaction", lambda bench, rows: _update(bench, rows, _IN_ONE)),
        ("inserts, updates and deletes", _mix),
    ]
    with private_cluster() as bench:
        os.environ |= {"BENCH_WAREHOUSE": bench.warehouse, "BENCH_SOURCE": bench.source}
        measured = [one for case, write in cases for one in _case(bench, case, write, options.rows)]
        latency = asyncio.run(_latency(bench, options.seconds))
    for one in (*measured, latency):
        print(one)
    if not options.keep:
        found = {"throughput": [asdict(one) for one in measured], "latency_ms": asdict(latency)}
        (_RESULTS / "changes.json").write_text(json.dumps(found, indent=2) + "\n")


def _case(bench: Bench, case: str, write: Callable[[Bench, int], int], rows: int) -> list[Measured]:
    found: list[Measured] = []
    for way in ("load", "follow"):
        _begin(bench, rows)
        changes = write(bench, rows)
        raw = _once(bench, case, "raw", changes, 0.0)
        if not found:
            found.append(raw)
        found.append(_once(bench, case, way, changes, raw.seconds))
        assert bench.count("warehouse", _SUM.format("raw_bench.items where _deleted_at is null")) == bench.count(
            "source", _SUM.format("items")
        )
    return found


_SUM = "select coalesce(sum(hashtext(id || ' ' || amount || ' ' || name)::bigint), 0)::bigint from {}"


def _begin(bench: Bench, rows: int) -> None:
    """The table, loaded, with its slot."""
    bench.execute("source", "select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    bench.execute("source", "drop publication if exists bench")
    bench.execute("source", "drop table if exists items")
    bench.execute("warehouse", "drop schema if exists raw_bench cascade")
    bench.execute("warehouse", "truncate ops.loads, ops.cursors, ops.change_counts cascade")
    columns = ", ".join(f"more_{number} int default {number}" for number in range(12))
    bench.execute(
        "source", f"create table items (id bigint primary key, name text not null, amount int not null, {columns})"
    )
    bench.execute("source", f"insert into items select n, 'row ' || n, 0 from generate_series(1, {rows}) as n")
    bench.execute("source", "create publication bench for table items with (publish_via_partition_root = true)")
    bench.execute("source", "select pg_create_logical_replication_slot('bench', 'pgoutput')")
    bench.execute("source", "vacuum analyze items")
    _run("load")


def _run(way: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.changes_once", way], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def _once(bench: Bench, case: str, way: str, changes: int, raw: float) -> Measured:
    before = bench.cpu()
    facts = _run(way)
    after = bench.cpu()
    million = changes / 1e6
    return Measured(
        case,
        way,
        changes,
        round(facts["seconds"], 2),
        round(changes / facts["seconds"]),
        round(facts["seconds"] / raw, 2) if raw else 1.0,
        round(facts["cpu_seconds"] / million, 2),
        round((after[0] - before[0]) / million, 2),
        round((after[1] - before[1]) / million, 2),
        round(facts["memory_mb"]),
    )


def _update(bench: Bench, rows: int, size: int) -> int:
    with psycopg.connect(bench.source, autocommit=True) as connection:
        for first in range(1, rows + 1, size):
            connection.execute(_UPDATE.format(between=f"between {first} and {first + size - 1}").encode())
    return rows


def _mix(bench: Bench, rows: int) -> int:
    with psycopg.connect(bench.source, autocommit=True) as connection:
        for first in range(1, rows + 1, 1_000):
            last = first + 999
            connection.execute(
                f"begin; {_UPDATE.format(between=f'between {first} and {last}')}; "
                f"insert into items select n + {rows}, 'new', 1 from generate_series({first}, {last}) as n; "
                f"delete from items where id between {first} and {first + 332}; commit".encode()
            )
    return rows * 2 + (rows // 1_000) * 333


async def _latency(bench: Bench, seconds: int, rate: int = 2_000) -> Latency:
    """In transactions of 20 changes, of which the last one's row is looked for."""
    _begin(bench, 100_000)
    stop, committed, visible = asyncio.Event(), dict[int, float](), dict[int, float]()
    following = asyncio.create_task(follow(stop, until_caught_up=False))
    await asyncio.sleep(2)
    until = time.monotonic() + seconds
    writing = threading.Thread(target=_write_steadily, args=(bench.source, until, rate, committed))
    looking = threading.Thread(target=_look, args=(bench.warehouse, until + 10, visible))
    writing.start()
    looking.start()
    await asyncio.to_thread(writing.join)
    await asyncio.sleep(3)
    stop.set()
    await following
    await asyncio.to_thread(looking.join)
    taken = []
    moments = sorted(visible.items())
    for number, at in committed.items():
        seen = next((moment for newest, moment in moments if newest >= number), None)
        assert seen is not None, "a change did not arrive"
        taken.append((seen - at) * 1_000)
    cuts = statistics.quantiles(taken, n=100)
    written = round(len(committed) * 20 / seconds)
    return Latency(written, seconds, round(cuts[49]), round(cuts[94]), round(cuts[98]), round(max(taken)))


def _write_steadily(url: str, until: float, rate: int, committed: dict[int, float]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        number, next_at = 0, time.monotonic()
        while time.monotonic() < until:
            number += 1
            first = 1 + (20 * number) % 90_000
            connection.execute(
                f"begin; update items set amount = {number} where id between {first} and {first + 18}; "
                f"insert into items values ({1_000_000 + number}, 'mark', {number}); commit".encode()
            )
            committed[number] = time.monotonic()
            next_at += 20 / rate
            time.sleep(max(0.0, next_at - time.monotonic()))


def _look(url: str, until: float, visible: dict[int, float]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < until:
            row = connection.execute("select max(id) - 1000000 from raw_bench.items").fetchone()
            if row is not None and row[0] is not None:
                visible.setdefault(int(row[0]), time.monotonic())
            time.sleep(0.01)


if __name__ == "__main__":
    main()
