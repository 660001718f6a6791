"""A Prefect server of these tests' own: they fill it with automations, which act on whatever runs there."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.local import ports
from infra.local.prefect_server import PrefectServer, api_url
from tests.flows.prefect_facts import forget_senders

ROOT = Path(__file__).parents[2]
# Flows of the real names; the real ones take three seconds to import, each time.
STUBS = {
    "flows/ingest": "def ingest(source: str, tables: list[str] | None = None) -> None: ...",
    "flows/transform": "def transform() -> None: open('was_here', 'x').close()",
    "flows/release": "def release(accept_changes: bool = False) -> None: ...",
    "flows/pipeline": "def pipeline() -> None: ...",
    "flows/backfill": "def backfill(table: str, first: str, last: str) -> None: ...",
    "flows/recover": "def reconcile() -> None: ...",
    "flows/predict": "def predict() -> None: ...",
    "infra/backup/scheduled": "def backup(keep: int, keep_days: float): ...\n\n\n@flow\ndef drill() -> None: ...",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the project as far as deployments see it: prefect.yaml, and flows that do next to nothing."""
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    for name, signature in STUBS.items():
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"from prefect import flow\n\n\n@flow\n{signature}\n")
    return tmp_path


@pytest.fixture(scope="session")
def server_of_our_own() -> Iterator[str]:
    """The address of its API. Boots in 12 s of a core, so the tests that use it are one group, in one worker."""
    home = Path(tempfile.mkdtemp(prefix="mdp-"))
    server = PrefectServer(home / "prefect", record=home / "record", log=home / "log")
    try:
        running = server.start(port=ports.any_free())
        server.wait(running)
        yield api_url(running.port)
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def api(server_of_our_own: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same, emptied, and Prefect in this process talks to it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    empty(server_of_our_own)
    monkeypatch.setenv("PREFECT_API_URL", server_of_our_own)
    forget_senders()
    with temporary_settings({PREFECT_API_URL: server_of_our_own}):
        yield server_of_our_own
    forget_senders()


def empty(api: str) -> None:
    """Take out everything that a deployment makes."""
    with httpx.Client(base_url=api, timeout=60) as client:
        for kind in ("automations", "deployments", "variables", "artifacts"):
            for entry in client.post(f"/{kind}/filter", json={}).json():
                _delete(client, f"/{kind}/{entry['id']}")
        for entry in client.post("/v2/concurrency_limits/filter", json={}).json():
            _delete(client, f"/v2/concurrency_limits/{entry['id']}")
        for entry in client.post("/work_pools/filter", json={}).json():
            _delete(client, f"/work_pools/{entry['name']}")
        for entry in client.post("/block_documents/filter", json={}).json():
            _delete(client, f"/block_documents/{entry['id']}")


def _delete(client: httpx.Client, path: str) -> None:
    """Wait while SQLite is busy with what the server does by itself; what is gone with something else is gone."""
    while (answer := client.delete(path)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        time.sleep(0.2)
    assert answer.is_success or answer.status_code == httpx.codes.NOT_FOUND, answer.text
