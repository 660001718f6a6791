"""What runs leave in Prefect's database: little, and for a while.

The server is the embedded stack's, on PostgreSQL, except that it looks every second for what is beyond its term, and
writes events at once.
"""

import asyncio
import importlib
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.assets import materialize
from prefect.concurrency.sync import concurrency
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.server.utilities.messaging import BrokerModule
from prefect.server.utilities.messaging.memory import MemoryMessage
from prefect.settings import PREFECT_API_URL, temporary_settings
from psycopg import sql

from infra.events.kept import handler_for
from infra.local import ports, roles
from infra.local.prefect_server import PrefectServer, api_url
from tests.conftest import TestCluster
from tests.deployments.asking import asked
from tests.eventually import eventually
from tests.flows.prefect_facts import forget_senders

pytestmark = pytest.mark.xdist_group("prefect growth")

TASKS = 10
#: As days are simulated below.
DAYS_KEPT = 2
DAY = 86_400


class Hurried(PrefectServer):
    """Deletes what is two days old within a second or two, instead of an hour."""

    def environment(self, port: int) -> Mapping[str, str]:
        return {
            **super().environment(port),
            "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1",
            # Events are written in batches, every five seconds unless told otherwise, and each day below waits for one.
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(DAYS_KEPT * DAY),
            "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{DAYS_KEPT}D",
        }


@dataclass(frozen=True)
class Bench:
    """A running server, and the administrator's way into its database."""

    api: str
    session: psycopg.Connection

    def count(self, table: str, where: str = "true") -> int:
        return int(self._one(f"select count(*) from {table} where {where}"))

    def events(self) -> set[str]:
        return {str(row[0]) for row in self.session.execute("select distinct event from events").fetchall()}

    def bytes(self) -> int:
        """After what autovacuum does within a minute."""
        self.session.execute("vacuum")
        return int(self._one("select pg_database_size(current_database())"))

    def _one(self, query: str) -> int:
        row = self.session.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def bench(cluster: TestCluster, prefect_auth: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    name = f"prefect_{secrets.token_hex(4)}"
    roles.ensure_database(cluster.connection, name)
    cluster.connection.execute(
        sql.SQL("alter database {} owner to {}").format(sql.Identifier(name), sql.Identifier(roles.PREFECT_ROLE))
    )
    url = cluster.url(roles.PREFECT_ROLE, name)
    folder: Path = tmp_path_factory.mktemp("growth")
    server = Hurried(
        folder / "prefect",
        record=folder / "record",
        log=folder / "log",
        secret=prefect_auth,
        database_url=url.replace("postgresql:", "postgresql+asyncpg:", 1),
    )
    try:
        running = server.start(port=ports.any_free())
        server.wait(running)
        forget_senders()
        with (
            temporary_settings({PREFECT_API_URL: api_url(running.port)}),
            psycopg.connect(cluster.url(roles.ADMIN, name), autocommit=True) as session,
        ):
            found = Bench(api_url(running.port), session)
            asked("POST", f"{found.api}/v2/concurrency_limits/", json={"name": "warehouse", "limit": 2})
            yield found
        forget_senders()
        assert "Traceback" not in server.log.read_text()
    finally:
        server.stop()
        cluster.connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@task
def load(number: int) -> None:
    get_run_logger().info("table %d: published", number)


@materialize("postgres://warehouse/gold/dim_store")
def build() -> None:
    """As prefect-dbt has each model be an asset."""


@flow
def small() -> None:
    with concurrency("warehouse", strict=False):
        for number in range(TASKS - 1):
            load(number)
        build()
    create_markdown_artifact(key="loads", markdown="| table | rows |\n| --- | --- |\n| a | 1 |")


def run_and_record(bench: Bench, runs: int) -> None:
    """Run the flow so often, and wait until the server has written all of it."""
    before = bench.count("task_run")
    for _ in range(runs):
        small()
    forget_senders()  # what this process still has to send
    eventually(lambda: bench.count("task_run", "state_type = 'COMPLETED'") >= before + runs * TASKS)


@pytest.mark.long
def test_only_events_that_somebody_reads_are_stored_and_automations_hear_all(bench: Bench) -> None:
    """States of task runs come as events; most of what a run wrote was these, kept for a week, and read by nobody."""
    made = asked("POST", f"{bench.api}/automations/", json=on_each_task_run()).json()
    run_and_record(bench, 1)
    emit_event("medallion.schema.changed", resource={"prefect.resource.id": "medallion.table.shop.products"})
    forget_senders()

    # Written in batches, in the order in which they came.
    eventually(lambda: {"medallion.schema.changed", "prefect.automation.triggered"} <= bench.events())
    asked("DELETE", f"{bench.api}/automations/{made['id']}")
    stored = bench.events()
    assert {"prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Completed"} <= stored
    unread = ("task-run", "asset", "concurrency-limit", "artifact")
    assert [event for event in stored if event.removeprefix("prefect.").startswith(unread)] == []
    assert "prefect.flow-run.heartbeat" not in stored
    # Nothing is lost by it: states, logs and artifacts have tables of their own.
    assert bench.count("task_run_state", "type = 'COMPLETED'") == TASKS
    assert bench.count("artifact") == 1


@pytest.mark.parametrize("name", ["infra.events.memory", "infra.events.redis"])
def test_both_brokers_are_such_as_prefect_loads_and_only_the_store_of_events_is_handed_fewer(name: str) -> None:
    """Prefect checks what it loads when its server starts; the one for Redis starts on other machines only."""
    assert isinstance(importlib.import_module(name), BrokerModule)

    handed: list[str] = []

    async def handle(message: MemoryMessage) -> None:
        handed.append(message.attributes["event"])

    async def deliver(group: str) -> list[str]:
        handed.clear()
        for event in ("prefect.task-run.Running", "prefect.flow-run.Failed", "prefect.flow-run.heartbeat", "ours"):
            await handler_for("events", group, handle)(MemoryMessage(b"{}", {"event": event}))
        return [*handed]

    assert asyncio.run(deliver("event-persister")) == ["prefect.flow-run.Failed", "ours"]
    assert len(asyncio.run(deliver("task-run-recorder"))) == 4


def on_each_task_run() -> dict[str, object]:
    """An automation that reacts to an event which is not stored."""
    return {
        "name": f"hears {uuid.uuid4().hex}",
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": ["prefect.task-run.Completed"],
            "match": {"prefect.resource.id": "prefect.task-run.*"},
            "threshold": 1,
            "within": 0,
        },
        "actions": [{"type": "do-nothing"}],
    }


