"""What a deployed platform does without anybody calling it: nothing here starts what is to start by itself; it waits.

One server, one story of some seven minutes, most of it asleep. It is the gate for each change of the lock file:
packages that do not fit together have stopped every schedule before, while all deployments looked healthy. A run of all
tests begins with it, in a process that does nothing else: see tests/conftest.py.
"""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments import automations
from deployments.next_runs import next_runs, refuse_unplanned, wait_for_next_runs
from deployments.server import connected
from flows.values.errors import ConfigurationError
from infra.local import ports
from infra.local.prefect_server import api_url
from tests.conftest import HOME_VARIABLE, TestCluster, prefect_database
from tests.deployments.asking import asked
from tests.deployments.conftest import STUBS, small_clone
from tests.deployments.deploying import SMALL, Deploying
from tests.deployments.prefect_log import TalkativeServer, periodic_services, troubles, turns_without_error
from tests.deployments.test_automations import become, channel, runs_of, start
from tests.eventually import looked_for
from tests.flows.prefect_facts import forget_senders

pytestmark = pytest.mark.xdist_group("by itself")

FLOWS = {
    **STUBS,
    "flows/ingest": "def ingest(source: str, tables: list[str] | None = None) -> None:\n    read()\n\n\n"
    "from prefect import task\n\n\n@task\ndef read() -> None: ...",
    "flows/release": "def release(accept_changes: bool = False) -> None: raise ValueError('refused')",
    "flows/backfill": "def backfill(table: str, first: str, last: str) -> None:\n"
    "    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)",
    "flows/purge": "def purge(delete: bool = False) -> None:\n    import time\n    time.sleep(30)",
    "flows/pipeline": "def pipeline() -> None:\n    import time\n    time.sleep(600)",
}
#: Automations react to a run a quarter of an hour late if the server planned it less than five minutes before it is
#: due: they wait for the event of its first state, which is never sent. Meanwhile a worker is lost, and noticed.
PLANNED_AHEAD = timedelta(minutes=5, seconds=5)
#: What deploying and planning may take until then; where they take longer, schedules are set anew.
DEPLOYING = timedelta(seconds=30)
INGESTS = ("ingest-shop", "ingest-marketing", "ingest-currency")
#: Waits end as soon as what they wait for is there; this is for a busy machine.
PATIENCE = 240.0


