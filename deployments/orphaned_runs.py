"""Runs that a worker of this machine took and died with, before they began: the next worker puts them back.

Prefect does not know which worker took a run. Such a run stays pending until an automation ends it (ten minutes), and
keeps the slot of its deployment until its lease expires (five minutes): what is scheduled meanwhile is dropped.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deployments.next_runs import Asks

#: A worker that sent a heartbeat within this time may have taken a run that is pending now: longer than a run may be
#: pending (`PENDING_SECONDS`), and than a worker is taken for alive (three heartbeats of 30 s).
_LIVES = timedelta(minutes=15)
_AT_MOST = 200
_PROCESSES = Path("/proc")


def worker_name() -> str:
    """The name of this process as a worker: it says whether a worker of this machine is still alive."""
    return f"{socket.gethostname()}-{os.getpid()}"


def put_back_orphans(server: Asks, pool: str, *, name: str | None = None) -> list[str]:
    """Schedule the pending runs of a pool again whose worker died on this machine; returns their ids.

    Only in pools whose runs are processes of their worker, and only if no other worker of the pool can have taken them.
    A run that has a process here is left to it.

    Raises:
        ConfigurationError: the server refuses a request.
    """
    own = name or worker_name()
    found = server.ask("GET", f"/work_pools/{quote(pool)}")
    if found["type"] != "process" or not _PROCESSES.is_dir():
        return []
    # Before the workers: whoever takes a run from now on is among them.
    pending = server.ask(
        "POST",
        "/flow_runs/filter",
        {
            "flow_runs": {"state": {"type": {"any_": ["PENDING"]}}},
            "work_pools": {"name": {"any_": [pool]}},
            "limit": _AT_MOST,
        },
    )
    workers = server.ask("POST", f"/work_pools/{quote(pool)}/workers/filter", {"limit": _AT_MOST})
    if not pending or any(_may_live(worker, own) for worker in workers):
        return []
    started = _runs_with_a_process([run["id"] for run in pending])
    orphans = [run["id"] for run in pending if run["id"] not in started]
    for run in orphans:
        state = {
            "type": "SCHEDULED",
            "name": "AwaitingRetry",
            "message": "its worker died before it began",
            "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
        }
        server.ask("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    return orphans


def _may_live(worker: dict[str, Any], own: str) -> bool:
    """Whether a worker other than `own` may be alive, here or elsewhere."""
    host, _, pid = str(worker["name"]).rpartition("-")
    here = host == socket.gethostname() and pid.isdecimal()
    if worker["name"] == own or (here and not (_PROCESSES / pid).exists()):
        return False
    return datetime.now(UTC) - datetime.fromisoformat(worker["last_heartbeat_time"]) < _LIVES


def _runs_with_a_process(runs: Sequence[str]) -> set[str]:
    """Those of the runs that a process of this machine carries out: a worker that is killed leaves them alive."""
    found = set()
    for environment in _PROCESSES.glob("[0-9]*/environ"):
        with suppress(OSError):
            variables = environment.read_bytes()
            found |= {run for run in runs if f"PREFECT__FLOW_RUN_ID={run}".encode() in variables}
    return found
