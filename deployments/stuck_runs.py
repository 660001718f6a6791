"""Runs of deployments that do not start: pending for too long, or late without a worker in their work pool.

A worker that takes a run and dies leaves it pending. If the restart automation is not deployed, or its limit has not
passed, nothing happens; and without a worker a run only becomes late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deployments.environments import ENVIRONMENTS, PENDING_SECONDS
from deployments.next_runs import Asks
from flows.values.settings import settings

#: How many runs of each kind are asked for; more of them have the same reason.
_AT_MOST = 50


@dataclass(frozen=True, slots=True)
class StuckRun:
    """A run that does not begin. `state` is `Pending` or `Late`; `since` (UTC): when it was to begin, or was taken."""

    deployment: str
    run: str
    state: str
    since: datetime
    pool: str
    pool_ready: bool

    @property
    def fix(self) -> str:
        """What to do about it."""
        if not self.pool_ready:
            return f"start a worker: `medallion worker --pool {self.pool}`"
        return (
            f"its worker died, or its infrastructure does not start: `prefect flow-run cancel {self.run}`, and "
            "run the deployment again"
        )


def pending_limit() -> timedelta:
    """After how long a pending run is taken for lost: what the automation of the environment in force is given."""
    name = settings().environment
    seconds = next((each.pending_seconds for each in ENVIRONMENTS if each.name == name), PENDING_SECONDS)
    return timedelta(seconds=seconds)


def stuck_runs(server: Asks, names: Sequence[str], limit: timedelta) -> list[StuckRun]:
    """The runs of deployments of these names that do not begin, the oldest first.

    Raises:
        ConfigurationError: the server refuses the question.
    """
    waiting = [
        *_runs(server, names, {"type": {"any_": ["PENDING"]}}),
        *_runs(server, names, {"name": {"any_": ["Late"]}}),
    ]
    if not waiting:
        return []
    wanted = {"deployments": {"name": {"any_": list(names)}}, "limit": 200}
    deployments = {found["id"]: found for found in server.ask("POST", "/deployments/filter", wanted)}
    flows = {flow["id"]: flow["name"] for flow in server.ask("POST", "/flows/filter", {"limit": 200})}
    ready = {
        pool["name"] for pool in server.ask("POST", "/work_pools/filter", {"limit": 200}) if pool["status"] == "READY"
    }
    found = []
    for run in waiting:
        deployment, is_late = deployments.get(run["deployment_id"], {}), run["state_name"] == "Late"
        pool = run["work_pool_name"] or deployment.get("work_pool_name") or ""
        stuck = StuckRun(
            deployment=f"{flows.get(run['flow_id'], '?')}/{deployment.get('name', '?')}",
            run=run["id"],
            state=run["state_name"],
            since=datetime.fromisoformat(run["expected_start_time"] if is_late else run["state"]["timestamp"]),
            pool=pool,
            pool_ready=pool in ready,
        )
        # A worker that polls takes late runs in their turn.
        if not stuck.pool_ready if is_late else datetime.now(UTC) - stuck.since > limit:
            found.append(stuck)
    return sorted(found, key=lambda run: run.since)


def _runs(server: Asks, names: Sequence[str], state: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {
        "deployments": {"name": {"any_": list(names)}},
        "flow_runs": {"state": state},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": _AT_MOST,
    }
    found: list[dict[str, Any]] = server.ask("POST", "/flow_runs/filter", wanted)
    return found
