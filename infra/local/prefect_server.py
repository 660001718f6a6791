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

from infra.local import ports
from infra.local.service import Service, address, without

#: How long runs, their logs and artifacts are kept: an hourly pipeline adds 20 MB a day. What was loaded and built is
#: in `ops` for longer.
RUN_DAYS = 14
#: The SQLite database of a server that is given no other, in its home.
SQLITE = "prefect.db"


@dataclass(frozen=True)
class PrefectServer(Service):
    """A server whose home is `folder`. Its port: `MEDALLION_PREFECT_PORT`, else 4200, else a free one.

    `database_url` is for SQLAlchemy; without it the database is a SQLite file in the home.
    """

    database_url: str | None = field(default=None, repr=False)

    name: ClassVar[str] = "Prefect server"
    port_variable: ClassVar[str] = "MEDALLION_PREFECT_PORT"
    default_port: ClassVar[int | None] = 4200
    health_path: ClassVar[str] = "/api/health"

    def command(self, port: int) -> Sequence[str]:
        return [sys.executable, "-m", "prefect", "server", "start", "--host", ports.HOST, "--port", str(port)]

    def environment(self, port: int) -> Mapping[str, str]:
        settings = {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database_url
            or f"sqlite+aiosqlite:///{self.folder}/{SQLITE}",
            "PREFECT_API_URL": api_url(port),
            # The pages ask the server where its API is, and are told port 4200 without this.
            "PREFECT_UI_API_URL": api_url(port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            # By default only events are deleted, and runs, their logs and artifacts are kept for ever.
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_DAYS * 86_400),
            # Without it an unchanged run stores 611 more events that nobody reads: 3.7 of 4.5 MB.
            "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "infra.events.memory",
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


def api_url(port: int) -> str:
    """Where the API of a server on `port` is."""
    return address(port) + "/api"


def _package_is_writable() -> bool:
    found = importlib.util.find_spec("prefect")
    if found is None or found.origin is None:
        return False
    return os.access(Path(found.origin).parent / "server", os.W_OK)
