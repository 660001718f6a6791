"""`python -m benchmarks.cursor_soak`: rows that incremental loads lose while transactions stay open, by us and others.

A row bears the time at which its transaction began, and is seen when it commits. Whoever reads up to the newest time
and goes on from there never sees a row that was written before and committed after. All tools read the same table
beside the same writers, in turns, by the cursor `updated_at` as each one's documentation has it, without a lag. At the
end all transactions are committed, each tool loads once more, and its rows are compared with the source's.

Ten-minute transactions are compressed to `--open` seconds, and the schedule of the loads with them: what counts is that
a transaction is open for longer than the time between two loads of a tool.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psycopg

from benchmarks.cluster import Bench, private_cluster
from benchmarks.measure import run
from benchmarks.peers import QUIET

_RESULTS = Path(__file__).with_name("results")
_TABLE = """
    create table changes (id bigint generated always as identity primary key, v integer not null default 0,
        updated_at timestamptz not null default now());
    insert into changes (updated_at) select now() - interval '1 hour' from generate_series(1, 2000);
    create index on changes (updated_at);
"""
# Rows with an odd id are written by transactions that stay open, the others by short ones: they do not wait for each
# other.
_SHORT = """
    update changes set v = v + 1, updated_at = now() where id = 2 * %(n)s;
    insert into changes (v) values (1)
"""
_LONG = """
    update changes set v = v + 1, updated_at = now() where id in (2 * %(n)s - 1, 2 * %(n)s + 999);
    insert into changes (v) select 1 from generate_series(1, 3)
"""
_ROWS = 1000  # pairs of rows that are updated
_WRITERS = 3  # sessions of each sort


@dataclass(frozen=True, slots=True)
class Soaked:
    """What became of one tool's target: rows it never got, and rows whose last change it never got."""

    tool: str
    version: str
    loads: int
    source_rows: int
    missing: int
    outdated: int
    seconds: float

    @property
    def lost(self) -> int:
        """Both."""
        return self.missing + self.outdated


@dataclass(frozen=True, slots=True)
class _Tool:
    """A tool: where it leaves the table, and one load."""

    name: str
    version: str
    table: str
    load: Callable[[], object]


