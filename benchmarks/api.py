"""`python -m benchmarks.api`: a paginated API into PostgreSQL, by the floor, by us, and by dlt's rest_api.

Two lists: large pages that come at once, where bytes count; and small ones that each take 20 ms, where waiting counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.api_server import Served, running
from benchmarks.cluster import Bench, private_cluster
from benchmarks.measure import Sample, run

_RESULTS = Path(__file__).with_name("results")
_FLOOR = "httpx and COPY, one connection: the floor"
_CASES = {
    "300,000 nested records in 300 pages": Served(300, 1000, 0.0),
    "5,000 small pages with 20 ms latency": Served(5000, 10, 0.02),
}
_FORGET = (
    "drop schema if exists raw_bench, raw_dlt, raw_dlt_staging, landing cascade; create schema landing; "
    "truncate ops.cursors, ops.loads, ops.list_reads cascade; "
    "drop table if exists target; create table target (payload jsonb)",
    "checkpoint",
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A reader: the module that is run, what it is told, the query that counts what it brought, and its most runs."""

    module: str
    variables: Mapping[str, str]
    count: str
    runs: int = 99


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of whole processes, start-up included."""

    case: str
    tool: str
    seconds: float
    ratio_to_floor: float
    peak_mb: float


_OURS = "select count(*) from raw_bench.items"
_DLT = "select count(*) from raw_dlt.items"
_TOOLS = {
    _FLOOR: Tool("benchmarks.api_floor", {}, "select count(*) from target"),
    "medallion, one page at a time": Tool("benchmarks.api_once", {"BENCH_CONCURRENT": "1"}, _OURS),
    "medallion, ten pages at a time": Tool("benchmarks.api_once", {"BENCH_CONCURRENT": "10"}, _OURS),
    "dlt rest_api": Tool("benchmarks.api_dlt", {}, _DLT, runs=1),  # minutes
    "dlt rest_api, nested kept as JSON": Tool("benchmarks.api_dlt", {"BENCH_NESTING": "0"}, _DLT, runs=1),
}


def main() -> None:
    """Measure each case, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each tool, one after another in turns")
    parser.add_argument("--tool", action="append", help="only tools whose name holds this text, and the floor")
    parser.add_argument("--case", default="", help="only cases whose name holds this text; the others stay")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="so many pages of each case; below 1 to try things out"
    )
    options = parser.parse_args()
    tools = [name for name in _TOOLS if name == _FLOOR or any(one in name for one in options.tool or [""])]
    measured: list[Measured] = []
    with private_cluster() as bench:
        for case, whole in _CASES.items():
            if options.case in case:
                served = Served(int(whole.pages * options.scale), whole.records, whole.latency)
                measured += _measure(bench, case, served, tools, options.runs)
    if tools == [*_TOOLS] and options.scale == 1:
        _write(measured, options.runs)


def _measure(bench: Bench, case: str, served: Served, tools: list[str], runs: int) -> list[Measured]:
    samples: dict[str, list[Sample]] = {tool: [] for tool in tools}
    with running(served) as url:
        # In turns, so that whatever else the machine does meets every tool alike.
        # Where waiting counts, one run is like another.
        for turn in range(1 if served.latency else runs):
            for tool in tools:
                if turn >= _TOOLS[tool].runs:
                    continue
                sample = _once(bench, _TOOLS[tool], url, served.total)
                samples[tool].append(sample)
                print(f"{case}: {tool}: {sample.seconds:.2f} s, {sample.peak_mb:.0f} MB", flush=True)
    seconds = {tool: _median(samples[tool], lambda sample: sample.seconds) for tool in tools}
    return [
        Measured(
            case,
            tool,
            round(seconds[tool], 2),
            round(seconds[tool] / seconds[_FLOOR], 2),
            round(_median(samples[tool], lambda sample: sample.peak_mb), 1),
        )
        for tool in tools
    ]


def _once(bench: Bench, tool: Tool, url: str, total: int) -> Sample:
    for statement in _FORGET:
        bench.execute("warehouse", statement)
    addresses = {"BENCH_API": url, "BENCH_WAREHOUSE": bench.warehouse}
    sample = run([sys.executable, "-m", tool.module], {**addresses, **tool.variables})
    found = bench.count("warehouse", tool.count)
    assert found == total, f"{tool.module} brought {found} of {total} records"
    return sample


def _median(samples: list[Sample], what: Callable[[Sample], float]) -> float:
    return statistics.median(what(sample) for sample in samples)


def _write(measured: list[Measured], runs: int) -> None:
    _RESULTS.mkdir(exist_ok=True)
    known = _RESULTS / "api.json"
    before = [Measured(**one) for one in json.loads(known.read_text())] if known.exists() else []
    fresh = {one.case for one in measured}
    measured = sorted([*(one for one in before if one.case not in fresh), *measured], key=lambda one: one.case)
    known.write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")
    lines = [
        "# API to database",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}: medians of {runs} runs in turns (one of dlt, one of all with latency) on two "
        f"busy cores: ratios count. Whole processes, start-up included; the API on loopback, PostgreSQL 18, "
        f"Python {platform.python_version()}, httpx {version('httpx')}, dlt {version('dlt')}. Keys, types, metadata, "
        "checks, ledger and reconciliation are on in ours; the floor copies each record's bytes and nothing more.",
        "",
        "| case | tool | seconds | times the floor | peak MB |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {one.case} | {one.tool} | {one.seconds:.2f} | {one.ratio_to_floor:.2f} | {one.peak_mb:.0f} |"
            for one in measured
        ),
        "",
    ]
    (_RESULTS / "api.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
