"""What a Prefect server's own log says of its services, with the log of the library that runs them switched on."""

import re
from collections import Counter
from pathlib import Path

import prefect
import yaml

from infra.local.prefect_server import PrefectServer

_SCHEDULED = re.compile(r"Scheduling perpetual service: (\w+)")
_TURN = re.compile(r"INFO +\| docket\S* - ↫ \[[^\]]*\] (\w+)\(")
_FAILED_TURN = re.compile(r"ERROR +\| docket\S* - ↩ \[[^\]]*\] (\w+)\(")


class TalkativeServer(PrefectServer):
    """The embedded server, which also logs which periodic services it has, and the end of each of their turns."""

    def environment(self, port: int) -> dict[str, str]:
        shipped = Path(prefect.__file__).parent / "logging" / "logging.yml"
        config = yaml.safe_load(shipped.read_text())
        for name in ("docket", "prefect.server.services.perpetual_services"):
            config["loggers"][name] = {"level": "INFO", "handlers": ["console"], "propagate": False}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "logging.yml"
        path.write_text(yaml.safe_dump(config))
        return {**super().environment(port), "PREFECT_LOGGING_SETTINGS_PATH": str(path)}


def periodic_services(log: str) -> set[str]:
    """The services that the server said it runs again and again."""
    return set(_SCHEDULED.findall(log))


def turns_without_error(log: str) -> Counter[str]:
    """How many turns of each service ended well."""
    turns = Counter(_TURN.findall(log))
    turns.subtract(_FAILED_TURN.findall(log))
    return turns


def troubles(log: str) -> list[str]:
    """Lines that begin a traceback or tell of an error."""
    return [
        line for line in log.splitlines() if line.startswith("Traceback") or re.search(r"\b(ERROR|CRITICAL) +\|", line)
    ]
