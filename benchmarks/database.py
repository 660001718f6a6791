"""Database to database: 2 million order items, by the limit (`psql | psql`) and by us.

The limit copies bytes and nothing more: no metadata, no rules, no key, no ledger, no reconciliation. Ours has all on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.cluster import Bench
from benchmarks.measure import Median, Sample, medians, run

_FORGET = (
    "drop schema if exists raw_bench, landing cascade; truncate ops.cursors, ops.loads cascade; create schema landing"
)
_CHANGE = (
    "update order_items set quantity = quantity % 9 + 1, updated_at = clock_timestamp() where order_item_id % 10 = 3"
)
_CONFLICT = """
    insert into target as t select * from changed
    on conflict (order_item_id) do update set quantity = excluded.quantity, updated_at = excluded.updated_at
"""


def measure(bench: Bench, rows: int, runs: int) -> Iterator[Median]:
    """The cases one after another, as soon as each is known."""
    bench.execute("source", Path(__file__).with_name("order_items.sql").read_text().format(rows=rows))
    ours = _ours(bench)
    yield medians("first load", "psql | psql", lambda: _empty_target(bench), lambda: _psql(bench), runs)
    yield medians("first load, append", "medallion", lambda: _forget(bench), lambda: ours("append"), runs)
    yield medians("first load, merge with key", "medallion", lambda: _forget(bench), lambda: ours("merge"), runs)
    yield medians(
        "replace, nothing differs", "medallion", lambda: _once(bench, ours, "replace"), lambda: ours("replace"), runs
    )
    yield medians(
        "merge of 10% changed", "insert … on conflict", lambda: _changed(bench), lambda: _on_conflict(bench), runs
    )
    yield medians("merge of 10% changed", "medallion", lambda: _merged(bench, ours), lambda: ours("merge"), runs)


def _ours(bench: Bench) -> Callable[[str], Sample]:
    def load(mode: str) -> Sample:
        return run(
            [sys.executable, "-m", "benchmarks.load_once"],
            {"BENCH_MODE": mode, "BENCH_SOURCE": bench.source, "BENCH_WAREHOUSE": bench.warehouse},
        )

    return load


def _forget(bench: Bench) -> None:
    bench.execute("warehouse", _FORGET)
    bench.execute("warehouse", "checkpoint")


def _once(bench: Bench, ours: Callable[[str], Sample], mode: str) -> None:
    _forget(bench)
    ours(mode)
    bench.execute("warehouse", "checkpoint")


def _empty_target(bench: Bench) -> None:
    _forget(bench)
    _create_target(bench)


def _create_target(bench: Bench) -> None:
    ddl = Path(__file__).with_name("order_items.sql").read_text()
    create = ddl[ddl.index("create table") : ddl.index("insert into")]
    create = create.replace("order_items (", "target (", 1).replace(" primary key", "")
    bench.execute("warehouse", f"drop table if exists target; {create}")


def _psql(bench: Bench) -> Sample:
    psql = bench.programs / "psql"
    out = f"{psql} -qX '{bench.source}' -c 'copy order_items to stdout (format binary)'"
    return run(f"{out} | {psql} -qX '{bench.warehouse}' -c 'copy target from stdin (format binary)'")


def _changed(bench: Bench) -> None:
    """The target filled, a tenth of it changed at the source, the changes waiting beside the target."""
    _empty_target(bench)
    _psql(bench)
    bench.execute("warehouse", "alter table target add primary key (order_item_id)")
    bench.execute(
        "warehouse",
        "drop table if exists changed; create unlogged table changed as "
        "select * from target where order_item_id % 10 = 3; "
        "update changed set quantity = quantity % 9 + 1, updated_at = clock_timestamp()",
    )
    bench.execute("warehouse", "checkpoint")


def _on_conflict(bench: Bench) -> Sample:
    done = run([str(bench.programs / "psql"), "-qX", bench.warehouse, "-c", _CONFLICT])
    return Sample(done.seconds, 0.0)  # psql sends one line and waits; the work and its memory are the server's


def _merged(bench: Bench, ours: Callable[[str], Sample]) -> None:
    _once(bench, ours, "merge")
    bench.execute("source", _CHANGE)
    bench.execute("source", "vacuum analyze order_items")
