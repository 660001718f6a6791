"""A server of the stack: it outlives its command, is found again by its record, and has a health check."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from infra.local import ports, process, proof
from infra.local.errors import DiskFull, NotOurs, NotUp, ServiceFailed, StackError
from infra.local.home import file_error
from infra.local.process import Running


@dataclass(frozen=True)
class Service(ABC):
    """A server with a folder of its own. Subclasses say what to run; nothing runs before `start`.

    By the secret it proves that it is ours, and its clients prove to it that they are.
    """

    folder: Path
    record: Path
    log: Path
    secret: str = field(default="", repr=False)

    name: ClassVar[str]
    port_variable: ClassVar[str]
    default_port: ClassVar[int | None] = None

    @abstractmethod
    def command(self, fd: int) -> Sequence[str]:
        """The program and its arguments. It inherits `fd`, a socket that listens on its port."""

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
        # Bound here and handed over: nobody can take the port between our choosing it and the server's listening.
        with ports.listen(self.name, self.port_variable, self.default_port, port) as listening:
            chosen = int(listening.getsockname()[1])
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                return process.spawn(
                    self.command(listening.fileno()),
                    record=self.record,
                    port=chosen,
                    env=self.environment(chosen),
                    log=self.log,
                    cwd=self.folder,
                    listening=listening,
                )
            except OSError as error:
                raise file_error(error, self.folder) from error

    def wait(self, running: Running, timeout: float = 120.0) -> None:
        """Block until the server answers and has proven that it is ours.

        Raises ServiceFailed when it died or stays silent for `timeout` seconds, DiskFull when that was the cause,
        NotOurs when somebody else answers.
        """
        deadline = time.monotonic() + timeout
        while (answer := self.asked(running)) != "ours":
            if self.running() is None:
                raise self._died(running)
            if answer != "silent":
                raise self.not_ours(running.port)
            if time.monotonic() > deadline:
                raise ServiceFailed(
                    f"did not respond within {timeout:.0f} seconds",
                    where=self.name,
                    fix=f"check {self.log}; a busy machine may need longer: run `medallion up` again",
                    retryable=True,
                )
            time.sleep(0.05)

    def asked(self, running: Running, timeout: float = 2.0) -> proof.Answer:
        """Who answers on the port now: this server, somebody else, or nobody yet."""
        return proof.ask(address(running.port), self.secret, self.folder, timeout=timeout)

    def healthy(self, running: Running) -> bool:
        """Whether the server answers now, and proves that it is ours."""
        return self.asked(running) == "ours"

    def prove(self, url: str) -> None:
        """See that this server answers at `url`, before anything is sent there; while it boots, wait for it.

        Raises NotUp when it does not run, NotOurs when somebody else answers, and what `wait` raises.
        """
        port = urlsplit(url).port or 0
        answer, running = self.asked(Running(0, port)), self.running()
        if answer == "silent" and running is not None and running.port == port:
            self.wait(running)
        elif answer == "silent":
            raise NotUp("is not running", where=self.name, fix="run `medallion up`", retryable=True)
        elif answer != "ours":
            raise self.not_ours(port)

    def stop_unproven(self) -> Running | None:
        """Stop our process when it answers without proof; the running process otherwise, if any.

        So does a server that an earlier version of this code started, one whose home was moved since, and one whose
        secret was lost. One that boots does not answer yet and is left alone.
        """
        running = self.running()
        if running is not None and self.asked(running, timeout=0.5) not in ("ours", "silent"):
            self.stop()
            return None
        return running

    def not_ours(self, port: int) -> NotOurs:
        """The error for a port of ours where somebody else answers."""
        return NotOurs(
            f"the server on {ports.HOST}:{port} does not belong to this stack",
            where=self.name,
            fix="run `medallion up`, which starts this stack's server on another port",
        )

    def stop(self) -> bool:
        """Stop the process. False when none was running."""
        running = self.running()
        try:
            stopped = running is not None and process.stop(running.pid, process.born(running.pid))
        except PermissionError as error:
            raise ServiceFailed(
                f"pid {running.pid if running else '?'} belongs to another account",
                where=self.name,
                fix="stop the stack as the account that started it",
            ) from error
        self.record.unlink(missing_ok=True)
        return stopped

    def _died(self, running: Running) -> StackError:
        last = process.tail(self.log)
        if "disk is full" in last or "No space left on device" in last:
            return DiskFull(
                "stopped: the disk is full",
                where=self.name,
                fix="free some space, or set MEDALLION_HOME to a folder on a larger disk",
            )
        return ServiceFailed(
            f"ended during startup: {last or 'no output'}",
            where=self.name,
            fix=f"check {self.log}, then run `medallion up` again",
        )


def address(port: int) -> str:
    """Where a service on `port` is."""
    return f"http://{ports.HOST}:{port}"


def without(prefix: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment less the variables that begin with `prefix`: the caller's settings are not the server's."""
    return {name: value for name, value in (os.environ if env is None else env).items() if not name.startswith(prefix)}


def finds_checkout() -> dict[str, str]:
    """PYTHONPATH for a program of this project's, whatever its working folder is."""
    return {"PYTHONPATH": os.pathsep.join([str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])}


_CHECKOUT = Path(__file__).resolve().parents[2]
