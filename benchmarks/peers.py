"""Other tools at the same task: full tables, from an empty target, by each tool's fastest documented way.

ingestr 0.15.9 cannot write a uuid into PostgreSQL, so it reads a view in which that column is text.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.cluster import Bench
from benchmarks.measure import Sample, run

# None of them may phone home, here least of all.
QUIET = {
    "DISABLE_TELEMETRY": "true",
    "INGESTR_DISABLE_TELEMETRY": "true",
    "SLING_DISABLE_TELEMETRY": "TRUE",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
}
VIEW = "order_items_for_ingestr"


def peers(bench: Bench, tables: Sequence[str] = ("order_items",)) -> dict[str, Callable[[], Sample]]:
    """The tools that are installed here, each a full load of these tables into a schema of its own."""
    beside = Path(sys.executable).parent
    found: dict[str, Callable[[], Sample]] = {"dlt, connectorx": lambda: _dlt(bench, tables)}
    if (ingestr := beside / "ingestr").exists():
        found["ingestr"] = lambda: _together([_ingestr(ingestr, bench, table) for table in tables])
    if sling := find_spec("sling_linux_amd64"):
        # The program itself: the package's own command looks for updates before it runs.
        program = Path(next(iter(sling.submodule_search_locations or ()))) / "bin" / "sling-linux-amd64"
        found["Sling"] = lambda: _sling(program, bench, tables)
    return found


def _together(samples: Sequence[Sample]) -> Sample:
    """Processes that ran one after the other, as one run."""
    return Sample(
        sum(sample.seconds for sample in samples),
        max(sample.peak_mb for sample in samples),
        sum(sample.cpu_tool for sample in samples),
    )


def create_view(bench: Bench) -> None:
    """What ingestr reads."""
    columns = [
        *("order_item_id", "order_id", "product_id", "seller_id::text as seller_id", "quantity", "unit_price"),
        *("discount", "tax_rate", "currency", "status", "is_gift", "note", "attributes", "shipped_on", "updated_at"),
    ]
    bench.execute("source", f"create or replace view {VIEW} as select {', '.join(columns)} from order_items")


def forget(bench: Bench) -> None:
    """Empty what the tools wrote."""
    bench.execute("warehouse", "drop schema if exists raw_dlt, raw_dlt_staging, raw_ingestr, raw_sling cascade")
    bench.execute("warehouse", "drop schema if exists _bruin_staging cascade; create schema raw_sling")
    bench.execute("warehouse", "checkpoint")


def _dlt(bench: Bench, tables: Sequence[str]) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        return run(
            [sys.executable, "-m", "benchmarks.database_dlt"],
            {
                "BENCH_SOURCE": bench.source,
                "BENCH_WAREHOUSE": bench.warehouse,
                "BENCH_FOLDER": folder,
                "BENCH_TABLES": ",".join(tables),
                "DLT_DATA_DIR": folder,
                **QUIET,
            },
        )


def _ingestr(program: Path, bench: Bench, table: str) -> Sample:
    source, target = (f"{url}?sslmode=disable" for url in (bench.source, bench.warehouse))
    read = VIEW if table == "order_items" else table
    asked = ["--source-uri", source, "--source-table", f"public.{read}", "--dest-uri", target]
    asked += ["--dest-table", f"raw_ingestr.{table}", "--incremental-strategy", "replace", "--yes"]
    return run([str(program), "ingest", *asked, "--progress", "log"], QUIET)


def _sling(program: Path, bench: Bench, tables: Sequence[str]) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        replication = Path(folder) / "replication.yaml"
        streams = "".join(f"  public.{table}:\n    object: raw_sling.{table}\n" for table in tables)
        replication.write_text(
            f"source: BENCH_FROM\ntarget: BENCH_TO\ndefaults:\n  mode: full-refresh\nstreams:\n{streams}"
        )
        return run(
            [str(program), "run", "-r", str(replication)],
            {
                "BENCH_FROM": f"{bench.source}?sslmode=disable",
                "BENCH_TO": f"{bench.warehouse}?sslmode=disable",
                "SLING_HOME_DIR": folder,
                "HOME": os.environ["HOME"],
                **QUIET,
            },
        )
