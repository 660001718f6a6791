"""A companion of the embedded stack: a detached command without a port, found again by its record.

watch = Companion("Watch", "watch")
watch.start(home, ["watch"], env)   watch.status(home)   watch.stop(home)
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local import process
from infra.local.home import Home, file_error
from infra.local.process import Running
from infra.local.stack import ServiceStatus

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Companion:
    """`name` is what screens show; record and log are the home's files of the name `file`.

    `grace`: seconds that it has to stop before it is killed.
    """

    name: str
    file: str
    grace: float = 10.0

    def start(self, home: Home, command: Sequence[str], env: Mapping[str, str]) -> Running:
        """Start `medallion <command>`, unless it runs.

        Raises FolderUnusable, DiskFull.
        """
        if (running := self.running(home)) is not None:
            return running
        try:
            return process.spawn(
                [sys.executable, "-m", "flows.cli", *command],
                record=self._record(home),
                port=0,
                env={**env, "MEDALLION_HOME": str(home.root), "PYTHONUNBUFFERED": "1"},
                log=self.log(home),
                cwd=_CHECKOUT,
            )
        except OSError as error:
            raise file_error(error, home.root) from error

    def stop(self, home: Home) -> bool:
        """Stop it. False if it was not running."""
        running = self.running(home)
        stopped = running is not None and process.stop(running.pid, process.born(running.pid), grace=self.grace)
        self._record(home).unlink(missing_ok=True)
        return stopped

    def status(self, home: Home) -> ServiceStatus:
        """One line of `medallion status`."""
        if (running := self.running(home)) is None:
            return ServiceStatus(self.name, "stopped", log=self.log(home))
        return ServiceStatus(self.name, "running", running.pid, log=self.log(home))

    def running(self, home: Home) -> Running | None:
        """Its process, if there is one."""
        return process.find(self._record(home))

    def log(self, home: Home) -> Path:
        """Its log."""
        return home.logs / f"{self.file}.log"

    def _record(self, home: Home) -> Path:
        return home.run / self.file
