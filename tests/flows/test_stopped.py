"""Runs that are stopped from outside, by Ctrl-C, at the server, or by a signal: what is told, and what is left."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.access import addresses
from flows.backfill import backfill
from flows.ingest import ingest
from flows.observe import sentry
from flows.reconcile import reconcile
from flows.state.active_runs import active_runs, dead_runs
from flows.transform import transform
from tests.conftest import ROOT, TestDatabase
from tests.deployments.asking import asked
from tests.eventually import eventually
from tests.flows.conftest import Ends
from tests.flows.front_door import medallion
from tests.kinds.loading import load, rows
from tests.publish.two_ends import run_sql

# Ctrl-C reaches the process of the test; and the worker that has built the small warehouse for test_release.
pytestmark = pytest.mark.xdist_group("release")

SLEEPS = "select pg_sleep(600)::text as id"
_SLEEPING = "query like '%pg_sleep(600)%' and query not like '%pg_stat%' and state = 'active'"
_WAITING = "select count(*) from pg_stat_activity where datname = current_database() and "


@contextmanager
def ctrl_c_once(database: TestDatabase, condition: str) -> Iterator[None]:
    """Ctrl-C for this process, once a session of the database is where it cannot go on."""

    def press() -> None:
        if eventually(lambda: run_sql(database.url("admin"), _WAITING + condition)[0][0]):
            os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    yield
    pressing.join()


@pytest.fixture(autouse=True)
def heeds_ctrl_c() -> Iterator[None]:
    """Also where a shell started the tests in the background, which ignore it then, as do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What was sent to Sentry."""
    sent: list[BaseException] = []
    monkeypatch.setattr(sentry, "capture", sent.append)
    return sent


@contextmanager
def locked(database: TestDatabase, table: str, role: str = "app") -> Iterator[None]:
    """Nobody reads the table within this block."""
    with psycopg.connect(database.url(role)) as session:
        session.execute(f"lock table {table} in access exclusive mode".encode())
        yield


def ended(database: TestDatabase) -> list[dict[str, Any]]:
    return rows(
        database, "select status, details ->> 'ended' as ended, error_id from ops.runs order by run_id desc limit 1"
    )


def at_work(database: TestDatabase) -> list[str]:
    """Whose locks are held, by what the platform says of them."""

    async def told() -> list[str]:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            return [run.what for run in await active_runs(warehouse)]

    return asyncio.run(told())


BY_A_PERSON = [{"status": "failed", "ended": "cancelled", "error_id": None}]


def test_ctrl_c_during_dbt_ends_its_queries_and_is_no_error(
    shared: TestDatabase, project: Path, reported: list[BaseException]
) -> None:
    """It was "unexpected ValueError … report it"."""
    (project / "models" / "gold" / "sleeping.sql").write_text(SLEEPS)
    with (
        ctrl_c_once(shared, _SLEEPING),
        pytest.raises(KeyboardInterrupt),
    ):
        transform()
    assert ended(shared) == BY_A_PERSON
    assert rows(shared, "select from ops.errors") == []
    assert reported == []
    assert at_work(shared) == []
    assert eventually(lambda: run_sql(shared.url("admin"), _WAITING + _SLEEPING) == [(0,)], 30)


FLOWS: dict[str, Callable[[], Any]] = {
    "ingest": lambda: asyncio.run(ingest("shop", ["stores", "products"])),
    "reconcile": lambda: asyncio.run(reconcile(["shop.products"])),
    "backfill": lambda: asyncio.run(backfill("shop.baskets", date(2017, 1, 1), date(2017, 2, 28), by="sold_at")),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_ctrl_c_during_a_flow_of_loads_is_told_as_a_persons_doing(
    ends: Ends, reported: list[BaseException], flow: str
) -> None:
    asyncio.run(load(ends.warehouse, ends.shop, "products"))
    asyncio.run(load(ends.warehouse, ends.shop, "baskets"))
    table = "baskets" if flow == "backfill" else "products"
    with (
        locked(ends.shop, table),
        ctrl_c_once(ends.shop, "wait_event_type = 'Lock'"),
        pytest.raises(KeyboardInterrupt),
    ):
        FLOWS[flow]()
    assert ended(ends.warehouse) == BY_A_PERSON
    assert reported == []
    assert eventually(lambda: at_work(ends.warehouse) == [], 30)


INGEST = ("flows.cli.app", "run", "shop.products", "--ingest-only")


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [
        pytest.param(signal.SIGINT, "cancelled", 130, marks=pytest.mark.long),
        (signal.SIGTERM, "terminated", 143),
        (signal.SIGKILL, None, -signal.SIGKILL),
    ],
)
def test_a_process_that_is_stopped_says_so_and_one_that_is_killed_is_seen_to_be_dead(
    ends: Ends, tmp_path: Path, number: signal.Signals, words: str | None, code: int
) -> None:
    async def dead() -> frozenset[int]:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            return await dead_runs(warehouse)

    waiting = _WAITING + "wait_event_type = 'Lock'"
    with locked(ends.shop, "products"):
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen([sys.executable, "-m", *INGEST], cwd=ROOT, stdout=said, stderr=said)
        try:
            assert eventually(lambda: run_sql(ends.shop.url("admin"), waiting)[0][0])
            assert asyncio.run(dead()) == frozenset(), "it lives, and waits for the source"
            process.send_signal(number)
            assert process.wait(120) == code, (tmp_path / "said").read_text()
        finally:
            process.kill()
    (run,) = ended(ends.warehouse)
    if words is not None:
        assert run["status"] == "failed"
        assert words in run["ended"]
        assert "Traceback" not in (tmp_path / "said").read_text()
        return
    assert run["status"] == "running"
    assert eventually(lambda: asyncio.run(dead()) == {1}, 30)
    shown = medallion("status")
    assert shown.code == 0, shown.text
    assert "died" in shown.out
    assert "its process died" in shown.out


@pytest.mark.long  # a worker's process and its watch over cancellations take a minute and more
def test_a_run_that_is_cancelled_at_the_server_is_told_as_a_persons_doing(
    ends: Ends, prefect_server: str, tmp_path: Path
) -> None:
    """As a worker's process runs it: the server knows that it was cancelled, the process gets a signal."""
    flow = asked("POST", f"{prefect_server}/flows/", json={"name": "ingest"}).json()["id"]
    deployment = {
        "name": f"cancelled-{os.getpid()}",
        "flow_id": flow,
        "entrypoint": "flows/ingest.py:ingest",
        "path": str(ROOT),
        "parameters": {"source": "shop", "tables": ["products"]},
    }
    made = asked("POST", f"{prefect_server}/deployments/", json=deployment).json()["id"]
    run = asked("POST", f"{prefect_server}/deployments/{made}/create_flow_run", json={}).json()["id"]

    def state() -> str:
        return str(asked("GET", f"{prefect_server}/flow_runs/{run}").json()["state"]["type"])

    command = [sys.executable, "-m", "prefect", "flow-run", "execute", run]
    with locked(ends.shop, "products"), (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            waiting = _WAITING + "wait_event_type = 'Lock'"
            assert eventually(lambda: run_sql(ends.shop.url("admin"), waiting)[0][0], 240), (
                tmp_path / "log"
            ).read_text()
            body = {"state": {"type": "CANCELLING"}, "force": True}
            asked("POST", f"{prefect_server}/flow_runs/{run}/set_state", json=body).raise_for_status()
            process.wait(240)
        finally:
            process.kill()
    assert state() == "CANCELLED"
    assert ended(ends.warehouse) == BY_A_PERSON
    assert eventually(lambda: at_work(ends.warehouse) == [], 30)
