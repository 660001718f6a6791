"""A worker of the embedded stack whose server dies: its auth string reaches no other program, and it finds the next.

Real servers, workers and flow runs. Processes: the server is killed, another program takes its port, `up` starts the
server again elsewhere.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.events.clients import PrefectEventSubscriber
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from deployments.server import default_template
from infra.local import proof
from infra.local.home import Home
from infra.local.prefect_server import PrefectServer
from infra.local.stack import Stack, up
from tests.conftest import ROOT
from tests.eventually import eventually
from tests.infra.conftest import LITTLE, home, new_home  # noqa: F401 - fixtures
from tests.infra.port_taken import kill, listener_on, port_for_long

FLOW = """
import json, os, sys, time
from pathlib import Path
from prefect import flow

@flow(log_prints=True)
def noted(name: str, folder: str, waits: bool = False) -> None:
    here = Path(folder)
    (here / "began").write_text(name)
    while waits and not (here / "go on").exists():
        time.sleep(0.2)
    print("noted")
    (here / name).write_text(json.dumps(dict(os.environ)))
"""


class Server:
    """The API of a home's server, as a person with the auth string asks it."""

    def __init__(self, stack: Stack) -> None:
        user, _, password = stack.prefect.auth_string.partition(":")
        self._client = httpx.Client(base_url=stack.prefect.api_url, auth=(user, password), timeout=60, trust_env=False)

    def post(self, path: str, /, **body: Any) -> Any:
        return self._client.post(path, json=body).raise_for_status().json()

    def state(self, run: str) -> str:
        return str(self._client.get(f"/flow_runs/{run}").raise_for_status().json()["state_name"])

    def deploy(self, folder: Path) -> str:
        """The flow as a deployment of the pool `relayed`; a pool `plain` stays empty."""
        (folder / "noted.py").write_text(FLOW)
        for pool in ("relayed", "plain"):
            self.post("/work_pools/", name=pool, type="process", base_job_template=default_template("process"))
        flow = self.post("/flows/", name="noted")
        made = self.post(
            "/deployments/", name="noted", flow_id=flow["id"], entrypoint="noted.py:noted", path=str(folder),
            work_pool_name="relayed", enforce_parameter_schema=False,
        )  # fmt: skip
        return str(made["id"])

    def run(self, deployment: str, **parameters: Any) -> str:
        return str(self.post(f"/deployments/{deployment}/create_flow_run", parameters=parameters)["id"])


@contextmanager
def process(command: list[str], log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, killed with all in it at the end."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = outer | {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_HOME": str(log.parent / "prefect")} | variables
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(30)


def lets_in(api_url: str, auth_string: str) -> bool:
    """Whether a client of the server's events is let in: it sends a header, and logs in on its web socket."""

    async def subscribe() -> None:
        async with PrefectEventSubscriber(api_url=api_url, reconnection_attempts=0):
            pass

    with temporary_settings({PREFECT_API_AUTH_STRING: auth_string}):
        try:
            asyncio.run(subscribe())
        except Exception as refusal:  # Prefect raises no class of its own
            if "Unable to authenticate" in str(refusal) or "401" in str(refusal):
                return False
            raise
    return True


@pytest.mark.long  # two boots of Prefect, two workers, two flow runs; tests/infra/test_relay.py is its short form
def test_a_worker_whose_server_dies_sends_its_auth_string_to_nobody_and_finds_the_next_server(
    home: Home,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It went on sending it to whoever took the port, and never found the server that `up` started elsewhere."""
    monkeypatch.setattr(PrefectServer, "default_port", port_for_long())
    stack = up(home=home, min_free_bytes=LITTLE)
    server, secret = Server(stack), stack.prefect.auth_string
    deployment = server.deploy(tmp_path)
    log, plain_log = tmp_path / "worker.log", tmp_path / "plain.log"
    known = {"PREFECT_API_URL": stack.prefect.api_url, "PREFECT_API_AUTH_STRING": secret}
    with (
        process(["flows.cli.app", "worker", "--pool", "relayed"], log, MEDALLION_HOME=str(home.root)) as worker,
        process(["prefect", "worker", "start", "--pool", "plain"], plain_log, **known) as plain,
    ):
        for each in (log, plain_log):
            eventually(lambda each=each: "started!" in each.read_text(), 60, each.read_text)  # type: ignore[misc]
        plain.send_signal(signal.SIGSTOP)
        before = server.run(deployment, name="before", folder=str(tmp_path), waits=True)
        eventually((tmp_path / "began").exists, 60, log.read_text)

        kill(home, stack)
        with listener_on(int(stack.prefect.ui_url.rpartition(":")[2])) as listener:
            eventually(lambda: listener.heard, 60, log.read_text)
            time.sleep(5)
            assert {text.partition("?")[0] for text in listener.heard} == {f"GET {proof.PATH}"}
            assert "authorization" not in str(listener.heard).lower()
            # The control: Prefect's own worker sends it.
            plain.send_signal(signal.SIGCONT)
            eventually(lambda: "authorization: basic" in str(listener.heard).lower(), 60, plain_log.read_text)
            plain.kill()
            again = up(home=home, min_free_bytes=LITTLE)
            assert again.prefect.api_url != stack.prefect.api_url

        server = Server(again)
        (tmp_path / "go on").touch()
        after = server.run(deployment, name="after", folder=str(tmp_path))
        eventually(lambda: [server.state(run) for run in (before, after)] == ["Completed"] * 2, 120, log.read_text)
        assert worker.poll() is None
        assert server.post("/logs/filter", logs={"flow_run_id": {"any_": [after]}})
        for name in ("before", "after"):
            held = json.loads((tmp_path / name).read_text())
            assert secret not in str(held)
        api_url, token = held["PREFECT_API_URL"], held["PREFECT_API_AUTH_STRING"]
        assert lets_in(api_url, token)
        assert not lets_in(api_url, "worker:another")
        assert not lets_in(again.prefect.api_url, token)
        # A command within a flow run takes the relay for ours, and goes to the server itself.
        inside = {"MEDALLION_HOME": str(home.root), "PREFECT_API_URL": api_url, "PREFECT_API_AUTH_STRING": token}
        with process(["flows.cli.app", "register"], tmp_path / "register.log", **inside) as register:
            assert register.wait(120) == 0, (tmp_path / "register.log").read_text()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, log.read_text()
    assert secret not in log.read_text()
