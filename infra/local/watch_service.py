"""The embedded stack's watch: a detached process that `up` starts and `down` stops. What it does: docs/watch.md."""

import os
import sys
from pathlib import Path

from infra.local import process
from infra.local.home import Home, file_error
from infra.local.process import Running
from infra.local.service import finds_checkout, without
from infra.local.stack import ServiceStatus

NAME = "Watch"


def start(home: Home) -> Running:
    """Find the running watch or start it.

    Raises FolderUnusable, DiskFull.
    """
    if (running := process.find(_record(home))) is not None:
        return running
    try:
        return process.spawn(
            [sys.executable, "-m", "flows.cli", "watch"],
            record=_record(home),
            port=0,
            # The server's address and credentials are read from stack.json, where they are current after a restart.
            env={
                **without("PREFECT_API_", dict(os.environ)),
                **finds_checkout(),
                "MEDALLION_HOME": str(home.root),
                "PYTHONUNBUFFERED": "1",
            },
            log=_log(home),
            cwd=Path(__file__).resolve().parents[2],
        )
    except OSError as error:
        raise file_error(error, home.root) from error


def stop(home: Home) -> bool:
    """Stop it. False where none was running."""
    running = process.find(_record(home))
    stopped = running is not None and process.stop(running.pid, process.born(running.pid))
    _record(home).unlink(missing_ok=True)
    return stopped


def status(home: Home) -> ServiceStatus:
    """One line of `medallion status`."""
    running = process.find(_record(home))
    if running is None:
        return ServiceStatus(NAME, "stopped", log=_log(home))
    return ServiceStatus(NAME, "running", running.pid, log=_log(home))


def _record(home: Home) -> Path:
    return home.run / "watch"


def _log(home: Home) -> Path:
    return home.logs / "watch.log"
