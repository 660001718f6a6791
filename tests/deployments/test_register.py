"""What `python -m deployments.register` and `prefect deploy --all` leave on a real server."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.limits import concurrency_limits
from deployments.register import register
from tests.deployments.asking import asked

pytestmark = pytest.mark.xdist_group("deployments")


def prefect(api: str, cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=cwd,
        env=os.environ | {"PREFECT_API_URL": api},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def deploy(clone: Path, api: str) -> dict[str, dict[str, Any]]:
    """`prefect deploy --all`, then what the server says of each deployment."""
    prefect(api, clone, "deploy", "--all")
    found: list[dict[str, Any]] = asked("POST", f"{api}/deployments/filter", json={}).json()
    return {entry["name"]: entry for entry in found if entry["name"] in _NAMES}


_NAMES = (
    "ingest-shop",
    "ingest-marketing",
    "ingest-currency",
    "transform",
    "release",
    "pipeline",
    "backfill",
    "reconcile",
    "purge",
    "backup",
    "drill",
    "predict",
)
_STABLE = ("id", "entrypoint", "parameters", "tags", "work_pool_name", "concurrency_options", "description", "paused")


def test_a_server_is_made_ready_deployed_to_twice_and_runs_what_was_deployed(api: str, clone: Path) -> None:
    """One test, because these steps share what stands on the server."""
    register()
    assert register() == []
    assert_pool_and_limits(api)
    asked("PATCH", f"{api}/v2/concurrency_limits/warehouse", json={"limit": 99}).raise_for_status()
    assert register() == ["updated  limit warehouse = 4"]

    first = deploy(clone, api)
    second = deploy(clone, api)
    assert_deployed_once(first, second)
    assert_run_finds_its_code(api, clone, first["transform"]["id"])


def assert_pool_and_limits(api: str) -> None:
    pool = asked("GET", f"{api}/work_pools/local").json()
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 4)
    assert pool["base_job_template"]["job_configuration"]["command"] == "{{ command }}"
    limits = {
        name: asked("GET", f"{api}/v2/concurrency_limits/{name}").json()["limit"] for name, _ in concurrency_limits()
    }
    assert limits == {"warehouse": 4, "source-shop": 4, "source-marketing": 2, "source-currency": 2}


def assert_deployed_once(first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]) -> None:
    assert set(first) == set(_NAMES)
    for name, entry in first.items():
        assert {key: entry[key] for key in _STABLE} == {key: second[name][key] for key in _STABLE}
        schedules = [
            [(schedule["slug"], schedule["schedule"]["cron"], schedule["active"]) for schedule in found["schedules"]]
            for found in (entry, second[name])
        ]
        assert schedules[0] == schedules[1]
        assert len(schedules[0]) == (0 if name in {"release", "pipeline", "backfill", "predict"} else 1)
    shop = second["ingest-shop"]
    assert shop["parameters"] == {"source": "shop"}
    assert shop["global_concurrency_limit"]["limit"] == 1
    assert shop["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert second["pipeline"]["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def assert_run_finds_its_code(api: str, clone: Path, deployment: str) -> None:
    """Started from anywhere, a run finds the code of the clone that was deployed from, and works there.

    `flow-run execute` is what a process worker starts for each run; a whole worker does the same and takes 30 s longer.
    """
    elsewhere = clone / "elsewhere"
    elsewhere.mkdir()
    run = asked("POST", f"{api}/deployments/{deployment}/create_flow_run", json={}).json()
    said = prefect(api, elsewhere, "flow-run", "execute", run["id"])
    assert (clone / "was_here").is_file(), said
