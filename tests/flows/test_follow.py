"""The flow follow, on a real Prefect server: it ends at a commit when it is told to, and its run says what it did."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal
from prefect.utilities.engine import capture_sigterm
from rich.console import Console

from flows.access import addresses
from flows.cli.stack_tables import status_tables
from flows.follow import follow
from flows.state.overview import Overview, read_overview
from flows.values.errors import DeclarationError
from flows.values.settings import settings
from tests.conftest import ROOT, TestDatabase
from tests.deployments.asking import asked
from tests.eventually import eventually
from tests.kinds.changelog.log_ends import LogEnds, log_source
from tests.kinds.changelog.test_changes import ROWS
from tests.kinds.loading import rows

COLUMNS = "id bigint primary key, name text, amount int"


@pytest.fixture
def ends(prefect_server: str, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogEnds]:
    with log_source() as shop:
        ends = LogEnds(warehouse, shop)
        ends.create("items", COLUMNS)
        ends.source(ROWS.format(1, 20))
        monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
        monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
        monkeypatch.setattr("flows.verbs.find.SOURCES", (ends.declared,))
        settings.cache_clear()
        yield ends
    settings.cache_clear()


def ran(ends: LogEnds) -> list[dict[str, Any]]:
    return rows(ends.warehouse, "select pipeline, scope, status, details from ops.runs order by run_id")


def status(title: str) -> str:
    """The table of that title in `medallion status`; empty if there is none."""

    async def read() -> Overview:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            return await read_overview(warehouse)

    for table in status_tables(asyncio.run(read())):
        if table.title == title:
            console = Console(width=200, file=io.StringIO())
            console.print(table)
            return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]
    return ""


async def test_a_run_that_has_caught_up_is_done_and_says_what_it_did(ends: LogEnds) -> None:
    await ends.set_up()

    state = await follow("shop", until_caught_up=True, return_state=True)

    assert (await state.aresult())["changes"] == 0
    assert ends.same()
    (run,) = ran(ends)
    assert (run["pipeline"], run["scope"], run["status"]) == ("follow", "shop", "done")
    assert run["details"]["failing"] == []


async def test_a_source_without_a_log_is_refused_before_a_run_begins(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.sources.shop import shop

    monkeypatch.setattr("flows.verbs.find.SOURCES", (shop,))
    with pytest.raises(DeclarationError, match="cannot be followed"):
        await follow("shop")
    assert ran(ends) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_a_commit(ends: LogEnds, number: signal.Signals) -> None:
    """As a worker cancels a run, and as a person stops `medallion follow`. Its run is done: nothing is left to do."""
    asyncio.run(ends.set_up())
    asyncio.run(ends.load())
    before, shown = signal.signal(signal.SIGINT, signal.default_int_handler), list[str]()

    def stop() -> None:
        ends.source("update items set amount = -1 where id = 3")
        eventually(ends.same)
        shown.append(eventually(lambda: status("Followed sources")))
        ends.source("update items set amount = -2 where id = 4")
        os.kill(os.getpid(), number)

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        with capture_sigterm(), pytest.raises((TerminationSignal, KeyboardInterrupt)):
            asyncio.run(follow("shop"))
    finally:
        stopping.join()
        signal.signal(signal.SIGINT, before)

    assert "lag (MB)" in shown[0]
    (run,) = ran(ends)
    assert (run["status"], run["details"]["commits"] >= 1) == ("done", True)
    told = rows(ends.warehouse, "select strategy, status, reconciliation from ops.loads order by batch_id desc limit 1")
    assert told == [{"strategy": "follow", "status": "published", "reconciliation": "match"}]
    assert rows(ends.warehouse, "select from ops.locks where ops.is_held(key, pid, account)") == []


@pytest.mark.long  # a worker's process and its watch over cancellations take a minute and more
def test_a_run_that_is_cancelled_at_the_server_ends_as_cancelled_and_has_committed(
    ends: LogEnds, prefect_server: str, tmp_path: Path
) -> None:
    asyncio.run(ends.set_up())
    asyncio.run(ends.load())
    deployment = {
        "name": f"followed-{os.getpid()}",
        "flow_id": asked("POST", f"{prefect_server}/flows/", json={"name": "follow"}).json()["id"],
        "entrypoint": "tests/flows/follow_items.py:follow",
        "path": str(ROOT),
        "parameters": {"source": "shop"},
    }
    made = asked("POST", f"{prefect_server}/deployments/", json=deployment).json()["id"]
    run = asked("POST", f"{prefect_server}/deployments/{made}/create_flow_run", json={}).json()["id"]
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "prefect", "flow-run", "execute", run]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            ends.source("update items set amount = -1 where id = 3")
            assert eventually(ends.same, 240), (tmp_path / "log").read_text()
            body = {"state": {"type": "CANCELLING"}, "force": True}
            asked("POST", f"{prefect_server}/flow_runs/{run}/set_state", json=body).raise_for_status()
            process.wait(240)
        finally:
            process.kill()
    state = asked("GET", f"{prefect_server}/flow_runs/{run}").json()["state"]["type"]
    (told,) = ran(ends)
    assert (state, told["status"]) == ("CANCELLED", "done"), (tmp_path / "log").read_text()
    assert rows(ends.warehouse, "select from ops.locks where ops.is_held(key, pid, account)") == []
