"""What a server does by itself once deployed to: runs that follow, runs started again, alerts. By its own events."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments import automations
from deployments.automations import alerts, watches
from deployments.environments import ENVIRONMENTS
from deployments.prefect_yaml import DeclaredDeployment
from flows.operations.checks.names import WATCH_ALERTS
from tests.deployments.asking import asked
from tests.deployments.deploying import SMALL, Deploying
from tests.eventually import eventually

pytestmark = pytest.mark.xdist_group("deployments")

#: What follows one another.
FOLLOWING = ("ingest-shop", "ingest-marketing", "ingest-currency", "transform", "predict")
TRANSFORM = DeclaredDeployment("transform", "transform", {}, {})


@pytest.fixture
def deploying(api: str, clone: Path) -> Deploying:
    return Deploying(api, clone)


def start(deploying: Deploying, name: str, **parameters: Any) -> str:
    """A run of a deployment, as a schedule makes it."""
    deployment = deploying.get(f"/deployments/name/{name}")
    body = {"parameters": parameters}
    answer = asked("POST", f"{deploying.api}/deployments/{deployment['id']}/create_flow_run", json=body)
    return str(answer.json()["id"])


def become(deploying: Deploying, run: str, *states: str) -> None:
    """What a worker and the run's process would tell the server."""
    for state in states:
        body = {"state": {"type": state.upper()}, "force": True}
        asked("POST", f"{deploying.api}/flow_runs/{run}/set_state", json=body).raise_for_status()


def runs_of(deploying: Deploying, flow: str) -> list[dict[str, Any]]:
    wanted = {"flows": {"name": {"any_": [flow]}}}
    found: list[dict[str, Any]] = asked("POST", f"{deploying.api}/flow_runs/filter", json=wanted).json()
    return found


def test_transform_starts_when_the_last_ingest_has_ended_well_or_not(deploying: Deploying) -> None:
    """And predict after transform. No clock is asked: schedules lie hours ahead or behind."""
    deploying.only(*FOLLOWING).deploy()
    scheduled = {run["id"] for run in runs_of(deploying, "transform")}

    def started(flow: str) -> list[str]:
        return [
            run["id"] for run in runs_of(deploying, flow) if run["id"] not in scheduled and not run["auto_scheduled"]
        ]

    for source in ("shop", "marketing"):
        become(deploying, start(deploying, f"ingest/ingest-{source}"), "running", "completed")
    time.sleep(2)
    assert started("transform") == []
    become(deploying, start(deploying, "ingest/ingest-currency"), "running", "failed")
    transform = eventually(lambda: started("transform"))
    assert len(transform) == 1
    become(deploying, transform[0], "running", "completed")
    assert len(eventually(lambda: started("predict"))) == 1
    become(deploying, start(deploying, "transform/transform"), "running", "completed")
    time.sleep(2)
    assert len(started("predict")) == 1, "predict is to follow once a week"


def test_outside_an_active_environment_nothing_starts_by_itself(deploying: Deploying) -> None:
    deploying.environment = replace(SMALL, active=False)
    deploying.only(*FOLLOWING).deploy()
    follow = [entry for entry in deploying.filtered("automations") if "follow" in entry["name"]]
    assert [entry["enabled"] for entry in follow] == [False, False]
    schedules = [made["active"] for entry in deploying.filtered("deployments") for made in entry["schedules"]]
    assert schedules
    assert not any(schedules)


def test_a_crashed_run_starts_again_once_each_time_until_its_attempts_are_used_up(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker tells twice that a process died: started after the first, the run was crashed again by the second."""
    pause = timedelta(seconds=10)
    monkeypatch.setattr(automations, "AFTER_A_CRASH", pause)
    deploying.environment = replace(SMALL, attempts=2)
    deploying.only("ingest-shop").deploy()
    run = start(deploying, "ingest/ingest-shop")

    def states() -> list[str]:
        found = asked("GET", f"{deploying.api}/flow_run_states/", params={"flow_run_id": run}).json()
        return [state["name"] for state in found]

    become(deploying, run, "pending", "running", "crashed")
    time.sleep(5)
    become(deploying, run, "crashed")
    assert eventually(lambda: states()[-1] == "AwaitingRetry")
    become(deploying, run, "pending", "running", "crashed")
    time.sleep(2.5 * pause.total_seconds())  # the server looks once in each pause
    assert (states()[-1], states().count("AwaitingRetry")) == ("Crashed", 1)


def test_a_failure_is_told_to_the_channel_without_what_it_said(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    with channel() as (url, told):
        monkeypatch.setenv("MEDALLION_ALERT_WEBHOOK_URL", url)
        deploying.only("ingest-shop", "transform").deploy()
        run = start(deploying, "transform/transform")
        body = {"state": {"type": "FAILED", "message": "a value of a row"}, "force": True}
        asked("POST", f"{deploying.api}/flow_runs/{run}/set_state", json=body).raise_for_status()
        assert eventually(lambda: told)
    assert told[0]["subject"] == "[small] critical: a run failed"
    assert "transform" in told[0]["body"]
    assert "value of a row" not in json.dumps(told)


def test_a_channel_hears_only_of_its_severity_and_above() -> None:
    def names(severity: str) -> set[str]:
        return {entry.name for entry in alerts(SMALL, [TRANSFORM], block="b", severity=severity)}

    assert names("info") == names("warning") > names("critical")
    assert "medallion alert: runs are late" in names("warning") - names("critical")


#: Each alert of the server, and those by which the watch sends the same.
COVERED = {
    "a run failed": {"flow run failed"},
    "a run crashed for the last time": {"flow run crashed"},
    "a run does not begin": {"flow run pending", "flow run restarted"},
    "a run was dropped": {"flow run dropped"},
    "runs are late": {"flow run late"},
    "no worker takes runs": {"no worker"},
    "gold is not built": {"gold not built"},
}


def test_nothing_that_the_server_would_send_is_unknown_to_the_watch() -> None:
    """Which is why it sends nothing itself, unless an environment asks for it."""
    sent = {
        each.name.removeprefix("medallion alert: ") for each in alerts(SMALL, [TRANSFORM], block="b", severity="info")
    }
    assert sent == set(COVERED)
    assert set().union(*COVERED.values()) <= WATCH_ALERTS
    assert not any(environment.server_alerts for environment in ENVIRONMENTS)


def test_where_the_watch_runs_the_server_itself_is_silent_and_keeps_the_channel_for_it(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would tell of each failure, and the server again of each that follows."""
    monkeypatch.setenv("MEDALLION_ALERT_WEBHOOK_URL", "http://127.0.0.1:1/somewhere")
    deploying.environment = replace(SMALL, server_alerts=False)
    changes = [change.resource for change in deploying.look().changes]
    names = [resource.name for resource in changes if resource.kind == "automation"]
    assert names
    assert not [name for name in names if name.startswith("medallion alert")]
    assert [each.name for each in changes if each.kind == "block" and each.name.endswith("/alerts")]


def test_where_one_attempt_is_all_nothing_starts_again() -> None:
    assert [entry.name for entry in watches(replace(SMALL, attempts=1), [TRANSFORM])] == [
        "medallion: a silent run has crashed",
        "medallion: a run that stays pending has crashed",
    ]


@contextmanager
def channel() -> Iterator[tuple[str, list[Any]]]:
    """A webhook on loopback, and what was posted to it."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", told
    finally:
        server.shutdown()
        server.server_close()
