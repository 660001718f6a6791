"""Runs that do not begin are shown with their fix; on a real server."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from deployments.environments import PENDING_SECONDS
from deployments.server import connected
from deployments.stuck_runs import StuckRun, pending_limit, stuck_runs
from flows.cli.deploy_screens import stuck_runs_table
from flows.values.settings import settings
from tests.deployments.asking import asked
from tests.deployments.deploying import Deploying
from tests.deployments.test_automations import become, start

pytestmark = pytest.mark.xdist_group("deployments")

NAMES = ["ingest-shop", "transform", "backfill"]
AT_ONCE = timedelta(0)


def stuck(limit: timedelta) -> list[StuckRun]:
    with connected({}) as server:
        return stuck_runs(server, NAMES, limit)


def test_runs_that_stay_pending_or_are_late_without_a_worker_are_shown_with_their_fix(
    api: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`medallion status` said nothing of them, least of all of deployments without an active schedule."""
    deploying = Deploying(api, clone)
    deploying.only(*NAMES).deploy()
    pending = start(deploying, "backfill/backfill", table="shop.baskets", first="2017-01-01", last="2017-01-02")
    become(deploying, pending, "pending")
    running = start(deploying, "transform/transform")
    become(deploying, running, "pending", "running")
    late = start(deploying, "ingest/ingest-shop")
    body = {"state": {"type": "SCHEDULED", "name": "Late"}, "force": True}
    asked("POST", f"{api}/flow_runs/{late}/set_state", json=body).raise_for_status()
    time.sleep(0.1)

    assert {(run.run, run.state, run.pool_ready) for run in stuck(AT_ONCE)} == {
        (pending, "Pending", False),
        (late, "Late", False),
    }
    assert [run.run for run in stuck(timedelta(hours=1))] == [late], "pending for less than the limit"
    console = Console(width=150, record=True)
    console.print(stuck_runs_table(stuck(AT_ONCE)))
    shown = console.export_text()
    assert "backfill/backfill" in shown
    assert "pending" in shown
    assert "`medallion worker --pool local`" in shown

    # With a worker, what is late is taken in its turn, and what is pending was lost.
    asked("POST", f"{api}/work_pools/local/workers/heartbeat", json={"name": "one"}).raise_for_status()
    assert [(run.run, run.pool_ready) for run in stuck(AT_ONCE)] == [(pending, True)]
    assert f"prefect flow-run cancel {pending}" in stuck(AT_ONCE)[0].fix


def test_the_limit_is_that_of_the_automation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dev", "a name that nobody declared"):
        monkeypatch.setenv("MEDALLION_ENVIRONMENT", name)
        settings.cache_clear()
        assert pending_limit() == timedelta(seconds=PENDING_SECONDS)
    settings.cache_clear()