def main() -> None:
    """Soak, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cursor_soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="loads of each tool while rows are written")
    parser.add_argument("--open", type=float, default=60.0, help="seconds that a long transaction stays open")
    options = parser.parse_args()
    with private_cluster() as bench, tempfile.TemporaryDirectory() as folder:
        bench.execute("source", _TABLE)
        tools = _tools(bench, Path(folder))
        spent = dict.fromkeys((tool.name for tool in tools), 0.0)
        with _written(bench, options.open) as long:
            for number in range(options.rounds):
                for tool in tools:
                    began = time.perf_counter()
                    tool.load()
                    spent[tool.name] += time.perf_counter() - began
                print(f"round {number + 1}", {name: round(seconds, 1) for name, seconds in spent.items()}, flush=True)
        for tool in tools:
            tool.load()
        soaked = [_compare(bench, tool, options.rounds + 1, spent[tool.name]) for tool in tools]
    for one in soaked:
        print(f"{one.tool}: {one.lost} of {one.source_rows} rows lost ({one.missing} missing, {one.outdated} outdated)")
    _check(soaked)
    facts = {"open_seconds": options.open, "long_transactions": long.count, "writers": _WRITERS}
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "cursor_soak.json").write_text(
        json.dumps({**facts, "tools": [{**asdict(one), "lost": one.lost} for one in soaked]}, indent=2) + "\n"
    )


def _check(soaked: list[Soaked]) -> None:
    """The control must lose rows, else the soak proves nothing."""
    lost = {one.tool: one.lost for one in soaked}
    assert lost["updated_at > last, in SQL"] > 0, "nothing was lost by the control: raise --open or --rounds"
    assert lost["medallion"] == 0, lost


@dataclass(slots=True)
class _Long:
    """How many long transactions have committed."""

    count: int = 0


@contextmanager
def _written(bench: Bench, seconds: float) -> Iterator[_Long]:
    """Rows are written by short and by long transactions; at the end all have committed."""
    stopped, long = threading.Event(), _Long()

    def write(statement: str, begins: float, stays_open: float, seed: int) -> None:
        chosen = random.Random(seed)
        stopped.wait(begins)
        with psycopg.connect(bench.source) as session:
            while not stopped.is_set():
                with session.transaction():
                    for part in statement.split(";"):
                        session.execute(part.encode(), {"n": chosen.randint(1, _ROWS)})
                    stopped.wait(stays_open)
                long.count += stays_open > 0
                stopped.wait(0.05)

    sorts = [(_SHORT, 0.0, 0.0)] * _WRITERS
    # Begun at different times, so that at each moment some are about to commit.
    sorts += [(_LONG, seconds / _WRITERS * number, seconds) for number in range(_WRITERS)]
    writers = [threading.Thread(target=write, args=(*sort, seed), daemon=True) for seed, sort in enumerate(sorts)]
    for writer in writers:
        writer.start()
    try:
        yield long
    finally:
        stopped.set()
        for writer in writers:
            writer.join()


def _compare(bench: Bench, tool: _Tool, loads: int, seconds: float) -> Soaked:
    with psycopg.connect(bench.source) as source, psycopg.connect(bench.warehouse) as warehouse:
        there: dict[int, int] = dict(source.execute("select id, v from changes").fetchall())
        here: dict[int, int] = dict(warehouse.execute(f"select id, v from {tool.table}".encode()).fetchall())
    missing = sum(key not in here for key in there)
    outdated = sum(key in here and here[key] != value for key, value in there.items())
    return Soaked(tool.name, tool.version, loads, len(there), missing, outdated, round(seconds, 1))


def _tools(bench: Bench, folder: Path) -> list[_Tool]:
    bench.execute("warehouse", "create schema plain; create schema raw_sling")
    bench.execute("warehouse", "create table plain.changes (id bigint primary key, v integer, updated_at timestamptz)")
    addresses = {"BENCH_SOURCE": bench.source, "BENCH_WAREHOUSE": bench.warehouse}
    here = Path(sys.executable)
    tools = [
        _Tool("updated_at > last, in SQL", "", "plain.changes", lambda: _plain(bench)),
        _Tool(
            "medallion",
            "",
            "raw_bench.changes",
            lambda: run([str(here), "-m", "benchmarks.load_once"], {**addresses, "BENCH_MODE": "changes"}),
        ),
        _Tool("dlt", version("dlt"), "raw_dlt.changes", lambda: _dlt(addresses, folder)),
    ]
    if (ingestr := here.parent / "ingestr").exists():
        # It keeps no state: without an interval, it reads the full table each time, and loses nothing.
        known = version("ingestr")
        tools += [
            _Tool("ingestr, in full", known, "raw_ingestr.in_full", lambda: _ingestr(ingestr, bench, "in_full")),
            _Tool("ingestr, from an interval", known, "raw_ingestr.changes", lambda: _ingestr(ingestr, bench)),
        ]
    if sling := find_spec("sling_linux_amd64"):
        program = Path(next(iter(sling.submodule_search_locations or ()))) / "bin" / "sling-linux-amd64"
        tools.append(_Tool("Sling", version("sling"), "raw_sling.changes", lambda: _sling(program, bench, folder)))
    return tools


def _plain(bench: Bench) -> None:
    """What everybody writes first."""
    with psycopg.connect(bench.source) as source, psycopg.connect(bench.warehouse) as warehouse:
        last = warehouse.execute("select coalesce(max(updated_at), '-infinity')::text from plain.changes").fetchone()
        assert last is not None
        rows = source.execute(
            "select id, v, updated_at from changes where updated_at > %s::text::timestamptz", [last[0]]
        ).fetchall()
        with warehouse.cursor() as cursor:
            cursor.executemany(
                "insert into plain.changes values (%s, %s, %s) on conflict (id) "
                "do update set v = excluded.v, updated_at = excluded.updated_at",
                rows,
            )


def _dlt(addresses: dict[str, str], folder: Path) -> None:
    run(
        [sys.executable, "-m", "benchmarks.database_dlt"],
        {
            **addresses,
            "BENCH_FOLDER": str(folder / "dlt"),
            "DLT_DATA_DIR": str(folder / "dlt"),
            "BENCH_TABLES": "changes",
            "BENCH_CURSOR": "updated_at",
            **QUIET,
        },
    )


def _ingestr(program: Path, bench: Bench, table: str = "changes") -> None:
    source, target = (f"{url}?sslmode=disable" for url in (bench.source, bench.warehouse))
    asked = ["--source-uri", source, "--source-table", "public.changes", "--dest-uri", target]
    asked += ["--dest-table", f"raw_ingestr.{table}", "--incremental-strategy", "merge", "--yes", "--progress", "log"]
    asked += ["--primary-key", "id", "--incremental-key", "updated_at"]
    with psycopg.connect(bench.warehouse) as warehouse:
        known = warehouse.execute("select to_regclass('raw_ingestr.changes') is not null").fetchone()
        if table == "changes" and known == (True,):
            newest = warehouse.execute(
                "select to_char(max(updated_at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') "
                "from raw_ingestr.changes"
            ).fetchone()
            assert newest is not None
            asked += ["--interval-start", str(newest[0])]
    run([str(program), "ingest", *asked], QUIET)


def _sling(program: Path, bench: Bench, folder: Path) -> None:
    source, target = (f"{url}?sslmode=disable" for url in (bench.source, bench.warehouse))
    asked = ["--src-conn", source, "--src-stream", "public.changes", "--tgt-conn", target]
    asked += ["--tgt-object", "raw_sling.changes", "--mode", "incremental"]
    run(
        [str(program), "run", *asked, "--primary-key", "id", "--update-key", "updated_at"],
        {"SLING_HOME_DIR": str(folder / "sling"), **QUIET},
    )


if __name__ == "__main__":
    main()
