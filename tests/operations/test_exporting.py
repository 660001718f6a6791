"""`/metrics` of the watch: ready before anybody asks, for those who may, whatever a client does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.operations import exporting
from flows.operations.alerts import Condition
from flows.operations.checks.check import Round
from flows.operations.exported import Samples, exposition, measured, of_prefect
from flows.operations.exporting import Exporter, exporter, where_to_listen
from flows.operations.metric import Metric
from flows.operations.metric_registry import METRICS
from flows.operations.metrics_push import Push
from flows.operations.metrics_server import MetricsServer
from flows.operations.prefect_facts import Deployment, FlowRun, Pool, PrefectFacts
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.operations.alerting import condition
from tests.operations.gateways import gateway
from tests.operations.watches import ROUTES, check, watching


def test_a_port_alone_is_one_of_the_loopback_interface() -> None:
    assert where_to_listen("9464") == ("127.0.0.1", 9464)
    assert where_to_listen("0.0.0.0:9464") == ("0.0.0.0", 9464)
    assert where_to_listen("[::1]:9464") == ("::1", 9464)
    for wrong in ("", "localhost", ":9464", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1"):
        with pytest.raises(ConfigurationError, match="neither PORT nor HOST:PORT"):
            where_to_listen(wrong)


def sample(text: str, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == f"medallion_{name}"
    }


async def test_each_round_of_the_watch_serves_what_it_saw_and_no_scrape_asks_the_warehouse(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    really = measured

    async def counted(*given: Any) -> Any:
        asked.append(1)
        return await really(*given)

    monkeypatch.setattr(exporting, "measured", counted)
    with watching(monkeypatch, warehouse.url("loader")) as it, gateway() as receiver:
        it.watch.exporter = Exporter(MetricsServer("127.0.0.1", 0), Push(receiver.url))
        await it.rounds(2)
        server = it.watch.exporter.server
        assert server is not None
        async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
            texts = [(await client.get("/metrics")).text for _ in range(5)]
        assert len(asked) == 2, "one a round, with clocks that stand still while it measures"
        assert sample(texts[0], "watch_rounds_total") == {(): 2}
        assert sample(texts[0], "warehouse_up") == {(): 1}
        assert sample(texts[0], "warehouse_measured") == {(): 1}
        assert sample(texts[0], "alerts")["critical", "firing"] == 0
        assert "process_resident_memory_bytes" in texts[0]

        monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", "postgresql://medallion_loader:x@127.0.0.1:1/warehouse")
        settings.cache_clear()
        await it.rounds(1)
        async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
            away = (await client.get("/metrics")).text
        assert sample(away, "warehouse_up") == {(): 0}
        assert sample(away, "warehouse_size_bytes") == {}, "what was before is not what is"
        await it.watch.close()
        assert sample(receiver.taken[0][2], "watch_rounds_total") == {(): 1}


async def test_metrics_that_cannot_be_measured_served_or_pushed_are_alerts_and_stop_no_round(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise TimeoutError

    with watching(monkeypatch, warehouse.url("loader")) as it, gateway() as receiver:
        receiver.answers = [500]
        taken = MetricsServer("127.0.0.1", 0)
        await taken.open()
        port = int(taken.address.rpartition(":")[2])
        it.watch.exporter = Exporter(MetricsServer("127.0.0.1", port), Push(receiver.url))
        monkeypatch.setattr(exporting, "measured", broken)
        for _ in range(5):
            assert (await it.rounds(every=timedelta(seconds=20))).good
            await asyncio.wait({it.watch.exporter._pushing})  # type: ignore[type-var]
        told = sorted(it.told)
        assert told == [f"opened metrics not exported {name}" for name in ("listen", "measure", "push")]
        assert "s3cret" not in str(it.receiver.accepted)

        await taken.close()
        receiver.answers = [200]
        monkeypatch.undo()
        await it.watch.close()


async def test_of_many_tables_some_have_metrics_and_how_many_have_none_is_one(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.publish.two_ends import run_sql

    run_sql(
        warehouse.url("loader"),
        "insert into ops.loads (source_system, table_name, strategy, status, finished_at, rows_read, rows_inserted, "
        "rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined) "
        "select s, t || n, 'merge', 'published', now(), 1, 1, 0, 0, 0, 0 "
        "from (values ('a', 't'), ('shop', 'stores')) as x (s, t), generate_series(1, 30) as n "
        "union all values ('shop', 'stores', 'merge', 'published', now(), 1, 1, 0, 0, 0, 0)",
    )
    from flows.access.addresses import connect
    from tests.kinds.loading import at

    monkeypatch.setenv("MEDALLION_METRICS_OBJECTS", "10")
    settings.cache_clear()
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        text = exposition(await measured(connection)).decode()
    loaded = sample(text, "load_last_timestamp_seconds")
    assert len(loaded) == 10
    assert ("shop", "stores") in loaded, "declared ones come first"
    assert sample(text, "series_omitted")["tables",] == 51


def test_queues_workers_and_next_runs_are_those_that_the_prefect_server_says() -> None:
    now = datetime.now(UTC)
    shop = Deployment("1", "ingest/ingest-shop", True, "ecs", "shop")
    off = Deployment("2", "ingest/ingest-web", False, "ecs", "web")
    lost = Deployment("3", "transform/transform", True, "ecs", None)

    def run(type: str, minutes: int) -> FlowRun:
        return FlowRun("r", shop, type, type, "", now, now - timedelta(minutes=minutes), 0, "ecs")

    pools = {"ecs": Pool("ecs", False, False), "local": Pool("local", True, False)}
    due, begun = [run("SCHEDULED", 7), run("SCHEDULED", 3)], [run("PENDING", 1), run("RUNNING", 1), run("RUNNING", 1)]
    facts = PrefectFacts(now, [shop, off, lost], due, begun, frozenset({"1"}), pools, {}, [], [])
    samples = Samples()
    of_prefect(samples, facts)
    text = exposition(samples).decode()

    assert sample(text, "pool_flow_runs") == {
        ("ecs", "due"): 2, ("ecs", "pending"): 1, ("ecs", "running"): 2,
        ("local", "due"): 0, ("local", "pending"): 0, ("local", "running"): 0,
    }  # fmt: skip
    assert sample(text, "flow_run_oldest_due_seconds") == {("ecs",): 420, ("local",): 0}
    assert sample(text, "work_pool_polled") == {("ecs",): 0, ("local",): 1}
    assert sample(text, "deployment_planned") == {("ingest-shop",): 1, ("transform",): 0}


def test_a_name_with_any_characters_stays_one_label() -> None:
    samples = Samples()
    hostile = 'a"} 1\nmedallion_alerts{severity="critical'
    samples.add("circuit_open", 1, [hostile])
    assert sample(exposition(samples).decode(), "circuit_open") == {(hostile,): 1}


def test_the_setting_that_asks_for_nothing_measures_nothing() -> None:
    assert exporter("").server is None
    assert exporter("").push is None


def test_every_metric_is_declared_once_with_its_unit_in_its_name() -> None:
    assert len({each.name for each in METRICS}) == len(METRICS)

    def fits(each: Metric) -> bool:
        name = each.name.removesuffix("_total")
        return each.unit not in ("seconds", "bytes", "rows") or name.endswith((f"_{each.unit}", f"_{each.unit}_max"))

    assert [each.name for each in METRICS if not fits(each)] == []
    with pytest.raises(KeyError):
        Samples().add("misspelt", 1)


def _found(name: str, _: Round) -> list[Condition]:
    return [condition("disk", name, "critical")]


async def test_without_routes_nothing_is_sent_also_directly_and_alerts_are_metrics_all_the_same(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For teams whose alerts come from Prometheus: docs/prometheus.md."""
    for name, routes, told in (("full", (), []), ("fuller", ROUTES, ["opened fuller disk"])):  # with the control
        looks = [check("a", partial(_found, name))]
        with watching(monkeypatch, warehouse.url("loader"), looks, routes=routes) as it:
            it.watch.exporter = Exporter(MetricsServer("127.0.0.1", 0))
            await it.rounds(2)
            assert it.told[:1] == told
            server = it.watch.exporter.server
            assert server is not None
            async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
                assert sample((await client.get("/metrics")).text, "alerts")["critical", "firing"] == 1
            await it.watch.close()
    with watching(monkeypatch, "postgresql://medallion_loader:x@127.0.0.1:1/warehouse", routes=()) as it:
        await it.rounds(3)
        assert it.told == []
