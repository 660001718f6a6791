"""`/metrics` of the watch: ready before anybody asks, for those who may, whatever a client does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from flows.operations import exporting, metrics_server
from flows.operations.alerts import Condition
from flows.operations.checks.check import Round
from flows.operations.exported import Samples, exposition, measured, of_prefect
from flows.operations.exporting import Exporter, exporter, where_to_listen
from flows.operations.metric_registry import METRICS, Metric
from flows.operations.metrics_push import Push
from flows.operations.metrics_server import MetricsServer
from flows.operations.prefect_facts import Deployment, FlowRun, Pool, PrefectFacts
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from infra.local.ports import any_free
from tests.conftest import TestDatabase
from tests.operations.alerting import condition
from tests.operations.watches import ROUTES, check, watching


@asynccontextmanager
async def served(text: bytes | None = b"a 1\n", **options: Any) -> Any:
    """A server that was shown this text, and a client of it."""
    server = MetricsServer("127.0.0.1", 0, **options)
    await server.open()
    if text is not None:
        server.show(text)
    try:
        async with httpx.AsyncClient(base_url=f"http://{server.address}", timeout=5) as client:
            yield server, client
    finally:
        await server.close()


async def test_the_metrics_of_the_last_round_are_served_also_compressed() -> None:
    async with served(b"a 1\n" * 500) as (server, client):
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        assert (plain.status_code, plain.text) == (200, "a 1\n" * 500)
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        zipped = await client.get("/metrics?name=a")
        assert (zipped.headers["content-encoding"], zipped.text) == ("gzip", plain.text)
        assert int(zipped.headers["content-length"]) < 100
        server.show(b"a 2\n")
        assert (await client.get("/metrics")).text == "a 2\n"
        assert (await client.head("/metrics")).status_code == 200


async def test_before_the_first_round_and_after_one_that_hangs_it_is_not_healthy() -> None:
    now = [0.0]
    async with served(None, elapsed=lambda: now[0]) as (server, client):
        assert (await client.get("/healthz")).status_code == 503
        assert (await client.get("/metrics")).status_code == 503
        server.show(b"")
        assert (await client.get("/healthz")).status_code == 200
        now[0] = 300
        unhealthy = await client.get("/healthz")
        assert (unhealthy.status_code, unhealthy.text) == (503, "the last round ended 300 s ago\n")


async def test_with_a_token_nobody_else_reads_them_and_health_says_no_more_than_that() -> None:
    async with served(token="s3cret") as (server, client):
        for header in ({}, {"Authorization": "Bearer other"}, {"Authorization": "s3cret"}):
            refused = await client.get("/metrics", headers=header)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/metrics", headers={"Authorization": "Bearer s3cret"})).text == "a 1\n"
        assert (await client.get("/healthz")).status_code == 200
        assert "s3cret" not in repr(server)


async def test_a_page_in_a_browser_cannot_read_them_under_a_name_that_leads_to_this_machine() -> None:
    async with served() as (_, client):
        assert (await client.get("/metrics", headers={"Host": "evil.example.org:9464"})).status_code == 421
        for host in ("localhost:9464", "127.0.0.1", "[::1]:9464"):
            assert (await client.get("/metrics", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nAuthorization: \xff\xfe\r\nHost: localhost\r\n\r\n", 401),
    ],
)
async def test_what_is_no_request_for_metrics_gets_a_short_answer(sent: bytes, status: int) -> None:
    async with served(token="s3cret") as (server, _):
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] == str(status).encode()
        assert b"passwd" not in answer


async def test_clients_that_stay_neither_stop_others_nor_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred that say nothing, more than may be connected, and one that does not take its answer."""
    monkeypatch.setattr(metrics_server, "_TAKE_SECONDS", 1.0)
    async with served(b"a 1\n" * 4_000_000) as (server, client):
        host, _, port = server.address.rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        greedy = idle[-1][1]
        greedy.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def is_connected() -> bool:
            peers = [writer.get_extra_info("peername") for writer in server._clients]
            return greedy.get_extra_info("sockname") in peers

        async with asyncio.timeout(5):
            while not is_connected():  # noqa: ASYNC110 - nothing is set when it is met
                await asyncio.sleep(0.01)
        assert (await client.get("/healthz")).status_code == 200
        assert 60 < len(server._clients) <= 64
        async with asyncio.timeout(5):
            while is_connected():  # noqa: ASYNC110 - nothing is set when it is dropped
                await asyncio.sleep(0.02)
        for _, writer in idle:
            writer.close()


async def test_a_client_that_asks_too_slowly_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_ASK_SECONDS", 0.1)
    async with served() as (server, _):
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metr")
        assert await asyncio.wait_for(reader.read(), 3) == b""
        assert server._clients == {}


def test_a_port_alone_is_one_of_the_loopback_interface() -> None:
    assert where_to_listen("9464") == ("127.0.0.1", 9464)
    assert where_to_listen("0.0.0.0:9464") == ("0.0.0.0", 9464)
    assert where_to_listen("[::1]:9464") == ("::1", 9464)
    for wrong in ("", "localhost", ":9464", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1"):
        with pytest.raises(ConfigurationError, match="neither PORT nor HOST:PORT"):
            where_to_listen(wrong)


@dataclass
class Gateway:
    """A receiver of metrics: what it took, and how it answers."""

    port: int
    answers: list[int] = field(default_factory=lambda: [200])
    taken: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"http://medallion:s3cret@127.0.0.1:{self.port}/metrics/job/medallion")


@contextmanager
def gateway() -> Iterator[Gateway]:
    receiver = Gateway(any_free())

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            receiver.taken.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(receiver.answers[0])
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


async def test_a_gateway_receives_them_and_what_it_says_is_told_without_its_address() -> None:
    with gateway() as receiver:
        push = Push(receiver.url)
        assert await push.send(b"a 1\n") is None
        [(path, authorization, body)] = receiver.taken
        assert (path, authorization[:6], body) == ("/metrics/job/medallion", "Basic ", "a 1\n")
        receiver.answers = [302]
        assert await push.send(b"a 1\n") == "answer 302", "metrics and password follow nobody elsewhere"
        await push.close()
    problem = await push.send(b"a 1\n")
    assert problem == "ConnectError"
    await push.close()
    assert "s3cret" not in repr(push)


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
