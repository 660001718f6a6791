"""A server of the stack: it outlives the command that started it, is found again by its record, tells its health."""

import json
import os
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from infra.local import ports, process
from infra.local.errors import DiskFull, ServiceFailed, StackError
from infra.local.home import file_error
from infra.local.process import Running


@dataclass(frozen=True)
class Service(ABC):
    """A server with a folder of its own. Subclasses say what to run; nothing runs before `start`."""

    folder: Path
    record: Path
    log: Path

    name: ClassVar[str]
    port_variable: ClassVar[str]
    default_port: ClassVar[int | None] = None
    health_path: ClassVar[str]

    @abstractmethod
    def command(self, port: int) -> Sequence[str]:
        """The program and its arguments."""

    @abstractmethod
    def environment(self, port: int) -> Mapping[str, str]:
        """The whole environment of the program."""

    def running(self) -> Running | None:
        """The process, whether ready or booting; None when there is none, or its pid is another's now."""
        return process.find(self.record)

    def start(self, port: int | None = None) -> Running:
        """Find the running process, or start one and return without waiting until it answers.

        The port is `port`, else that of the environment variable, else the default while it is free, else any free
        one. Raises PortTaken, FolderUnusable, DiskFull.
        """
        running = self.running()
        if running is not None:
            return running
        chosen = port if port is not None else ports.choose(self.name, self.port_variable, self.default_port)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return process.spawn(
                self.command(chosen),
                record=self.record,
                port=chosen,
                env=self.environment(chosen),
                log=self.log,
                cwd=self.folder,
            )
        except OSError as error:
            raise file_error(error, self.folder) from error

    def wait(self, running: Running, timeout: float = 120.0) -> None:
        """Block until the server answers.

        Raises ServiceFailed when it died or stays silent for `timeout` seconds, DiskFull when that was the cause.
        """
        deadline = time.monotonic() + timeout
        while not self.healthy(running):
            if self.running() is None:
                raise self._died(running)
            if time.monotonic() > deadline:
                raise ServiceFailed(
                    f"has not answered within {timeout:.0f} seconds",
                    where=self.name,
                    next_move=f"look into {self.log}; a busy machine may need longer: run `medallion up` again",
                    retryable=True,
                )
            time.sleep(0.05)

    def healthy(self, running: Running, timeout: float = 2.0) -> bool:
        """Whether the server answers on its port now, and says that it is well."""
        # No proxy of the environment's: it would be asked for an address that only this machine has.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(address(running.port) + self.health_path, timeout=timeout) as response:
                body = response.read(4096)
        except OSError:
            return False
        try:
            return json.loads(body) is not False
        except ValueError:
            return True

    def stop(self) -> bool:
        """Stop the process. False when none was running."""
        running = self.running()
        try:
            stopped = running is not None and process.stop(running.pid, process.born(running.pid))
        except PermissionError as error:
            raise ServiceFailed(
                f"pid {running.pid if running else '?'} belongs to another account",
                where=self.name,
                next_move="stop the stack as the account that started it",
            ) from error
        self.record.unlink(missing_ok=True)
        return stopped

    def _died(self, running: Running) -> StackError:
        last = process.tail(self.log)
        if "disk is full" in last or "No space left on device" in last:
            return DiskFull(
                "stopped: the disk is full",
                where=self.name,
                next_move="free some space, or set MEDALLION_HOME to a folder on a larger disk",
            )
        if "in use" in last.lower():
            return ports.taken(self.name, running.port, self.port_variable)
        return ServiceFailed(
            f"ended while it was starting: {last or 'it said nothing'}",
            where=self.name,
            next_move=f"look into {self.log}, then run `medallion up` again",
        )


def address(port: int) -> str:
    """Where a service on `port` is."""
    return f"http://{ports.HOST}:{port}"


def without(prefix: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment less the variables that begin with `prefix`: the caller's settings are not the server's."""
    return {name: value for name, value in (os.environ if env is None else env).items() if not name.startswith(prefix)}
