"""`medallion watch` as people start it, while worker, Prefect server and warehouse are killed one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from infra.local import ports
from infra.local.prefect_server import PrefectServer, api_url
from infra.local.service import finds_checkout
from tests.conftest import HOME_VARIABLE, prefect_database
from tests.deployments.conftest import STUBS, small_clone
from tests.deployments.deploying import SMALL, Deploying
from tests.eventually import eventually
from tests.flows.prefect_facts import forget_senders
from tests.operations.receivers import Webhook, webhook
from tests.private_cluster import private_cluster

pytestmark = [pytest.mark.xdist_group("by itself"), pytest.mark.long]

#: A worker counts as gone after two heartbeats and 5 s, a problem is sent once it has lasted 2 s, rounds are 1 s apart.
SECONDS = {"MEDALLION_WATCH_SECONDS": "1", "MEDALLION_ALERT_SETTLE_SECONDS": "2"}
AUTH = "medallion:of-this-test"


def told(receiver: Webhook) -> list[str]:
    return [f"{one['event']} {alert['name']}" for one in receiver.accepted for alert in one["alerts"]]


@contextmanager
def process(*command: str, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this project's, as long as the block lasts."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **finds_checkout(), **variables},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()


def test_a_worker_a_server_and_a_warehouse_that_are_killed_are_told_within_two_minutes_and_nothing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(tempfile.mkdtemp(prefix="w-", dir=os.environ[HOME_VARIABLE]))
    with private_cluster() as databases, private_cluster() as private, webhook() as receiver:
        warehouse = private.warehouse("warehouse_watched")
        server = PrefectServer(
            home / "prefect",
            home / "record",
            home / "log",
            AUTH,
            prefect_database(databases.cluster, "prefect_watched"),
        )
        running = server.start(port=ports.any_free())
        try:
            server.wait(running)
            url = api_url(running.port)
            reach = {
                "PREFECT_API_URL": url,
                "PREFECT_API_AUTH_STRING": AUTH,
                "MEDALLION_HOME": str(home / "home"),
                "MEDALLION_WAREHOUSE_URL": warehouse.url("loader"),
                "MEDALLION_ALERT_WEBHOOK_URL": receiver.url,
                **SECONDS,
            }
            for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
                monkeypatch.setenv(name, reach[name])
            with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: AUTH}):
                forget_senders()
                Deploying(url, small_clone(tmp_path, STUBS), SMALL).deploy()
                forget_senders()
            worker = ("prefect", "worker", "start", "--pool", "local")
            with process(*worker, log=home / "worker.log", PREFECT_WORKER_HEARTBEAT_SECONDS="1", **reach) as working:
                eventually(lambda: b"started" in (home / "worker.log").read_bytes())
                time.sleep(8)  # the scheduler plans the first runs within 5 s
                with process("flows.cli", "watch", log=home / "watch.log", **reach) as watching:
                    eventually((home / "home" / "watch.alive").exists)
                    time.sleep(6)
                    assert told(receiver) == [], (home / "watch.log").read_text()

                    os.killpg(working.pid, signal.SIGKILL)
                    eventually(lambda: "opened no worker" in told(receiver), 120, lambda: told(receiver))

                    os.kill(running.pid, signal.SIGKILL)
                    eventually(lambda: "opened Prefect server down" in told(receiver), 120, lambda: told(receiver))

                    private.stop()
                    eventually(lambda: "opened warehouse down" in told(receiver), 120, lambda: told(receiver))
                    time.sleep(3)
                    assert len(set(told(receiver))) == len(told(receiver)), "each once"

                    private.restart("immediate")
                    eventually(lambda: "resolved warehouse down" in told(receiver), 120, lambda: told(receiver))
                    assert watching.poll() is None
                    said = (home / "watch.log").read_text()
                    assert AUTH not in said
                    assert "secret-in-the-path" not in said
                    assert warehouse.cluster.passwords["medallion_loader"] not in said
                assert watching.returncode == 0
        finally:
            server.stop()
