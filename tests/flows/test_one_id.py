"""One run, followed by its correlation id through every system that it touches."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterTags,
)

from flows.access.addresses import connect
from flows.observe import logs, tracing
from flows.pipeline import pipeline
from flows.state.correlated import everything_of
from flows.values import correlation
from flows.values.connection import DatabaseConnection
from flows.values.correlation import correlated, trace_id
from tests.conftest import HOME_VARIABLE, TestDatabase
from tests.flows.small_project import edit
from tests.kinds.loading import rows
from tests.observe.otlp import Collector

pytestmark = pytest.mark.xdist_group("release")
_SESSIONS = (
    "select datname, application_name, query from pg_catalog.pg_stat_activity "
    "where datname = any(%s) and application_name like 'medallion%%' and pid <> pg_backend_pid()"
)


@contextmanager
def sampled(shop: TestDatabase, warehouse: TestDatabase) -> Iterator[list[Mapping[str, str]]]:
    """The sessions at both ends while a load is held up at its source: a table there is locked until it was seen."""
    seen: list[Mapping[str, str]] = []
    locked = psycopg.connect(shop.url("admin"), application_name="a migration")
    locked.execute("lock table public.baskets in access exclusive mode")

    def look() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = shop.cluster.connection.execute(_SESSIONS, [[shop.name, warehouse.name]]).fetchall()
            if any(database == shop.name and "shop.baskets" in name for database, name, _ in found):
                seen.extend(
                    {"end": database.partition("_")[0], "name": name, "query": q} for database, name, q in found
                )
                break
            time.sleep(0.02)
        locked.rollback()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        looking.join()
        locked.close()


@contextmanager
def logged_as_json() -> Iterator[io.StringIO]:
    """All that this process logs."""
    root, stream = logging.getLogger(), io.StringIO()
    before = root.level
    handler = logs.configure(form="json", stream=stream)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


@contextmanager
def logged_statements(identifier: str, *databases: TestDatabase) -> Iterator[list[str]]:
    """The lines of PostgreSQL's log meanwhile that have the id, with the statements of these databases."""
    log, lines = Path(os.environ[HOME_VARIABLE]) / "postgres" / "postgres.log", list[str]()
    for database in databases:
        with psycopg.connect(database.url("admin"), autocommit=True) as admin:
            admin.execute(f"alter database {database.name} set log_min_duration_statement = 0")
    begun = log.stat().st_size
    yield lines
    text = log.read_bytes()[begun:].decode(errors="replace")
    lines += [line for line in text.splitlines() if f"correlation_id='{identifier}'" in line]


async def ops_of(identifier: str, warehouse: TestDatabase) -> dict[str, Any]:
    """What `medallion runs show` shows."""
    async with connect(DatabaseConnection("w", warehouse.url("loader")), side="warehouse") as session:
        return await everything_of(session, identifier)


def found_in(
    identifier: str, warehouse: TestDatabase, shop: TestDatabase, project: Path, collector: Collector
) -> dict[str, bool]:
    """Run the pipeline under this id, and say for each system whether the run is found there by its id."""
    edit(project, "gold/mart.sql", "'kept' as note", "current_setting('application_name') as note")
    tracing.start()
    with (
        logged_as_json() as stream,
        logged_statements(identifier, warehouse, shop) as logged,
        sampled(shop, warehouse) as seen,
        correlated(identifier),
    ):
        expected_trace = trace_id()
        pipeline(["shop"], return_state=True).result()
    tracing.stop(10)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    results = json.loads((Path(os.environ["MEDALLION_HOME"]) / "dbt" / "run_results.json").read_text())
    ops = asyncio.run(ops_of(identifier, warehouse))
    tags = [f"correlation:{identifier}"]
    with get_client(sync_client=True) as client:
        flow_runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=tags)))
        task_runs: list[str] = []
        until = time.monotonic() + 30
        while time.monotonic() < until and not {"shop.baskets whole", "model mart"} <= set(task_runs):
            found = client.read_task_runs(task_run_filter=TaskRunFilter(tags=TaskRunFilterTags(all_=tags)), limit=200)
            task_runs = [run.name for run in found]
            time.sleep(0.2)
    notes = rows(warehouse, "select distinct note from gold.mart")
    reading, loading = ([one for one in seen if one["end"] == end] for end in ("shop", "warehouse"))
    spans = {each.name for each in collector.spans if each.trace_id == expected_trace}
    baskets = [line for line in lines if line.get("table") == "baskets"]
    return {
        "log lines": bool(baskets) and all(line["correlation_id"] == identifier for line in baskets),
        "log lines know their trace": bool(baskets) and all(line["trace_id"] == expected_trace for line in baskets),
        "log lines of dbt": any(line["correlation_id"] == identifier for line in lines if "mart" in line["message"]),
        "Prefect's flow runs": {run.name for run in flow_runs} == {"pipeline", "ingest shop", "transform"},
        "Prefect's task runs": {"shop.baskets whole", "model mart"} <= set(task_runs),
        "sessions at the source": any(f"read shop.baskets {identifier}" in one["name"] for one in reading),
        "sessions at the warehouse": any(f"load shop.baskets {identifier}" in one["name"] for one in loading),
        "sessions of dbt": notes == [{"note": f"medallion-dbt {identifier}"}],
        "statements at the source": any(identifier in one["query"] for one in reading),
        "statements of dbt": any("dbt_node='model.medallion.mart'" in line for line in logged),
        "statements of Soda": any(line.rstrip().endswith("*/ WITH") for line in logged),
        "run_results of dbt": results["metadata"]["env"].get("CORRELATION_ID") == identifier,
        "ops.runs": {run["pipeline"] for run in ops["runs"]} == {"ingest", "transform"},
        "ops.loads": {load["table_name"] for load in ops["loads"]} >= {"baskets"},
        "spans": {"pipeline", "ingest shop", "load shop.baskets", "plan", "read", "land", "publish", "transform"}
        | {"gate raw", "dbt build", "dbt model mart", "gate gold"}
        <= spans,
    }


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found
        tracing.stop()


@pytest.fixture
def read_from(shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    return shop


def test_one_run_is_found_by_its_id_in_every_system(
    shared: TestDatabase, read_from: TestDatabase, project: Path, collector: Collector
) -> None:
    found = found_in("handed-down", shared, read_from, project, collector)
    assert [system for system, knows in found.items() if not knows] == []


@pytest.mark.long
def test_a_run_whose_id_is_not_handed_down_is_found_in_none(
    shared: TestDatabase, read_from: TestDatabase, project: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: otherwise the test above might find what always stands there."""
    monkeypatch.setattr(correlation, "_correlation_id", Forgetful())
    found = found_in("not-handed-down", shared, read_from, project, collector)
    assert [system for system, knows in found.items() if knows] == []


class Forgetful:
    """A context variable that nobody gets anything from."""

    def get(self) -> None:
        return None

    def set(self, _: str) -> None:
        return None

    def reset(self, _: None) -> None:
        return None