#: A run of 10 tasks left 209 kB with all events, and leaves 58 kB, over 200 runs.
KB_A_RUN = 100


@pytest.mark.long
@pytest.mark.parametrize("runs", [8, 200])
def test_growth_per_run_is_bounded(bench: Bench, runs: int) -> None:
    run_and_record(bench, 3)
    before = bench.bytes()
    run_and_record(bench, runs)
    assert (bench.bytes() - before) / runs < KB_A_RUN * 1000


@pytest.mark.long
@pytest.mark.parametrize(("days", "runs_a_day"), [(5, 2), (8, 25)])
def test_after_a_week_of_runs_the_database_is_no_larger_than_after_its_retention_period(
    bench: Bench, days: int, runs_a_day: int
) -> None:
    """Deleted is what ended or occurred two days ago, and nothing else: its pages take what comes after."""
    asked("POST", f"{bench.api}/variables/", json={"name": f"kept_{uuid.uuid4().hex}", "value": "1"})
    pass_a_day(bench, times=DAYS_KEPT + 1)
    eventually(lambda: bench.count("flow_run") == 0)
    sizes = []
    for _ in range(days):
        run_and_record(bench, runs_a_day)
        eventually(
            lambda: (
                bench.count("events", "event = 'prefect.flow-run.Completed' and occurred > now() - '1 h'::interval")
                >= runs_a_day
            )
        )
        sizes.append(bench.bytes())
        pass_a_day(bench)
        eventually(lambda: bench.count("flow_run", f"end_time < now() - interval '{DAYS_KEPT} days'") == 0)
        eventually(lambda: bench.count("events", f"occurred < now() - interval '{DAYS_KEPT} days'") == 0)
    # In MB over 200 runs in eight days: 14.0, 15.6, 16.9, 17.6, 17.7, 17.2, 17.5, 17.6.
    assert sizes[-1] <= max(sizes[: DAYS_KEPT + 2]) * 1.05, sizes

    young = runs_a_day * (DAYS_KEPT - 1)
    assert bench.count("flow_run") == young
    assert bench.count("task_run") == young * TASKS
    assert bench.count("artifact") >= young
    assert bench.count("variable", "name like 'kept_%'") == 1
    assert bench.count("concurrency_limit_v2", "name = 'warehouse'") == 1


def pass_a_day(bench: Bench, times: int = 1) -> None:
    """All that happened, happened so many days earlier."""
    moments = {
        "flow_run": ("start_time", "end_time", "expected_start_time"),
        "events": ("occurred",),
        "event_resources": ("occurred",),
    }
    for table, columns in moments.items():
        changes = ", ".join(f"{column} = {column} - interval '{times} days'" for column in columns)
        bench.session.execute(f"update {table} set {changes}".encode())
