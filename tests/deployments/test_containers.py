"""What the containers start besides Prefect itself: a look at their health, the depth of queues, roles from secrets."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.states import Running, Scheduled

from deployments import health
from infra import roles
from infra.local import ports
from infra.local.home import Home
from infra.local.postgres import Cluster
from infra.local.roles import ADMIN
from tests.conftest import TEST_SETTINGS
from tests.infra.conftest import home, new_home

__all__ = ["home", "new_home"]  # fixtures of the tests of the embedded stack

# -- health


def test_a_server_is_asked_for_its_health(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers is the run's server; the container's first process, by whose command it is asked, is another."""
    with process("import time; time.sleep(60)", "prefect", "server", "start") as server:
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(urlsplit(prefect_server).port))
        assert health.main([str(server.pid)]) == 0

        monkeypatch.setenv("PREFECT_SERVER_API_PORT", "9")
        assert health.main([str(server.pid)]) == 1


def test_a_worker_that_does_not_answer_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_WORKER_WEBSERVER_PORT", "9")
    with process("import time; time.sleep(60)", "prefect", "worker", "start") as worker:
        assert health.main([str(worker.pid)]) == 1


def test_services_are_alive_while_their_loop_wakes() -> None:
    loop = "import time\nwhile True: time.sleep(0.2)"
    with process(loop, "prefect", "server", "services", "start") as services:
        assert health.main([str(services.pid)]) == 0
        services.send_signal(signal.SIGSTOP)
        assert health.main([str(services.pid)]) == 1


def test_a_flow_run_is_alive_while_it_runs() -> None:
    with process("import time; time.sleep(60)", "prefect", "flow-run", "execute") as run:
        assert health.main([str(run.pid)]) == 0
    assert health.main([str(run.pid)]) == 1


@contextmanager
def process(code: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line says what the words say."""
    started = subprocess.Popen([sys.executable, "-c", code, *words])
    try:
        while b"\0" not in Path(f"/proc/{started.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        yield started
    finally:
        started.kill()
        started.wait()


def test_a_watch_is_alive_while_it_ends_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path))
    mark = tmp_path / "watch.alive"
    with process("import time; time.sleep(60)", "medallion", "watch") as watch:
        assert health.main([str(watch.pid)]) == 1
        mark.touch()
        assert health.main([str(watch.pid)]) == 0
        os.utime(mark, (time.time() - 300, time.time() - 300))
        assert health.main([str(watch.pid)]) == 1


# -- the depth of a queue


@flow
def nothing() -> None:
    """A flow that is never run."""


@pytest.fixture
def pool(prefect_server: str) -> str:
    """A work pool with two runs that are due, one that is not, and one that runs."""
    name = f"pool-{secrets.token_hex(4)}"
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        flow_id = client.create_flow(nothing)
        deployment = client.create_deployment(flow_id, name, work_pool_name=name, entrypoint="x.py:nothing", path=".")
        for minutes in (-5, -1, 60):
            state: State[None] = Scheduled(scheduled_time=now + timedelta(minutes=minutes))
            client.create_flow_run_from_deployment(deployment, state=state)
        running = client.create_flow_run_from_deployment(deployment, state=Scheduled(scheduled_time=now))
        client.set_flow_run_state(running.id, Running(), force=True)
    return name


@contextmanager
def served(pool: str, api: str) -> Iterator[str]:
    """The exporter as its container runs it."""
    port = ports.any_free()
    variables = {**os.environ, "PREFECT_API_URL": api, "PREFECT_CLIENT_MAX_RETRIES": "0"}
    arguments = ["-m", "deployments.queue_depth", pool, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([sys.executable, *arguments], env=variables) as exporter:
        try:
            address = f"http://127.0.0.1:{port}"
            while exporter.poll() is None and read(f"{address}/health")[0] != 200:
                time.sleep(0.1)
            yield address
        finally:
            exporter.terminate()


def read(address: str) -> tuple[int, str]:
    answer = httpx.get(address, timeout=60) if reachable(address) else None
    return (answer.status_code, answer.text) if answer is not None else (0, "")


def reachable(address: str) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", httpx.URL(address).port or 80)) == 0


def test_the_depth_is_what_is_due_and_does_not_run_yet(pool: str, prefect_server: str) -> None:
    with served(pool, prefect_server) as address:
        assert json.loads(read(f"{address}/depth/{pool}")[1]) == {"waiting": 2, "running": 1}
        metrics = read(f"{address}/metrics")[1]
        assert f'medallion_flow_runs{{pool="{pool}",state="waiting"}} 2.0' in metrics
        assert read(f"{address}/depth/another")[0] == 404


def test_an_api_that_does_not_answer_is_no_empty_queue() -> None:
    """Told 0, an autoscaler would take the workers away that runs wait for."""
    with served("kubernetes", "http://127.0.0.1:9/api") as address:
        assert read(f"{address}/health")[0] == 200
        for path in ("depth/kubernetes", "metrics"):
            status, says = read(f"{address}/{path}")
            assert (status, "the Prefect API does not respond" in says) == (503, True)


# -- roles


@pytest.fixture
def secret_files(tmp_path: Path) -> Path:
    for name in ("admin", "loader", "transformer", "reader", "prefect"):
        (tmp_path / f"{name}_password").write_text(secrets.token_hex(12) + "\n")
    return tmp_path


def prepare(port: int, folder: Path) -> int:
    where: Sequence[str] = ("--host", "127.0.0.1", "--port", str(port), "--admin", ADMIN)
    return roles.main([*where, "--passwords", str(folder), "--sslmode", "disable"])


def test_roles_are_made_from_mounted_secrets_and_take_new_passwords(
    home: Home, secret_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = (secret_files / "admin_password").read_text().strip()
    cluster = Cluster(home.postgres, TEST_SETTINGS)
    try:
        port = cluster.start(admin_password=admin).port
        assert prepare(port, secret_files) == 0
        (secret_files / "loader_password").write_text(rotated := secrets.token_hex(12))
        assert prepare(port, secret_files) == 0

        said = capsys.readouterr()
        assert not [file for file in secret_files.iterdir() if file.read_text().strip() in said.out + said.err]
        with psycopg.connect(f"postgresql://medallion_loader:{rotated}@127.0.0.1:{port}/warehouse") as loader:
            loader.execute("create schema raw_shop")
        password = (secret_files / "prefect_password").read_text().strip()
        with psycopg.connect(f"postgresql://prefect:{password}@127.0.0.1:{port}/prefect") as server:
            server.execute("create table flow (id int)")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(f"postgresql://prefect:{password}@127.0.0.1:{port}/warehouse")

        (secret_files / "admin_password").write_text("canary-wrong-pw")
        assert prepare(port, secret_files) == 3
        said = capsys.readouterr()
        assert "canary" not in said.err
        assert "OperationalError" in said.err
    finally:
        cluster.stop()


def test_a_secret_that_is_not_mounted_is_named(secret_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (secret_files / "reader_password").unlink()
    assert prepare(9, secret_files) == 3
    assert "reader_password: the file contains no password" in capsys.readouterr().err
