"""`medallion worker` and `medallion env`: the way in for what runs deployments, and for other tools."""

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate

from infra.local.home import Home
from tests.conftest import ROOT
from tests.flows.front_door import medallion
from tests.infra.conftest import home, new_home  # noqa: F401 - fixtures


@pytest.fixture
def pool(prefect_server: str) -> Iterator[str]:
    name = f"pool-{secrets.token_hex(4)}"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        yield name
        client.delete_work_pool(name)


def worker(*options: str, **variables: str | None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    # A shell without job control starts what runs in the background deaf to Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "worker", *options], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ended_within(seconds: float, started: subprocess.Popen[str]) -> Iterator[None]:
    """The worker's output ends by then: a worker that goes on is killed, which its result tells."""
    late = threading.Timer(seconds, os.killpg, (started.pid, signal.SIGKILL))
    late.start()
    try:
        yield
    finally:
        late.cancel()
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


def test_a_worker_polls_in_the_foreground_tells_where_logs_are_and_ends_at_ctrl_c(pool: str) -> None:
    started = worker("--pool", pool)
    heard = ""
    with ended_within(120, started):
        assert started.stdout is not None
        for line in started.stdout:
            # Once: the handler may print the line again that it interrupted, and a second Ctrl-C kills.
            if "started!" in line and "started!" not in heard:
                started.send_signal(signal.SIGINT)
            heard += line
        assert started.wait(60) == 0, heard
    assert f"work pool {pool}" in heard
    assert "logs of each run" in heard
    assert "stopped!" in heard
    assert "Traceback" not in heard
    assert os.environ["PREFECT_API_AUTH_STRING"] not in heard


def test_a_pool_that_nobody_made_is_refused(prefect_server: str) -> None:
    """Prefect's own worker waits for it for ever."""
    said, _ = (refused := worker("--pool", "nowhere")).communicate(timeout=120)
    assert refused.returncode == 3
    assert "work pool nowhere does not exist" in said


def test_without_a_server_no_worker_starts_one(prefect_server: str) -> None:
    said, _ = (refused := worker(PREFECT_API_URL=None)).communicate(timeout=120)
    assert refused.returncode == 2
    assert "no Prefect server is configured" in said
    assert "medallion up" in said


def test_a_shell_learns_nothing_of_a_stack_that_is_not_running(home: Home) -> None:  # noqa: F811
    refused = medallion("env", variables={"MEDALLION_HOME": str(home.root)})
    assert refused.code == 3
    assert "the embedded stack is not running" in refused.panel
    assert medallion("env", "PATH").code == 2