@dataclass
class Day:
    """What was seen: `told` at the channel, `fired` by the names of automations, events heard on the web socket."""

    deploying: Deploying
    log: Path
    told: list[Any]
    due: datetime = field(init=False)
    fired: dict[str, bool] = field(default_factory=dict)
    ready_without_worker: set[bool] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)

    def told_of(self, what: str) -> bool:
        return any(message["subject"].endswith(what) for message in self.told)

    def follower(self, flow: str) -> dict[str, Any]:
        """The run of the flow that an automation started, if one did."""
        return next(
            (run for run in runs_of(self.deploying, flow) if (run["created_by"] or {}).get("type") == "AUTOMATION"),
            {},
        )

    def states(self, run: str) -> list[dict[str, Any]]:
        answer = asked("GET", f"{self.deploying.api}/flow_run_states/", params={"flow_run_id": run})
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture(scope="module")
def day(cluster: TestCluster, prefect_auth: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The whole story, told once; tests look at what came of it."""
    folder = tmp_path_factory.mktemp("by-itself")
    home = Path(os.environ[HOME_VARIABLE])
    database = prefect_database(cluster, "by_itself")
    server = TalkativeServer(
        home / "by-itself", home / "run" / "by-itself", folder / "server.log", prefect_auth, database
    )
    with pytest.MonkeyPatch.context() as patch, channel() as (url, told):
        running = server.start(port=ports.any_free())
        try:
            server.wait(running)
            with pointed_to(api_url(running.port), patch):
                patch.setenv("MEDALLION_ALERT_WEBHOOK_URL", url)
                # Gold is missed after half a minute instead of eight hours: it is before the first transform.
                patch.setattr(automations, "GOLD_WITHIN", timedelta(seconds=30))
                environment = replace(SMALL, attempts=2, missed_heartbeats=1, pending_seconds=60)
                clone = small_clone(folder, FLOWS)
                day = Day(Deploying(api_url(running.port), clone, environment), server.log, told)
                live_through(day)
                yield day
        finally:
            server.stop()


@contextmanager
def pointed_to(api: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prefect in this process talks to that server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    patch.setenv("PREFECT_API_URL", api)
    forget_senders()
    with temporary_settings({PREFECT_API_URL: api}):
        yield
    forget_senders()


def reschedule(clone: Path, due: datetime) -> None:
    """Ingests are due at that minute; so is reconcile, whose schedule is off."""
    path = clone / "prefect.yaml"
    document = yaml.safe_load(path.read_text())
    for entry in document["deployments"]:
        if entry["name"] in INGESTS:
            entry["schedules"][0]["cron"] = f"{due.minute} {due.hour} * * *"
        if entry["name"] == "reconcile":
            entry["schedules"][0] |= {"cron": "* * * * *", "active": False}
    path.write_text(yaml.safe_dump(document))


def plan_ahead(day: Day) -> None:
    """Deploy, and see that the ingests were planned early enough before they are due."""
    for _ in range(3):
        earliest = datetime.now(UTC) + PLANNED_AHEAD + DEPLOYING
        day.due = (earliest + timedelta(minutes=1)).replace(second=0, microsecond=0)
        reschedule(day.deploying.root, day.due)
        day.deploying.deploy()
        with connected({}) as server:
            planned = wait_for_next_runs(server, INGESTS)
        assert [run.at for run in planned] == [day.due] * len(INGESTS)
        if datetime.now(UTC) < day.due - PLANNED_AHEAD:
            return
    raise AssertionError("deploying takes too long on this machine")


def live_through(day: Day) -> None:
    """Deploy; lose a worker, and wait for what is told of that; then wait for what is due, with another worker."""
    deploying = day.deploying
    # A thread has none of the settings that were made for this one.
    here = contextvars.copy_context()
    listening = threading.Thread(target=here.run, args=(listen, deploying.api, day.heard), daemon=True)
    listening.start()
    plan_ahead(day)
    disabled_twin(deploying, "medallion alert: a run failed")
    stuck = start(deploying, "pipeline/pipeline")
    for last in ("AwaitingRetry", "Failed"):
        become(deploying, stuck, "pending")  # by a worker that is gone a moment later
        looked_for(lambda last=last: day.states(stuck)[-1]["name"] == last, PATIENCE)  # type: ignore[misc]
    looked_for(lambda: day.told_of("gold is not built"), PATIENCE)
    with worker(deploying) as process:
        start(deploying, "release/release")
        for _ in range(2):
            start(deploying, "purge/purge")
        backfill = start(deploying, "backfill/backfill", table="shop.baskets", first="2017-01-01", last="2017-01-02")
        lost = start(deploying, "pipeline/pipeline")
        looked_for(lambda: "prefect.flow-run.heartbeat" in events_of(deploying, lost), PATIENCE)
        looked_for(lambda: day.told_of("a run crashed for the last time"), PATIENCE)
        kill(process, lost)
    late = []
    for _ in range(3):
        late.append(start(deploying, "transform/transform"))
        # Prefect keeps the event of a state for a quarter of an hour if that of the state before is still under way
        # when it arrives: then the next late run is the first that is reported.
        if looked_for(lambda: day.told_of("runs are late"), PATIENCE / 3):
            break
    looked_for(lambda: day.told_of("no worker takes runs"), PATIENCE)
    with connected({}) as server:
        day.ready_without_worker = {run.pool_ready for run in next_runs(server, INGESTS)}
    for run in late:
        become(deploying, run, "cancelled")
    looked_for(lambda: "Crashed" in {state["name"] for state in day.states(lost)}, PATIENCE)
    looked_for(lambda: datetime.now(UTC) > day.due - timedelta(seconds=20), 2 * PLANNED_AHEAD.total_seconds())
    with worker(deploying):
        looked_for(lambda: day.follower("predict").get("state_name") == "Completed", PATIENCE)
    day.fired = {
        "transform follows the ingests": bool(day.follower("transform")),
        "predict follows a transform": bool(day.follower("predict")),
        "medallion: a silent run has crashed": any("no heartbeat" in (s["message"] or "") for s in day.states(lost)),
        "medallion: a run that stays pending has crashed": any(
            "pending for too long" in (state["message"] or "") for state in day.states(stuck)
        ),
        "medallion: a run that never began has failed": day.states(stuck)[-1]["name"] == "Failed",
        "medallion: a crashed run starts again": "AwaitingRetry" in {state["name"] for state in day.states(backfill)},
        **{
            entry["name"]: day.told_of(entry["name"].removeprefix("medallion alert: "))
            for entry in deploying.filtered("automations")
            if entry["name"].startswith("medallion alert: ")
        },
    }
    listening.join(1)


def listen(api: str, heard: set[str]) -> None:
    """The events that the server sends to its pages, until a run has completed."""
    from prefect.events.clients import PrefectEventSubscriber

    async def subscribed() -> None:
        async with PrefectEventSubscriber(api_url=api) as events:
            async for event in events:
                heard.add(event.event)
                if event.event == "prefect.flow-run.Completed":
                    return

    asyncio.run(subscribed())


def disabled_twin(deploying: Deploying, name: str) -> None:
    """The automation once more, switched off and under a subject of its own: the control that must stay silent."""
    found = next(entry for entry in deploying.filtered("automations") if entry["name"] == name)
    action = {**found["actions"][0], "subject": "the one that is off"}
    body = {"name": "off", "trigger": found["trigger"], "actions": [action], "enabled": False}
    asked("POST", f"{deploying.api}/automations/", json=body).raise_for_status()


@contextmanager
def worker(deploying: Deploying) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool `local`, as people start it, whose absence is noticed within a quarter of a minute."""
    variables = {
        **os.environ,
        "PREFECT_API_URL": deploying.api,
        "PREFECT_HOME": str(deploying.root / "home"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"]
    with (deploying.root / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=deploying.root, env=variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def kill(process: subprocess.Popen[bytes], run: str) -> None:
    """The worker and the run's process at once: nobody is left to tell of it."""
    process.kill()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and run.encode() in environment_of(entry):
            os.kill(int(entry.name), signal.SIGKILL)


def environment_of(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def events_of(deploying: Deploying, run: str) -> set[str]:
    """The names of the events of a flow run, as the server has kept them."""
    wanted = {"filter": {"resource": {"id": [f"prefect.flow-run.{run}"]}}, "limit": 50}
    found = asked("POST", f"{deploying.api}/events/filter", json=wanted).json()
    return {event["event"] for event in found["events"]}


def test_what_is_due_by_its_schedule_is_run_by_a_worker_and_completes(day: Day) -> None:
    runs = [run for run in runs_of(day.deploying, "ingest") if run["auto_scheduled"]]
    begun = [run for run in runs if run["state_type"] != "SCHEDULED"]
    assert {run["parameters"]["source"] for run in begun} == {"shop", "marketing", "currency"}
    assert {run["state_name"] for run in begun} == {"Completed"}
    earliest = day.due - timedelta(seconds=15)  # a worker fetches a run some seconds ahead and may start it early
    assert all(datetime.fromisoformat(run["start_time"]) >= earliest for run in begun)
    assert len(runs) > len(begun), "the runs of the next days are planned"


def test_transform_follows_the_ingests_and_predict_follows_transform(day: Day) -> None:
    transform, predict = day.follower("transform"), day.follower("predict")
    assert (transform.get("state_name"), predict.get("state_name")) == ("Completed", "Completed")
    ingests = [run["end_time"] for run in runs_of(day.deploying, "ingest") if run["end_time"]]
    assert max(ingests) < transform["start_time"] < predict["start_time"]


def test_each_automation_at_the_server_fires_and_its_action_is_seen(day: Day) -> None:
    """An automation that is new must be brought about in this story, or this fails."""
    at_the_server = {entry["name"] for entry in day.deploying.filtered("automations")} - {"off"}
    assert day.fired == dict.fromkeys(at_the_server, True)


def test_what_is_switched_off_does_nothing(day: Day) -> None:
    assert runs_of(day.deploying, "reconcile") == []
    assert day.told_of("a run failed")
    assert not day.told_of("the one that is off")


def test_every_service_of_the_server_does_its_work_and_none_fails(day: Day) -> None:
    """Periodic ones by their turns; the others by what they are there for."""
    from prefect.server.services.base import Service

    log = day.log.read_text(errors="replace")
    turns = turns_without_error(log)
    services = periodic_services(log)
    assert len(services) > 10
    assert {name for name in services if turns[name] < 1} == set()
    assert troubles(log) == []

    ingest = next(run for run in runs_of(day.deploying, "ingest") if run["state_name"] == "Completed")
    wanted = {"flow_runs": {"id": {"any_": [ingest["id"]]}}}
    seen = {
        "EventPersister": "prefect.flow-run.Completed" in events_of(day.deploying, ingest["id"]),
        "TaskRunRecorder": [
            run["state_name"] for run in asked("POST", f"{day.deploying.api}/task_runs/filter", json=wanted).json()
        ]
        == ["Completed"],
        "ReactiveTriggers": bool(day.follower("transform")),
        "Actions": bool(day.told),
        "Distributor": "prefect.flow-run.Completed" in day.heard,
    }
    assert seen == {service.__name__: True for service in Service.enabled_services()}


def test_the_next_run_of_each_active_deployment_is_told(day: Day) -> None:
    with connected({}) as server:
        told = {run.deployment: run for run in next_runs(server, [*INGESTS, "transform", "reconcile", "backfill"])}
        refuse_unplanned(server, told.values())
    assert set(told) == {
        "ingest/ingest-shop",
        "ingest/ingest-marketing",
        "ingest/ingest-currency",
        "transform/transform",
    }
    tomorrow = day.due.replace(second=0, microsecond=0) + timedelta(days=1)
    assert told["ingest/ingest-shop"].at == tomorrow
    assert told["ingest/ingest-shop"].schedules == (f"{day.due.minute} {day.due.hour} * * * UTC",)
    assert day.ready_without_worker == {False}


def test_an_active_schedule_without_a_next_run_is_an_error_with_a_fix(day: Day) -> None:
    """A date that never comes, for lack of a scheduler that fails."""
    deployment = day.deploying.get("/deployments/name/backfill/backfill")
    body = [{"active": True, "schedule": {"cron": "0 0 30 2 *", "timezone": "UTC"}}]
    asked("POST", f"{day.deploying.api}/deployments/{deployment['id']}/schedules", json=body).raise_for_status()
    with (
        connected({}) as server,
        pytest.raises(ConfigurationError, match="no next run is planned for backfill/backfill"),
    ):
        refuse_unplanned(server, next_runs(server, ["backfill"]))
