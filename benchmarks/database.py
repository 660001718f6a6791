"""Database to database: 2 million order items, by the limit (`psql | psql`), by us and by others.

The limit copies bytes and nothing more: no metadata, no rules, no key, no ledger, no reconciliation. Ours has all on.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.cluster import Bench
from benchmarks.measure import Contender, Median, Sample, in_turns, run
from benchmarks.peers import create_view, peers
from benchmarks.peers import forget as forget_peers

LIMITS = ("psql | psql", "insert … on conflict")
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


def measure(bench: Bench, rows: int, runs: int, only: str = "") -> Iterator[Median]:
    """The cases, each as soon as it is known. Tools of one case take turns, so that a busy moment meets them all.

    `only` names a part of the cases to measure; the limits are always measured.
    """

    def measured(contenders: Sequence[Contender], loaded: int) -> list[Median]:
        chosen = [one for one in contenders if only in one[0] or one[1] in LIMITS]
        return in_turns(chosen, runs, bench.cpu, loaded)

    bench.execute("source", Path(__file__).with_name("order_items.sql").read_text().format(rows=rows))
    create_view(bench)
    ours = _ours(bench)
    replaced, merged = functools.partial(ours, "replace"), functools.partial(ours, "merge")

    def emptied() -> None:
        forget(bench)
        forget_peers(bench)

    full: list[Contender] = [
        ("full load", "psql | psql", lambda: _empty_target(bench), lambda: _psql(bench)),
        ("full load", "psql | psql, then key and statistics", lambda: _empty_target(bench), lambda: _keyed(bench)),
    ]
    full += [
        (f"full load, {mode}", "medallion", emptied, functools.partial(ours, mode))
        for mode in ("append", "replace", "merge")
    ]
    full += [("full load", tool, emptied, once) for tool, once in peers(bench).items()]
    yield from measured(full, rows)
    yield from measured([("nothing", "python, and all that a load imports", lambda: None, _started)], 0)
    yield from measured(
        [
            ("replace, nothing differs", "medallion", lambda: _once(bench, ours, "replace"), replaced),
            ("replace, 10% differ", "medallion", lambda: _changed_since(bench, ours, "replace"), replaced),
        ],
        rows,
    )
    yield from measured(
        [
            ("merge of 10% changed", "insert … on conflict", lambda: _changed(bench), lambda: _on_conflict(bench)),
            ("merge of 10% changed", "medallion", lambda: _changed_since(bench, ours, "merge"), merged),
        ],
        rows // 10,
    )


def _ours(bench: Bench) -> Callable[[str], Sample]:
    def load(mode: str) -> Sample:
        return run(
            [sys.executable, "-m", "benchmarks.load_once"],
            {"BENCH_MODE": mode, "BENCH_SOURCE": bench.source, "BENCH_WAREHOUSE": bench.warehouse},
        )

    return load


def forget(bench: Bench) -> None:
    """Empty what loads of ours wrote."""
    bench.execute("warehouse", _FORGET)
    bench.execute("warehouse", "checkpoint")


def _once(bench: Bench, ours: Callable[[str], Sample], mode: str) -> None:
    forget(bench)
    ours(mode)
    bench.execute("warehouse", "checkpoint")


def _empty_target(bench: Bench) -> None:
    forget(bench)
    _create_target(bench)


def _create_target(bench: Bench) -> None:
    ddl = Path(__file__).with_name("order_items.sql").read_text()
    create = ddl[ddl.index("create table") : ddl.index("insert into")]
    create = create.replace("order_items (", "target (", 1).replace(" primary key", "")
    bench.execute("warehouse", f"drop table if exists target; {create}")


def _psql(bench: Bench) -> Sample:
    return _pipe(bench, "order_items", "target")


def _keyed(bench: Bench) -> Sample:
    """What a table that others are to work with needs besides its bytes."""
    copied = _psql(bench)
    key = "alter table target add primary key (order_item_id); analyze target"
    done = run([str(bench.programs / "psql"), "-qX", bench.warehouse, "-c", key])
    return Sample(copied.seconds + done.seconds, 0.0, copied.cpu_tool + done.cpu_tool)


def _started() -> Sample:
    return run([sys.executable, "-c", "import benchmarks.load_once"])


def copy_by_psql(bench: Bench, table: str) -> Sample:
    """The limit for a table of the source: its bytes into a new table of that name in the warehouse."""
    dump = f"{bench.programs / 'pg_dump'} -s --section=pre-data --no-owner -t {table} '{bench.source}'"
    run(f"{dump} | {bench.programs / 'psql'} -qX '{bench.warehouse}'")
    return _pipe(bench, table, table)


def _pipe(bench: Bench, table: str, target: str) -> Sample:
    psql = bench.programs / "psql"
    out = f"{psql} -qX '{bench.source}' -c 'copy {table} to stdout (format binary)'"
    return run(f"{out} | {psql} -qX '{bench.warehouse}' -c 'copy {target} from stdin (format binary)'")


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
    return Sample(
        done.seconds, 0.0, done.cpu_tool
    )  # psql sends one line and waits; the work and its memory are the server's


def _changed_since(bench: Bench, ours: Callable[[str], Sample], mode: str) -> None:
    _once(bench, ours, mode)
    bench.execute("source", _CHANGE)
    bench.execute("source", "vacuum analyze order_items")
