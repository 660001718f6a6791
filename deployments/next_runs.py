"""The next run of each deployment, as planned by the Prefect server.

Runs are created by the server's scheduler. If it fails, for example because of incompatible packages, deployments look
healthy and nothing ever starts. So this module checks the planned runs.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from flows.values.errors import ConfigurationError

#: The scheduler looks for new deployments every 5 s and at all of them every 60 s; a busy server takes longer.
PATIENCE_SECONDS = 90
_POLL_SECONDS = 1.0


class Asks(Protocol):
    """A connection to the server."""

    @property
    def address(self) -> str:
        """Where it is."""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A request's answer as JSON."""


@dataclass(frozen=True, slots=True)
class NextRun:
    """A deployment with an active schedule. `at` (UTC) is None if the server has planned no run of it.

    `late` counts runs that should have started and have not; `pool_ready` tells whether a worker polls its work pool.
    """

    deployment: str
    schedules: tuple[str, ...]
    at: datetime | None
    late: int
    pool: str
    pool_ready: bool


def next_runs(server: Asks, names: Sequence[str]) -> list[NextRun]:
    """The next run of each deployment of these names that is active, by the time of that run.

    Raises:
        ConfigurationError: the server refuses the question.
    """
    wanted = {"deployments": {"name": {"any_": list(names)}}, "limit": 200}
    active = [found for found in server.ask("POST", "/deployments/filter", wanted) if _is_active(found)]
    pools = {pool["name"]: pool["status"] for pool in server.ask("POST", "/work_pools/filter", {"limit": 200})}
    flows = {flow["id"]: flow["name"] for flow in server.ask("POST", "/flows/filter", {"limit": 200})}
    runs = [
        NextRun(
            deployment=f"{flows.get(found['flow_id'], '?')}/{found['name']}",
            schedules=tuple(_told(schedule["schedule"]) for schedule in found["schedules"] if schedule["active"]),
            at=_planned(server, found["id"]),
            late=_late(server, found["id"]),
            pool=found["work_pool_name"] or "",
            pool_ready=pools.get(found["work_pool_name"]) == "READY",
        )
        for found in active
    ]
    return sorted(runs, key=lambda run: (run.at or datetime.max.replace(tzinfo=UTC), run.deployment))


def wait_for_next_runs(server: Asks, names: Sequence[str], *, seconds: float = PATIENCE_SECONDS) -> list[NextRun]:
    """The same, once the scheduler has planned a run of each, or the time is over."""
    until = time.monotonic() + seconds
    while True:
        found = next_runs(server, names)
        if all(run.at is not None for run in found) or time.monotonic() > until:
            return found
        time.sleep(_POLL_SECONDS)


def refuse_unplanned(server: Asks, runs: Iterable[NextRun]) -> None:
    """Report active schedules that will start nothing.

    Raises:
        ConfigurationError: a deployment with an active schedule has no next run.
    """
    missing = [run.deployment for run in runs if run.at is None]
    if missing:
        raise ConfigurationError(
            f"no next run is planned for {', '.join(missing)}, although the schedule is active",
            where=server.address,
            fix="look for scheduler errors in the server's log (embedded: .medallion/logs/prefect.log), "
            "install the locked packages (`make install`) and restart the server; if the log is clean, check that "
            "the schedule has a future date",
        )


def _is_active(deployment: dict[str, Any]) -> bool:
    return not deployment["paused"] and any(schedule["active"] for schedule in deployment["schedules"])


def _told(schedule: dict[str, Any]) -> str:
    told = schedule.get("cron") or schedule.get("rrule") or f"every {schedule.get('interval')} s"
    return f"{told} {schedule.get('timezone') or 'UTC'}"


def _planned(server: Asks, deployment: str) -> datetime | None:
    wanted = {
        "deployments": {"id": {"any_": [deployment]}},
        "flow_runs": {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"after_": datetime.now(UTC).isoformat()},
        },
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 1,
    }
    found = server.ask("POST", "/flow_runs/filter", wanted)
    return datetime.fromisoformat(found[0]["expected_start_time"]) if found else None


def _late(server: Asks, deployment: str) -> int:
    wanted = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": {"state": {"name": {"any_": ["Late"]}}}}
    return int(server.ask("POST", "/flow_runs/count", wanted))
