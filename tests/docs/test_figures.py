"""The figures that documents quote are those of the benchmarks' results."""

import json
import re
from typing import Any

import pytest

from flows.values.settings import PROJECT_ROOT

CAPACITY = (PROJECT_ROOT / "docs/capacity.md").read_text(encoding="utf-8")
LOADS = {
    "initial load, append": "full load, append",
    "initial load, merge": "full load, merge",
    "initial load, replace": "full load, replace",
    "replace of a table in which nothing differs": "replace, nothing differs",
    "merge of the 10 % that changed": "merge of 10% changed",
}
BUILDS = {
    "when nothing changed": "incremental, nothing changed, warm",
    "when a day's lines did": "incremental, a day's lines changed, warm",
    "for a full refresh": "full refresh, warm",
}


def _results(name: str) -> Any:
    return json.loads((PROJECT_ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("label", "case"), LOADS.items(), ids=list(LOADS))
def test_loads_cost_what_the_benchmark_of_databases_measured(label: str, case: str) -> None:
    [measured] = [one for one in _results("database") if one["case"] == case and one["tool"] == "medallion"]
    found = re.search(rf"^\| {re.escape(label)} \| ([\d.]+) \| (.+?) \| (\d+) \|$", CAPACITY, re.MULTILINE)
    assert found is not None
    assert float(found[1]) == round(measured["seconds"], 2)
    assert int(found[3]) == round(measured["peak_mb"])


def test_a_merge_is_held_against_the_bare_statement() -> None:
    database = _results("database")
    [merge] = [one for one in database if one["case"] == "merge of 10% changed" and one["tool"] == "medallion"]
    [start] = [one for one in database if one["case"] == "nothing"]
    said = " ".join(CAPACITY.split())
    assert f"{merge['ratio_to_limit']:.2f} times as long as the bare" in said
    assert f"{start['seconds']:.2f} s of it are the start of Python" in said


@pytest.mark.parametrize(("label", "case"), BUILDS.items(), ids=list(BUILDS))
def test_builds_cost_what_the_benchmark_of_the_transform_measured(label: str, case: str) -> None:
    [measured] = [one for one in _results("transform")["builds"] if one["case"] == case]
    assert re.search(rf"{measured['seconds']} s\s+{re.escape(label)}", CAPACITY)


def test_an_api_costs_what_the_benchmark_of_apis_measured() -> None:
    seconds = {
        (one["case"], one["tool"]): one["seconds"] for one in _results("api") if one["tool"].startswith("medallion")
    }
    pages = "300,000 nested records in 300 pages"
    slow = "5,000 small pages with 20 ms latency"
    assert f"{seconds[pages, 'medallion, one page at a time']} s are ours" in " ".join(CAPACITY.split())
    one, ten = (round(seconds[slow, f"medallion, {how}"]) for how in ("one page at a time", "ten pages at a time"))
    assert f"take {one} s one at a time and {ten} s ten at a time" in " ".join(CAPACITY.split())


def test_many_tables_cost_what_their_benchmark_measured() -> None:
    """Also what each leaves at Prefect's server, which must not grow unnoticed."""
    ours = [one for one in _results("tables") if one["tool"] == "medallion"]
    assert ours
    for one in ours:
        label = f"{one['tables']:,}, {'unchanged' if 'unchanged' in one['case'] else 'first load'}"
        cpu = one["cpu_flow"] + one["cpu_prefect"] + one["cpu_databases"]
        line = f"| {label} | {one['seconds']:.0f} | {cpu:.0f} | {one['ratio_to_limit']:.0f} | {one['peak_mb']:.0f} |"
        assert line in CAPACITY
        assert one["task_runs"] == one["tables"]
        assert one["states"] == 3 * one["tables"]
        assert one["log_lines"] <= 2 * one["tables"] + 10
        assert one["events"] <= 10


def test_tpch_costs_what_its_benchmark_measured() -> None:
    measured = _results("tpch")
    assert {"pg_dump | psql", "medallion"} <= {one["tool"] for one in measured}
    for one in measured:
        memory = f"{one['peak_mb']:.0f}" if one["peak_mb"] else ""
        tool = one["tool"].replace("|", "\\|")
        line = f"| {tool} | {one['seconds']:.1f} | {one['cpu_per_million']:.2f} | {memory} |"
        assert line in CAPACITY


def test_cursors_lose_what_their_soak_counted() -> None:
    """The control must lose rows, else it would prove nothing that ours loses none."""
    soak = _results("cursor_soak")
    lost = {one["tool"]: one["lost"] for one in soak["tools"]}
    assert lost["updated_at > last, in SQL"] > 0
    assert lost["medallion"] == 0
    assert f"{soak['open_seconds']:.0f} s, as ten-minute" in " ".join(CAPACITY.split())
    for one in soak["tools"]:
        tool = f"{one['tool']} ({one['version']})" if one["version"] else one["tool"]
        line = f"| {tool} | {one['loads']} | {one['source_rows']:,} | {one['missing']} | {one['outdated']} |"
        assert line in CAPACITY
