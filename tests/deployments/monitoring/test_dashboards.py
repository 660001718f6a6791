"""Dashboards of Grafana: rendered, of metrics that exist, and each query answers on a real Prometheus."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.monitoring.dashboards import BOARDS, FOLDER, main, rendered
from flows.access.addresses import connect
from flows.declare import Merge, Rule
from flows.kinds.postgres import Table
from flows.operations.exporting import Ended, Exporter
from flows.operations.metric_registry import METRICS
from flows.operations.metrics_server import MetricsServer
from flows.operations.prefect_facts import Deployment, FlowRun, Pool, PrefectFacts
from flows.state import runs
from flows.state.usage import Usage, record_usage
from infra.local.ports import any_free
from tests.conftest import TestDatabase
from tests.eventually import eventually
from tests.kinds.loading import at
from tests.publish.two_ends import TwoEnds

PANELS = [(board, panel) for board in BOARDS for _, panels in board.rows for panel in panels]
QUERIES = [query for _, panel in PANELS for query, _ in panel.queries]


def test_the_dashboards_in_the_repository_are_up_to_date() -> None:
    """If they are not: `python -m deployments.monitoring.dashboards`."""
    assert {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")} == rendered()


def test_a_dashboard_that_was_edited_by_hand_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.monitoring.dashboards.FOLDER", tmp_path)
    assert main(["--check"]) == 2
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "runs.json").write_text("{}")
    assert main(["--check"]) == 2


def test_each_panel_asks_for_metrics_that_exist_and_says_what_it_shows() -> None:
    exported = {each.full_name for each in METRICS}
    asked = {name for query in QUERIES for name in re.findall(r"medallion_\w+", query)}
    assert asked <= exported
    assert len(asked) > 25
    for _, panel in PANELS:
        assert panel.question
    for path in FOLDER.glob("*.json"):
        board = json.loads(path.read_text(encoding="utf-8"))
        assert all(panel["description"] for panel in board["panels"] if panel["type"] != "row")


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """A real Prometheus that scrapes the target each second."""
    port = any_free()
    labels = "labels: {environment: production}"
    (folder / "prometheus.yml").write_text(
        "scrape_configs:\n  - job_name: medallion\n    scrape_interval: 1s\n"
        f"    static_configs: [{{targets: ['{target}'], {labels}}}]\n"
    )
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)


def answer(client: httpx.Client, query: str) -> list[Any]:
    """What a query gives now, with all values of the variables; empty while the server does not answer."""
    try:
        found = client.get("/query", params={"query": re.sub(r"\$\w+", ".*", query)})
    except httpx.TransportError:
        return []
    if found.status_code == 503:  # it starts
        return []
    said = found.json()
    assert said.get("status") == "success", said
    result: list[Any] = said["data"]["result"]
    return result


def facts() -> PrefectFacts:
    now = datetime.now(UTC)
    one = Deployment("1", "ingest/ingest-shop", True, "ecs", "shop")
    due = FlowRun("2", one, "SCHEDULED", "Late", "", now, now - timedelta(minutes=1), 0, "ecs")
    return PrefectFacts(now, [one], [due], [], frozenset({"1"}), {"ecs": Pool("ecs", True, False)}, {}, [], [])


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed: package prometheus of Debian"
)
async def test_each_query_of_each_panel_answers_on_a_real_prometheus(
    warehouse: TestDatabase, shop: TestDatabase, tmp_path: Path
) -> None:
    ends = TwoEnds(warehouse, shop)
    rule = Rule("is_small", "store_id < 1000000")
    ends.source("insert into stores (store_id, name) values (2000000, 'far away')")
    await ends.load(Table("stores", key="store_id", load=Merge(), rules=(rule,), max_quarantined=1.0))
    exporter = Exporter(MetricsServer("127.0.0.1", 0))
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        number = await runs.open_run(connection, "ingest", "shop", None, None)
        await runs.close_run(connection, number, "done")
        used = [
            Usage("load", "shop", "stores", "published", 1.0, 0.5, 80_000_000, 6),
            Usage("run", "shop", "ingest", "done", 3.0, 2.0, 90_000_000),
            Usage("model", "", "dim_stores", "success", 1.0, rows=6),
        ]
        await record_usage(connection, used)
        await exporter.measure(connection, lambda: 0.0)
    await exporter.show(Ended(datetime.now(UTC).timestamp(), 0.1, True, 0, facts()), 0.0)
    assert exporter.server is not None
    with prometheus(tmp_path, exporter.server.address) as client:

        def check() -> None:
            assert eventually(lambda: answer(client, "medallion_warehouse_up"), seconds=30)
            empty = [query for query in QUERIES if not answer(client, query)]
            assert empty == []
            for board in BOARDS:
                for name, metric in board.variables:
                    values = client.get(f"/label/{name}/values", params={"match[]": metric}).json()["data"]
                    assert values, f"${name} of {board.file} has no values"
            # The control.
            assert answer(client, "medallion_misspelt") == []

        await asyncio.to_thread(check)
    await exporter.close()
