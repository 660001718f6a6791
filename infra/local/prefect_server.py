"""A Prefect server for one machine: a detached process, its interface included.

server = PrefectServer(Path(".medallion/prefect"), record=…, log=…, database_url="postgresql+asyncpg://…")
running = server.start()          # returns at once; the first boot takes 9 s of a core, later ones 4
…                                 # load data meanwhile
server.wait(running)
"""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from infra.local import guard, ports, proof
from infra.local.errors import NotOurs
from infra.local.home import Home
from infra.local.service import Service, address, finds_checkout, without

#: How long runs, their logs and artifacts are kept: an hourly pipeline adds 20 MB a day. What was loaded and built is
#: in `ops` for longer.
RUN_DAYS = 14
#: The SQLite database of a server that is given no other, in its home.
SQLITE = "prefect.db"


@dataclass(frozen=True)
class PrefectServer(Service):
    """A server whose home is `folder`. Its port: `MEDALLION_PREFECT_PORT`, else 4200, else a free one.

    Its secret is the auth string that clients send. `database_url` is for SQLAlchemy; without it the database is a
    SQLite file in the home.
    """

    database_url: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, home: Home, secret: str = "", database_url: str | None = None) -> "PrefectServer":  # nosec B107
        """The one of that home; to find and stop it takes neither secret nor database."""
        return cls(home.prefect, home.run / "prefect", home.logs / "prefect.log", secret, database_url)

    name: ClassVar[str] = "Prefect server"
    port_variable: ClassVar[str] = "MEDALLION_PREFECT_PORT"
    default_port: ClassVar[int | None] = 4200

    def command(self, fd: int) -> Sequence[str]:
        return [sys.executable, "-m", "infra.local.prefect_program", "--fd", str(fd)]

    def environment(self, port: int) -> Mapping[str, str]:
        settings = {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database_url
            or f"sqlite+aiosqlite:///{self.folder}/{SQLITE}",
            "PREFECT_API_URL": api_url(port),
            # By the environment: arguments are visible to everybody on the machine.
            "PREFECT_SERVER_API_AUTH_STRING": self.secret,
            "PREFECT_API_AUTH_STRING": self.secret,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(guard.origins(port)),
            **finds_checkout(),
            # The pages ask the server where its API is, and are told port 4200 without this.
            "PREFECT_UI_API_URL": api_url(port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            # By default only events are deleted, and runs, their logs and artifacts are kept forever.
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_DAYS * 86_400),
            # Without it an unchanged run stores 611 more events that nobody reads: 3.7 of 4.5 MB.
            "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "infra.events.memory",
            # States of task runs are written together, those of a second: one by one they took 8 ms of a core each, and
            # a run of 500 tables brings 1,500 of them. Prefect rounds the interval down, and 0 would be a busy loop.
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
            # To see whether types of blocks are new it would import dbt and AWS at each start, into 140 MB of memory.
            # Registering what it knows takes no longer.
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
            "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
            # With each schedule that it reads it asks for the names of all time zones: 52 ms of walking through the
            # system's folders, 0.6 ms from the package tzdata. It was a third of its time while deployments were made.
            "PYTHONTZPATH": "",
        }
        if not _package_is_writable():
            # The server copies its pages into its package before it serves them, and else would have none.
            settings["PREFECT_UI_STATIC_DIRECTORY"] = str(self.folder / "ui")
        # Another server's database or key, from the environment of the caller, must not become this one's.
        return {**without("PREFECT_"), **settings}

    def is_meant(self, configured: str | None, ours: str) -> bool:
        """Whether the API that is `configured`, if any, is this server's, which is `ours`.

        Raises NotOurs when it is that of another embedded stack: what runs there has its own warehouse and blocks.
        """
        if configured is None or configured.rstrip("/") == ours:
            return True
        answer = self._asked_at(configured)
        if answer == "stack":
            raise another_stack(configured)
        return answer == "ours"

    def refuse_another_stack(self, configured: str | None) -> None:
        """Raise NotOurs if the API that is `configured` is that of another embedded stack."""
        if configured and self._asked_at(configured) == "stack":
            raise another_stack(configured)

    def _asked_at(self, configured: str) -> proof.Answer:
        """Who answers there; `other` for what is not on this machine, which is not asked."""
        at = urlsplit(configured)
        if at.scheme != "http" or at.hostname not in (ports.HOST, "localhost"):
            return "other"
        return proof.ask(f"http://{at.netloc.rpartition('@')[2]}", self.secret, self.folder)


def another_stack(configured: str) -> NotOurs:
    """The error for an API that is the embedded server of another stack; it names that stack's home if it can."""
    port = urlsplit(configured).port or 80
    home = home_on(port)
    return NotOurs(
        "PREFECT_API_URL names the embedded server of another stack" + (f", the one in {home}" if home else ""),
        where=address(port),
        fix="unset PREFECT_API_URL to use the stack of this project (`medallion up` starts it); or, to work with "
        'that stack, run `eval "$(medallion env)"` in its project, or set MEDALLION_HOME to '
        + (str(home) if home else "its home"),
    )


def home_on(port: int) -> Path | None:
    """The home whose Prefect server runs on this port; None if none does, or if it is another account's."""
    wanted = f"PREFECT_API_URL={api_url(port)}"
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # another account's, or gone by now
            continue
        if wanted in variables and any(each.startswith("PREFECT_SERVER_API_AUTH_STRING=") for each in variables):
            folder = next((each.partition("=")[2] for each in variables if each.startswith("PREFECT_HOME=")), None)
            return Path(folder).parent if folder else None
    return None


def api_url(port: int) -> str:
    """Where the API of a server on `port` is."""
    return address(port) + "/api"


def _package_is_writable() -> bool:
    found = importlib.util.find_spec("prefect")
    if found is None or found.origin is None:
        return False
    return os.access(Path(found.origin).parent / "server", os.W_OK)
