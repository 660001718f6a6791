"""A run whose worker dies before it begins is put back by the next worker, and its deployment's slot is free."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.orphaned_runs import put_back_orphans
from deployments.server import connected
from tests.deployments.asking import asked
from tests.deployments.deploying import Deploying
from tests.deployments.test_automations import become, start
from tests.deployments.test_lost_runs import propose, states

pytestmark = pytest.mark.xdist_group("deployments")
HOST = socket.gethostname()


@pytest.fixture
def taken(api: str, clone: Path) -> Iterator[tuple[Deploying, str]]:
    """A run that a worker took, which died since; its deployment lets one run be active, and drops others."""
    deploying = Deploying(api, clone)
    deploying.only("reconcile").deploy()
    run = start(deploying, "reconcile/reconcile")
    assert propose(deploying, run, "pending")["type"] == "PENDING"
    beats(api, f"{HOST}-{dead_pid()}")
    yield deploying, run
    become(deploying, run, "completed")
    for worker in asked("POST", f"{api}/work_pools/local/workers/filter", json={}).json():
        asked("DELETE", f"{api}/work_pools/local/workers/{worker['name']}").raise_for_status()


def beats(api: str, worker: str) -> None:
    asked("POST", f"{api}/work_pools/local/workers/heartbeat", json={"name": worker}).raise_for_status()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@contextmanager
def process_of(run: str) -> Iterator[None]:
    """A process that carries out the run, as a worker starts it."""
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, "PREFECT__FLOW_RUN_ID": run}
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def put_back() -> list[str]:
    with connected({}) as server:
        return put_back_orphans(server, "local", name=f"{HOST}-{os.getpid()}")


def test_the_run_is_scheduled_again_and_its_deployment_has_a_free_slot(taken: tuple[Deploying, str]) -> None:
    deploying, run = taken
    dropped = start(deploying, "reconcile/reconcile")
    assert propose(deploying, dropped, "pending")["type"] == "CANCELLED", "the control: the dead run keeps the slot"
    assert put_back() == [run]
    assert states(deploying, run)[-1] == "AwaitingRetry"
    assert propose(deploying, run, "pending")["type"] == "PENDING", "it can be taken again, at once"
    become(deploying, run, "running")
    assert put_back() == []


def test_nothing_is_taken_from_a_worker_that_lives_here_or_elsewhere(taken: tuple[Deploying, str]) -> None:
    deploying, run = taken
    for other in (f"{HOST}-{os.getppid()}", "another-host-17", "ProcessWorker 8f0c"):
        beats(deploying.api, other)
        assert put_back() == [], other
        asked("DELETE", f"{deploying.api}/work_pools/local/workers/{other}").raise_for_status()
    with process_of(run):
        assert put_back() == [], "its process was started, and begins the run"
    assert put_back() == [run]
