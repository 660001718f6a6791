"""What the watch sees of a real Prefect server: next runs, workers, and runs that do not do what they should."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from deployments.next_runs import wait_for_next_runs
from deployments.server import connected
from flows.operations import prefect_facts
from flows.operations.checks.check import Check
from flows.operations.checks.registry import checks
from flows.operations.prefect_facts import deployment_names
from flows.values.settings import settings
from tests.conftest import ROOT, TestDatabase
from tests.deployments.asking import asked
from tests.deployments.conftest import STUBS, empty, small_clone
from tests.deployments.deploying import SMALL, Deploying
from tests.deployments.test_automations import become, start
from tests.flows.prefect_facts import forget_senders
from tests.operations.watches import Watching, watching

pytestmark = pytest.mark.xdist_group("deployments")

#: Its automations would react to what the tests do to runs.
QUIET = replace(SMALL, attempts=1, active=True)


@pytest.fixture(scope="module")
def deployed(second_prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploying]:
    """Deployments with active schedules, without automations; made once, because that takes seconds."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    clone = small_clone(tmp_path_factory.mktemp("clone"), STUBS)
    with pytest.MonkeyPatch.context() as patched, temporary_settings({PREFECT_API_URL: second_prefect_server}):
        patched.setenv("PREFECT_API_URL", second_prefect_server)
        empty(second_prefect_server)
        made = Deploying(second_prefect_server, clone, QUIET)
        made.deploy()
        for automation in made.filtered("automations"):
            asked("DELETE", f"{made.api}/automations/{automation['id']}").raise_for_status()
        yield made
        empty(second_prefect_server)
    forget_senders()


@pytest.fixture
def deploying(deployed: Deploying) -> Deploying:
    """The same, without runs but those that are scheduled."""
    manual = {"flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}}
    late = {"flow_runs": {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}}}
    for wanted in (manual, late):
        for run in asked("POST", f"{deployed.api}/flow_runs/filter", json=wanted).json():
            asked("DELETE", f"{deployed.api}/flow_runs/{run['id']}")
    return deployed


@contextmanager
def looking(
    monkeypatch: pytest.MonkeyPatch, warehouse: TestDatabase, deploying: Deploying, *names: str
) -> Iterator[Watching]:
    """A watch with these checks only, beside a worker that polls."""
    heartbeat(deploying)
    settings.cache_clear()
    some = [each for each in checks() if each.name in names]
    assert len(some) == len(names)
    monkeypatch.setenv("PREFECT_API_URL", deploying.api)
    # As if the last watch had been silent for long: beside one that looks, another only stands by.
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as connection:
        connection.execute("delete from ops.watches")
    with watching(monkeypatch, warehouse.url("loader"), some, names=deployment_names()) as it:
        it.hands.now = datetime.now(UTC)
        yield it


DAYS = {"table": "shop.baskets", "first": "2017-01-01", "last": "2017-01-02"}


def heartbeat(deploying: Deploying) -> None:
    """What a worker of the pool tells the server."""
    path = f"{deploying.api}/work_pools/local/workers/heartbeat"
    asked("POST", path, json={"name": "one", "heartbeat_interval_seconds": 30}).raise_for_status()


def due(deploying: Deploying, name: str, ago: timedelta, **state: str) -> str:
    """A run that should have begun so long ago."""
    deployment = deploying.get(f"/deployments/name/{name}")
    moment = (datetime.now(UTC) - ago).isoformat()
    body = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": moment}, **state}}
    answer = asked("POST", f"{deploying.api}/deployments/{deployment['id']}/create_flow_run", json=body)
    answer.raise_for_status()
    return str(answer.json()["id"])


def soon() -> str:
    return (datetime.now(UTC) + timedelta(minutes=30)).isoformat()


def set_state(deploying: Deploying, run: str, **state: Any) -> None:
    body = {"state": state, "force": True}
    asked("POST", f"{deploying.api}/flow_runs/{run}/set_state", json=body).raise_for_status()


def test_all_that_is_declared_is_looked_at() -> None:
    names = [each.name for each in checks()]
    assert len(names) == len(set(names))
    assert set(deployment_names()) >= {"ingest-shop", "transform"}
    assert all(isinstance(each, Check) for each in checks())
    assert (ROOT / "prefect.yaml").is_file()


