"""What a game leaves behind that was killed: the next one ends and removes it."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from infra.gameday.program import end_processes_of
from infra.local import process
from infra.local.postgres import Cluster

PREFIX = "gameday-"
_OWNER = "owner"
#: Of the clusters' folders in a world.
CLUSTERS = ("source", "warehouse")
PREFECT_RECORD = Path("run/prefect")


def made_folder() -> Path:
    """A new folder for a world, which says whose it is."""
    home = Path(tempfile.mkdtemp(prefix=PREFIX))
    (home / _OWNER).write_text(f"{os.getpid()}\n{process.born(os.getpid())}\n")
    home.chmod(0o711)  # PostgreSQL runs as another account where root starts it, and passes through
    return home


def remove_leftovers() -> list[Path]:
    """End and remove worlds of ours whose game has ended without doing so."""
    removed = []
    for home in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, ValueError):
            pid, born = (home / _OWNER).read_text().splitlines()
            if home.stat().st_uid == os.geteuid() and process.born(int(pid)) != born:
                remove(home)
                removed.append(home)
    return removed


def remove(home: Path) -> None:
    """End every process of a world, and remove its folder."""
    end_processes_of(home)
    prefect = process.find(home / PREFECT_RECORD)
    if prefect is not None:
        process.stop(prefect.pid, process.born(prefect.pid))
    for name in CLUSTERS:
        Cluster(home / name).stop()
    shutil.rmtree(home, ignore_errors=True)
