"""`medallion worker` and `medallion env`: the way in for what runs deployments, and for other tools."""

import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from typer.testing import CliRunner

from flows.cli.app import app
from flows.values.settings import settings
from infra.local.home import Home
from infra.local.stack import up
from tests.conftest import ROOT
from tests.infra.conftest import LITTLE, home, light_prefect, new_home  # noqa: F401 - fixtures


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


def test_a_shell_learns_where_the_server_is_and_how_to_get_in(
    home: Home,  # noqa: F811
    light_prefect: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MEDALLION_HOME", str(home.root))
    settings.cache_clear()
    try:
        refused = CliRunner().invoke(app, ["env"])
        assert "not running" in str(refused.exception)
        stack = up(home=home, min_free_bytes=LITTLE)
        # Another server in the environment is not what is asked for.
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        printed = CliRunner().invoke(app, ["env"])
        assert printed.exit_code == 0, printed.output
        script = f'{printed.stdout}\nprintf "%s %s" "$PREFECT_API_URL" "$PREFECT_API_AUTH_STRING"'
        learned = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
        assert learned == f"{stack.prefect.api_url} {stack.prefect.auth_string}"
        only = CliRunner().invoke(app, ["env", "PREFECT_API_AUTH_STRING"])
        assert only.stdout == f"{stack.prefect.auth_string}\n"
        assert CliRunner().invoke(app, ["env", "PATH"]).exit_code == 2
    finally:
        settings.cache_clear()
    assert shlex.split(printed.stdout.splitlines()[0])[0] == "export"
