"""Routes of Alertmanager, tried on a real one: what is one problem is one message, and its cause comes first."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.ports import any_free
from tests.conftest import ROOT
from tests.eventually import eventually

CONFIG = ROOT / "deployments/monitoring/alertmanager/alertmanager.yml"
SERVER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = pytest.mark.skipif(
    SERVER is None or shutil.which("amtool") is None,
    reason="Alertmanager is not installed: package prometheus-alertmanager of Debian",
)


@dataclass
class Manager:
    """An Alertmanager, and the messages that its receivers got: their path, and `status alertname subject` of each."""

    url: str
    messages: list[tuple[str, list[str]]] = field(default_factory=list)

    def fire(self, *alerts: dict[str, str]) -> None:
        body = [{"labels": {"environment": "production", **labels}} for labels in alerts]
        httpx.post(f"{self.url}/api/v2/alerts", json=body).raise_for_status()


@contextmanager
def receiving(messages: list[tuple[str, list[str]]]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            alerts: list[dict[str, Any]] = content["alerts"]
            told = [" ".join([a["labels"]["alertname"], a["labels"].get("subject", "")]).strip() for a in alerts]
            messages.append((self.path, sorted(told)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def managing(folder: Path, change: tuple[str, str] = ("", "")) -> Iterator[Manager]:
    """A real Alertmanager with our routes, in which waits are short."""
    assert SERVER is not None
    port = any_free()
    made = Manager(f"http://127.0.0.1:{port}")
    with receiving(made.messages) as receiver:
        text = CONFIG.read_text(encoding="utf-8").replace("https://alerts.example.org", f"http://127.0.0.1:{receiver}")
        text = text.replace("group_wait: 30s", "group_wait: 300ms").replace("group_wait: 10s", "group_wait: 300ms")
        (folder / "alertmanager.yml").write_text(text.replace(*change) if change[0] else text, encoding="utf-8")
        process = subprocess.Popen(
            [
                SERVER,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert eventually(lambda: _is_ready(made.url))
            yield made
        finally:
            process.terminate()
            process.wait(10)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").is_success
    except httpx.TransportError:
        return False


def late(table: str) -> dict[str, str]:
    return {
        "alertname": "MedallionLate",
        "severity": "warning",
        "source": table.partition(".")[0],
        "subject": table,
        "clock": "load",
    }


NO_WORKER = {"alertname": "MedallionNoWorker", "severity": "critical", "pool": "ecs"}


def test_late_tables_of_a_source_are_one_message_and_their_cause_holds_them_back(tmp_path: Path) -> None:
    with managing(tmp_path) as manager:
        manager.fire(late("shop.baskets"), late("shop.stores"), late("web.coupons"))
        assert eventually(lambda: len(manager.messages) == 2)
        assert sorted(manager.messages) == [
            ("/team", ["MedallionLate shop.baskets", "MedallionLate shop.stores"]),
            ("/team", ["MedallionLate web.coupons"]),
        ]
        manager.messages.clear()
        manager.fire(NO_WORKER)
        # A group of its own, so that its wait is over only after what follows would have been sent.
        manager.fire(late("crm.people"), late("crm.calls"))
        assert eventually(lambda: len(manager.messages) == 2)
        manager.fire({"alertname": "MedallionEndsDiffer", "severity": "error", "source": "crm", "table": "people"})
        assert eventually(lambda: len(manager.messages) == 3)
        assert sorted(manager.messages) == [
            ("/on-call", ["MedallionNoWorker"]),
            ("/team", ["MedallionEndsDiffer"]),
            ("/team", ["MedallionNoWorker"]),
        ]


def test_the_control_without_inhibition_the_symptom_is_sent_beside_its_cause(tmp_path: Path) -> None:
    with managing(tmp_path, ("MedallionNoWorker|MedallionNoNextRun", "Nothing")) as manager:
        manager.fire(NO_WORKER, late("crm.people"))
        assert eventually(lambda: ("/team", ["MedallionLate crm.people"]) in manager.messages)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (("alertname=MedallionWatchDown", "severity=critical"), "on-call,team"),
        (("alertname=MedallionLate", "severity=warning"), "team"),
        (("alertname=MedallionAlerts", "severity=critical"), "on-call,team"),
        (("alertname=MedallionSeriesOmitted", "severity=info"), "nobody"),
        (("alertname=OfAnotherTeam", "severity=critical"), "team"),
    ],
)
def test_who_receives_what(labels: tuple[str, ...], receivers: str) -> None:
    done = subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={CONFIG}", *labels],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, receivers), done.stderr
