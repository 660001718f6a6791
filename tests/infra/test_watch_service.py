"""The embedded stack's watch: started once, found again, stopped, and gone with its home."""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import httpx
import pytest

from infra.local import watch_service
from infra.local.home import Home
from infra.local.ports import any_free
from infra.local.process import born
from tests.conftest import fastest_folder
from tests.eventually import eventually


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    root = Path(mkdtemp(prefix="mdl-", dir=fastest_folder()))
    found = Home(root / ".medallion")
    for folder in (found.run, found.logs):
        folder.mkdir(parents=True)
    monkeypatch.setenv("MEDALLION_WATCH_SECONDS", "0.2")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "medallion:of-another-server")
    yield found
    watch_service.WATCH.stop(found)
    rmtree(root, ignore_errors=True)


def test_the_watch_is_started_once_looks_serves_metrics_and_is_stopped(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = any_free()
    monkeypatch.setenv("MEDALLION_WATCH_LISTEN", str(port))
    running = watch_service.start(home)
    assert watch_service.start(home).pid == running.pid
    assert watch_service.WATCH.status(home).state == "running"
    variables = Path(f"/proc/{running.pid}/environ").read_bytes()
    assert b"of-another-server" not in variables, "what is in stack.json counts"
    eventually((home.root / "watch.alive").exists)  # without a warehouse it keeps on
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    assert "medallion_warehouse_up 0.0\n" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert watch_service.WATCH.stop(home)
    assert watch_service.WATCH.status(home).state == "stopped"
    assert not watch_service.WATCH.stop(home)
    log = (home.logs / "watch.log").read_text()
    assert "Traceback" not in log
    assert "the warehouse does not answer" in log


def test_the_watch_ends_when_its_home_is_gone(home: Home) -> None:
    """Else each home that somebody deletes without `medallion down` leaves a process behind."""
    running = watch_service.start(home)
    birth = born(running.pid)
    eventually((home.root / "watch.alive").exists)
    rmtree(home.root)
    eventually(lambda: born(running.pid) != birth)
