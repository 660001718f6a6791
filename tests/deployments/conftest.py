"""What deployments are made from, and the Prefect server that they are made at."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.deployments.asking import asked
from tests.flows.prefect_facts import forget_senders

ROOT = Path(__file__).parents[2]
# Flows of the real names; the real ones take three seconds to import, each time.
STUBS = {
    "flows/ingest": "def ingest(source: str, tables: list[str] | None = None) -> None: ...",
    "flows/transform": "def transform() -> None: open('was_here', 'x').close()",
    "flows/release": "def release(accept_changes: bool = False) -> None: ...",
    "flows/pipeline": "def pipeline() -> None: ...",
    "flows/follow": "def follow(source: str, tables: list[str] | None = None, minutes: float | None = None, "
    "until_caught_up: bool = False) -> None: ...",
    "flows/backfill": "def backfill(table: str, first: str, last: str) -> None: ...",
    "flows/reconcile": "def reconcile() -> None: ...",
    "flows/predict": "def predict() -> None: ...",
    "flows/purge": "def purge(delete: bool = True) -> None: ...",
    "flows/backup": "def backup(keep: int, keep_days: float): ...\n\n\n@flow\ndef drill() -> None: ...",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the project as far as deployments see it: prefect.yaml, and flows that do next to nothing."""
    return small_clone(tmp_path, STUBS)


def small_clone(folder: Path, flows: Mapping[str, str]) -> Path:
    """The folder with the project's prefect.yaml and these flows: by file, what follows the decorator."""
    shutil.copy(ROOT / "prefect.yaml", folder)
    for name, signature in flows.items():
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"from prefect import flow\n\n\n@flow\n{signature}\n")
    return folder


@pytest.fixture
def api(second_prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The API address of the second Prefect server, emptied; Prefect in this process talks to it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    empty(second_prefect_server)
    monkeypatch.setenv("PREFECT_API_URL", second_prefect_server)
    forget_senders()
    with temporary_settings({PREFECT_API_URL: second_prefect_server}):
        yield second_prefect_server
    forget_senders()


def empty(api: str) -> None:
    """Take out everything that a deployment makes."""
    asked("POST", f"{api}/deployments/bulk_delete", json={}).raise_for_status()
    for kind in ("automations", "variables", "artifacts"):
        for entry in asked("POST", f"{api}/{kind}/filter", json={}).json():
            _delete(f"{api}/{kind}/{entry['id']}")
    for entry in asked("POST", f"{api}/v2/concurrency_limits/filter", json={}).json():
        _delete(f"{api}/v2/concurrency_limits/{entry['id']}")
    for entry in asked("POST", f"{api}/work_pools/filter", json={}).json():
        _delete(f"{api}/work_pools/{entry['name']}")
    for entry in asked("POST", f"{api}/block_documents/filter", json={}).json():
        _delete(f"{api}/block_documents/{entry['id']}")


def _delete(url: str) -> None:
    """What is gone with something else is gone."""
    answer = asked("DELETE", url)
    assert answer.is_success or answer.status_code == httpx.codes.NOT_FOUND, answer.text
