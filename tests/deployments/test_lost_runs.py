"""Runs that are lost before they begin: their worker dies, or their deployment is at work; by real workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments import automations
from tests.deployments.asking import asked
from tests.deployments.deploying import SMALL, Deploying
from tests.deployments.test_automations import become, channel, start
from tests.eventually import eventually
from tests.nightly import nightly

pytestmark = pytest.mark.xdist_group("deployments")

#: Prefect allows no less.
PENDING_SECONDS = 10
#: Longer than the server takes to learn of an event, which it looks for every 5 s.
PAUSE = timedelta(seconds=10)


@pytest.fixture
def deploying(api: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> Deploying:
    monkeypatch.setattr(automations, "AFTER_A_CRASH", PAUSE)
    return Deploying(api, clone, replace(SMALL, work_pools=("local",), pending_seconds=PENDING_SECONDS, attempts=2))


def states(deploying: Deploying, run: str) -> list[str]:
    found = asked("GET", f"{deploying.api}/flow_run_states/", params={"flow_run_id": run}).json()
    return [state["name"] for state in found]


@contextmanager
def worker(deploying: Deploying, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool `local`, until the block ends; with its flow runs, whichever groups they are in."""
    folder.mkdir()
    environment = os.environ | {
        "PREFECT_API_URL": deploying.api,
        "PREFECT_HOME": str(folder),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local", "--type", "process"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=deploying.root, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a machine ends: the worker and what it has started, at once."""
    if process.poll() is None:
        for pid in [process.pid, *descendants(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(30)


def descendants(pid: int) -> list[int]:
    """The processes that it has started, and theirs."""
    children = [
        int(child) for told in Path(f"/proc/{pid}/task").glob("*/children") for child in told.read_text().split()
    ]
    return [*children, *(one for child in children for one in descendants(child))]


def test_a_run_whose_worker_dies_before_it_begins_is_told_and_taken_by_another(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It stayed pending for good, and nobody was told."""
    with channel() as (url, told):
        monkeypatch.setenv("MEDALLION_ALERT_WEBHOOK_URL", url)
        deploying.only("transform").deploy()
        with worker(deploying, tmp_path / "first") as first:
            run = start(deploying, "transform/transform")
            assert eventually(lambda: "Pending" in states(deploying, run), 300), states(deploying, run)
            kill(first)
        assert "Running" not in states(deploying, run), "it was to be killed before the run began"
        assert eventually(lambda: "AwaitingRetry" in states(deploying, run), 90), states(deploying, run)
        with worker(deploying, tmp_path / "second"):
            assert eventually(lambda: states(deploying, run)[-1] == "Completed", 300), states(deploying, run)
        subjects = eventually(lambda: [entry["subject"] for entry in told])
    assert states(deploying, run)[-1] == "Completed"
    assert (deploying.root / "was_here").exists()
    assert "[small] warning: a run does not begin" in subjects
    assert "Crashed" in states(deploying, run)


def test_a_run_that_never_begins_is_given_up_after_its_attempts(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    with channel() as (url, told):
        monkeypatch.setenv("MEDALLION_ALERT_WEBHOOK_URL", url)
        deploying.only("ingest-shop").deploy()
        run = start(deploying, "ingest/ingest-shop")
        become(deploying, run, "pending")
        assert eventually(lambda: states(deploying, run)[-1] == "AwaitingRetry", 90), states(deploying, run)
        become(deploying, run, "pending")
        assert eventually(lambda: states(deploying, run)[-1] == "Failed", 90), states(deploying, run)
        assert eventually(lambda: "[small] critical: a run failed" in [entry["subject"] for entry in told])
    time.sleep(2.5 * PAUSE.total_seconds())  # the server looks once in each pause
    assert (states(deploying, run)[-1], states(deploying, run).count("AwaitingRetry")) == ("Failed", 1)


def propose(deploying: Deploying, run: str, state: str) -> Any:
    """What the server makes of a state that a worker proposes, by its rules."""
    body = {"state": {"type": state.upper()}, "force": False}
    answer = asked("POST", f"{deploying.api}/flow_runs/{run}/set_state", json=body)
    answer.raise_for_status()
    return answer.json()["state"]


def test_a_run_that_is_dropped_is_told(deploying: Deploying, monkeypatch: pytest.MonkeyPatch) -> None:
    with channel() as (url, told):
        monkeypatch.setenv("MEDALLION_ALERT_WEBHOOK_URL", url)
        deploying.only("reconcile").deploy()
        first, second = (start(deploying, "reconcile/reconcile") for _ in range(2))
        assert propose(deploying, first, "pending")["type"] == "PENDING"
        assert propose(deploying, second, "pending")["type"] == "CANCELLED"
        assert eventually(lambda: told)
    assert told[0]["subject"] == "[small] warning: a run was dropped"
    assert "Start it again if it was requested manually" in told[0]["body"]


@pytest.mark.parametrize("name", ["backfill/backfill", *nightly("release/release", "pipeline/pipeline")])
def test_what_a_person_asks_for_waits_its_turn(deploying: Deploying, name: str) -> None:
    deploying.only(name.partition("/")[2]).deploy()
    deployment = deploying.get(f"/deployments/name/{name}")
    parameters = {"table": "shop.baskets", "first": "2017-01-01", "last": "2017-01-31"} if "backfill" in name else {}
    first, second = (
        asked(
            "POST", f"{deploying.api}/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters}
        ).json()["id"]
        for _ in range(2)
    )
    assert propose(deploying, first, "pending")["type"] == "PENDING"
    waiting = propose(deploying, second, "pending")
    assert (waiting["type"], waiting["name"]) == ("SCHEDULED", "AwaitingConcurrencySlot")
    become(deploying, first, "running", "completed")
    assert eventually(lambda: propose(deploying, second, "pending")["type"] == "PENDING", 60)
