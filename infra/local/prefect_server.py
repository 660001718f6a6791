"""A Prefect server for one machine: a detached process with a SQLite database, its interface included.

server = PrefectServer(Path(".medallion/prefect"), record=…, log=…)
running = server.start()          # returns at once; booting takes some 6 s of a core
…                                 # load data meanwhile
server.wait(running)
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local import ports, process
from infra.local.errors import DiskFull, ServiceFailed
from infra.local.home import file_error
from infra.local.process import Running

DEFAULT_PORT = 4200
PORT_VARIABLE = "MEDALLION_PREFECT_PORT"
WHERE = "Prefect server"


@dataclass(frozen=True)
class PrefectServer:
    """A server whose home is `folder`."""

    folder: Path
    record: Path
    log: Path

    def running(self) -> Running | None:
        """The server's process, whether ready or booting; None when there is none."""
        return process.find(self.record)

    def start(self, port: int | None = None) -> Running:
        """Find the running server, or start one and return without waiting for it.

        The port is `port`, else that of `MEDALLION_PREFECT_PORT`, else 4200, else, when 4200 is taken, a free one.
        Raises PortTaken, FolderUnusable, DiskFull.
        """
        running = self.running()
        if running is not None:
            return running
        chosen = port if port is not None else ports.choose(WHERE, PORT_VARIABLE, preferred=DEFAULT_PORT)
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", ports.HOST, "--port", str(chosen)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return process.spawn(
                command,
                record=self.record,
                port=chosen,
                env={**_neutral(os.environ), **self._settings(chosen)},
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
                last = process.tail(self.log)
                if "disk is full" in last or "No space left on device" in last:
                    raise DiskFull(
                        "stopped: the disk is full",
                        where=WHERE,
                        next_move="free some space, or set MEDALLION_HOME to a folder on a larger disk",
                    )
                raise ServiceFailed(
                    f"ended while it was starting: {last or 'it said nothing'}",
                    where=WHERE,
                    next_move=f"look into {self.log}, then run `medallion up` again",
                )
            if time.monotonic() > deadline:
                raise ServiceFailed(
                    f"has not answered within {timeout:.0f} seconds",
                    where=WHERE,
                    next_move=f"look into {self.log}; a busy machine may need longer: run `medallion up` again",
                    retryable=True,
                )
            time.sleep(0.1)

    def healthy(self, running: Running, timeout: float = 2.0) -> bool:
        """Whether the server answers on its port now."""
        return answers(f"{api_url(running.port)}/health", timeout=timeout)

    def stop(self) -> bool:
        """Stop the server. False when none was running."""
        running = self.running()
        stopped = running is not None and process.stop(running.pid, process.born(running.pid))
        self.record.unlink(missing_ok=True)
        return stopped

    def _settings(self, port: int) -> dict[str, str]:
        url = api_url(port)
        settings = {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.folder}/prefect.db",
            "PREFECT_API_URL": url,
            # The pages ask the server where its API is; without this they are told port 4200, whatever the port.
            "PREFECT_UI_API_URL": url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
        }
        if not _package_is_writable():
            # The server copies its pages beside the package by default, and without them has no interface.
            settings["PREFECT_UI_STATIC_DIRECTORY"] = str(self.folder / "ui")
        return settings


def api_url(port: int) -> str:
    """Where the API of a server on `port` is."""
    return f"http://{ports.HOST}:{port}/api"


def ui_url(port: int) -> str:
    """Where the pages of a server on `port` are."""
    return f"http://{ports.HOST}:{port}"


def answers(url: str, *, timeout: float = 2.0) -> bool:
    """Whether a GET is answered with 200 and something that is neither `false` nor an error."""
    # No proxy of the environment's: it would be asked for an address that only this machine has.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            body = response.read(4096)
    except (OSError, urllib.error.URLError):
        return False
    try:
        return json.loads(body) is not False
    except ValueError:
        return True


def _neutral(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without the caller's Prefect settings: another server's database must not become ours."""
    return {name: value for name, value in env.items() if not name.startswith("PREFECT_")}


def _package_is_writable() -> bool:
    import importlib.util

    found = importlib.util.find_spec("prefect")
    if found is None or found.origin is None:
        return False
    return os.access(Path(found.origin).parent / "server", os.W_OK)
