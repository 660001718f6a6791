"""The embedded stack's archiver: a detached process that `up` starts if a key is configured, and `down` stops."""

import os
import sys
from pathlib import Path

from flows.values.settings import settings
from infra.local import process
from infra.local.home import Home, file_error
from infra.local.process import Running
from infra.local.stack import ServiceStatus

NAME = "WAL archiver"


def start(home: Home) -> Running | None:
    """Find the running archiver or start it; None where no key is configured, so that there is nothing to archive by.

    Raises KeyRefused where what is configured is no key, FolderUnusable, DiskFull.
    """
    if not settings().has_backup_key:
        return None
    from infra.backup import key  # the packages that encrypt are an extra

    if (running := process.find(_record(home))) is not None:
        return running
    key.keys()
    try:
        return process.spawn(
            [sys.executable, "-m", "flows.cli", "backup", "archive"],
            record=_record(home),
            port=0,
            env={**os.environ, "MEDALLION_HOME": str(home.root), "PYTHONUNBUFFERED": "1"},
            log=_log(home),
            cwd=Path(__file__).resolve().parents[2],
        )
    except OSError as error:
        raise file_error(error, home.root) from error


def stop(home: Home) -> bool:
    """Stop it after it has shipped what it received. False where none was running."""
    running = process.find(_record(home))
    stopped = running is not None and process.stop(running.pid, process.born(running.pid), grace=30)
    _record(home).unlink(missing_ok=True)
    return stopped


def status(home: Home) -> ServiceStatus:
    """One line of `medallion status`."""
    running = process.find(_record(home))
    if running is None:
        return ServiceStatus(NAME, "stopped", log=_log(home))
    return ServiceStatus(NAME, "running", running.pid, log=_log(home))


def _record(home: Home) -> Path:
    return home.run / "archiver"


def _log(home: Home) -> Path:
    return home.logs / "archiver.log"
