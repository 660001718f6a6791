"""Programs of the world: worker and watch, and the flow runs that the worker starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Program:
    """A program of the copied project that may be killed and started again."""

    name: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    environment: Callable[[], Mapping[str, str]]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Start it; its output goes to the end of its log."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                cwd=self.folder,
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL it alone: what it started lives on, as it does when the system is short of memory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def lives(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None


def processes_of(home: Path) -> list[tuple[int, bytes]]:
    """The processes that were started with this home, and their command lines."""
    marker, found = f"MEDALLION_HOME={home}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if marker in (process / "environ").read_bytes().split(b"\0") and int(process.name) != os.getpid():
                found.append((int(process.name), (process / "cmdline").read_bytes()))
    return found


def end_processes_of(home: Path, patience: float = 10.0) -> None:
    """End worker, watch and runs: first by asking, then by force. A killed worker's runs are orphans, found as well."""
    deadline = time.monotonic() + patience
    for number, kind in enumerate((signal.SIGTERM, signal.SIGKILL)):
        for pid, _ in processes_of(home):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, kind)
        while processes_of(home) and time.monotonic() < deadline + number * patience:
            time.sleep(0.1)