async def test_a_healthy_server_gives_no_alert_and_a_dead_scheduler_does(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [each.name for each in checks() if each.name not in ("disk", "certificates")]
    with connected({}) as server:
        wait_for_next_runs(server, deployment_names())
    with looking(monkeypatch, warehouse, deploying, *everything) as it:
        looked = await it.rounds(2, timedelta())
        assert (looked.found, looked.cannot, looked.good) == (0, (), True), it.watch._found
        assert it.told == []
        planned = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        for run in asked("POST", f"{deploying.api}/flow_runs/filter", json=planned).json():
            asked("DELETE", f"{deploying.api}/flow_runs/{run['id']}")
        await it.rounds(1, timedelta())
        assert "no next run" not in str(it.told), (
            "a change of a deployment deletes its runs, and they are planned again"
        )
        monkeypatch.setattr(prefect_facts, "_REPLANNED", timedelta())
        await it.rounds(1, timedelta())
        assert "opened no next run transform/transform" in it.told


async def test_a_pool_without_a_worker_is_told_and_late_runs_belong_to_its_incident(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with looking(monkeypatch, warehouse, deploying, "workers", "late runs") as it:
        await it.rounds(1, timedelta())
        assert it.told == [], "a worker polls"
        due(deploying, "ingest/ingest-shop", timedelta(minutes=20))
        asked("DELETE", f"{deploying.api}/work_pools/local/workers/one").raise_for_status()
        await it.rounds(1, timedelta())
        assert it.told == ["opened no worker work pool local", "opened flow run late ingest/ingest-shop"]
        assert len(it.receiver.accepted) == 1, "one message"
        assert "medallion worker --pool local" in it.receiver.accepted[0]["body"]
    # The control: a watch without these checks.
    with looking(monkeypatch, warehouse, deploying, "pending runs") as it:
        await it.rounds(1, timedelta())
        assert not any(line.startswith("opened") for line in it.told)


async def test_a_worker_counts_as_gone_after_two_heartbeats(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect itself needs 105 s to say so: too long to be told within two minutes."""
    monkeypatch.setattr(prefect_facts, "_IN_FLIGHT", timedelta())
    workers = f"{deploying.api}/work_pools/local/workers"
    for left_over in asked("POST", f"{workers}/filter", json={}).json():  # of tests before
        asked("DELETE", f"{workers}/{left_over['name']}").raise_for_status()
    with looking(monkeypatch, warehouse, deploying, "workers") as it:
        path = f"{workers}/heartbeat"
        asked("POST", path, json={"name": "one", "heartbeat_interval_seconds": 1}).raise_for_status()
        await it.rounds(1, timedelta())
        assert it.told == []
        # The server says what time it is in whole seconds, and a busy one says it late.
        for _ in range(30):
            await asyncio.sleep(1)
            await it.rounds(1, timedelta())
            if it.told:
                break
        assert it.told == ["opened no worker work pool local"]


async def test_runs_that_the_ledger_does_not_tell_of_are_told(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with looking(monkeypatch, warehouse, deploying, "ended runs") as it:
        killed, refused = start(deploying, "backfill/backfill", **DAYS), start(deploying, "reconcile/reconcile")
        become(deploying, killed, "running", "crashed")
        become(deploying, refused, "running", "failed")
        stopped, fine = start(deploying, "release/release"), start(deploying, "pipeline/pipeline")
        become(deploying, stopped, "running", "cancelled")
        become(deploying, fine, "running", "completed")
        with psycopg.connect(warehouse.url("loader"), autocommit=True) as connection:
            connection.execute(
                "insert into ops.runs (pipeline, flow_run_id, status) values ('reconcile', %s, 'failed')", [refused]
            )
        await it.rounds(1, timedelta())
        assert sorted(it.told) == [
            "opened flow run cancelled release/release",
            "opened flow run crashed backfill/backfill",
        ]
        again = start(deploying, "backfill/backfill", **DAYS)
        become(deploying, again, "running", "completed")
        await it.rounds(1, timedelta())
        assert "resolved flow run crashed backfill/backfill" in it.told
        assert "resolved flow run cancelled release/release" not in it.told


async def test_a_run_that_crashed_and_was_started_again_is_told_as_restarted(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with looking(monkeypatch, warehouse, deploying, "ended runs", "restarted runs") as it:
        run = start(deploying, "backfill/backfill", **DAYS)
        become(deploying, run, "pending", "crashed")
        await it.rounds(1, timedelta())
        set_state(deploying, run, type="SCHEDULED", name="AwaitingRetry")
        until = time.monotonic() + 30
        while "opened flow run restarted backfill/backfill" not in it.told and time.monotonic() < until:
            await it.rounds(1, timedelta())
            it.hands.now = datetime.now(UTC)
            await asyncio.sleep(0.2)
        assert "opened flow run restarted backfill/backfill" in it.told
        assert "resolved flow run crashed backfill/backfill" in it.told


async def test_a_run_that_crashed_for_good_is_not_told_as_restarted(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one attempt, the deployment's next run was taken for the restart of the one that crashed."""
    with looking(monkeypatch, warehouse, deploying, "ended runs", "restarted runs") as it:
        lost = start(deploying, "backfill/backfill", **DAYS)
        become(deploying, lost, "running", "crashed")
        await it.rounds(1, timedelta())
        again = start(deploying, "reconcile/reconcile")
        become(deploying, again, "pending", "crashed")
        set_state(deploying, again, type="SCHEDULED", name="AwaitingRetry")
        next_one = start(deploying, "backfill/backfill", **DAYS)
        become(deploying, next_one, "running", "completed")
        until = time.monotonic() + 30
        while "opened flow run restarted reconcile/reconcile" not in it.told and time.monotonic() < until:
            await it.rounds(1, timedelta())
            it.hands.now = datetime.now(UTC)
            await asyncio.sleep(0.2)
        assert "opened flow run restarted reconcile/reconcile" in it.told, "the control: this one was started again"
        assert "resolved flow run crashed backfill/backfill" in it.told
        assert "opened flow run restarted backfill/backfill" not in it.told


async def test_runs_that_are_pending_overlap_late_or_dropped_are_told_of(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("late runs", "pending runs", "overlapping runs", "dropped runs", "ended runs")
    with looking(monkeypatch, warehouse, deploying, *names) as it:
        stuck = start(deploying, "backfill/backfill", **DAYS)
        become(deploying, stuck, "pending")
        one, two = start(deploying, "reconcile/reconcile"), start(deploying, "reconcile/reconcile")
        become(deploying, one, "running")
        overdue = due(deploying, "ingest/ingest-shop", timedelta(minutes=20))
        due(deploying, "transform/transform", timedelta(minutes=10))
        dropped = start(deploying, "purge/purge")
        set_state(deploying, dropped, type="CANCELLED", message="Deployment concurrency limit reached.")
        await it.rounds(1, timedelta())
        assert sorted(it.told) == ["opened flow run dropped purge/purge", "opened flow run late ingest/ingest-shop"]
        assert "opened flow runs overlap reconcile/reconcile" not in it.told
        # One that a source asked to come back later is not late, though it was to begin long ago.
        set_state(deploying, overdue, type="SCHEDULED", name="AwaitingRetry", state_details={"scheduled_time": soon()})
        await it.rounds(1, timedelta())
        assert it.told[-1] == "resolved flow run late ingest/ingest-shop"
        become(deploying, two, "running")
        monkeypatch.setenv("MEDALLION_WATCH_PENDING_MINUTES", "0.001")
        settings.cache_clear()
        it.watch.checks = [each for each in checks() if each.name in names]
        await asyncio.sleep(1.2)  # the server says what time it is in whole seconds
        await it.rounds(1, timedelta())
        assert "opened flow run pending backfill/backfill" in it.told
        assert "opened flow runs overlap reconcile/reconcile" in it.told


async def test_gold_that_is_not_built_is_told_where_transform_starts_by_itself(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as connection:
        connection.execute(
            "insert into ops.runs (pipeline, status, started_at, finished_at) "
            "values ('transform', 'done', now() - '10 hours'::interval, now() - '9 hours'::interval)"
        )
    with looking(monkeypatch, warehouse, deploying, "gold") as it:
        await it.rounds(1, timedelta())
        assert it.told == ["opened gold not built transform"]
    transform = deploying.get("/deployments/name/transform/transform")["id"]
    asked("PATCH", f"{deploying.api}/deployments/{transform}", json={"paused": True}).raise_for_status()
    with looking(monkeypatch, warehouse, deploying, "gold") as it:
        await it.rounds(1, timedelta(minutes=2))
        assert it.told == ["resolved gold not built transform"], "nothing is to happen by itself"
    asked("PATCH", f"{deploying.api}/deployments/{transform}", json={"paused": False}).raise_for_status()


async def test_a_server_that_refuses_us_or_is_another_is_told_and_what_depends_on_it_waits(
    deploying: Deploying, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [each.name for each in checks() if each.name not in ("disk", "certificates")]
    for variable, value, word in (
        ("PREFECT_API_AUTH_STRING", "medallion:wrong", "refuses the credentials (401)"),
        ("PREFECT_API_URL", deploying.api.removesuffix("/api"), "is not a Prefect API"),
        ("PREFECT_API_URL", "http://127.0.0.1:1/api", "does not respond"),
    ):
        with monkeypatch.context() as patched:
            heartbeat(deploying)
            patched.setenv("PREFECT_API_URL", deploying.api)
            patched.setenv(variable, value)
            some = [each for each in checks() if each.name in everything]
            with watching(patched, warehouse.url("loader"), some, names=deployment_names()) as it:
                it.hands.now = datetime.now(UTC)
                looked = await it.rounds(1, timedelta())
                assert looked.cannot == ()
                opened = [line for line in it.told if line.startswith("opened")]
                if word.startswith("refuses"):
                    assert opened == ["opened Prefect server down Prefect server"]
                alerts = it.watch._found["Prefect server"]
                assert word in alerts[0].what
                assert "wrong" not in alerts[0].what
