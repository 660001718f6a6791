"""`python -m deployments.health`: whether this container's main process is alive. Exit code 0 or 1.

One image serves as Prefect server, its services, worker and flow run, so the check depends on the first process. A
server is queried for its health, a worker started `--with-healthcheck` for its polling. Services have no endpoint, but
their event loop wakes several times per second: one that does not has hung. A watch marks the end of each round in a
file. Other processes are alive while they run.
"""

import os
import re
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 5
#: A round of the watch in which everything hangs takes two minutes.
ROUND_WITHIN_SECONDS = 240
_AWAKENED = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)


def address(command: str, environment: Mapping[str, str]) -> str | None:
    """Where to ask, from the words of a command and the ports in the environment; None where there is nobody to ask."""
    if "prefect server start" in command:
        port, path = environment.get("PREFECT_SERVER_API_PORT", "4200"), "/api/health"
    elif "prefect worker start" in command:
        port, path = environment.get("PREFECT_WORKER_WEBSERVER_PORT", "8080"), "/health"
    else:
        return None
    return f"http://127.0.0.1:{port}{path}"


def awakens(process: Path) -> bool:
    """Whether the main thread of a process goes to sleep and wakes twice within five seconds."""
    before = _slept(process)
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends:
        time.sleep(0.1)
        if _slept(process) >= before + 2:  # once may be the moment at which it came to a halt
            return True
    return False


def watches(environment: Mapping[str, str]) -> bool:
    """Whether the watch has ended a round lately."""
    mark = Path(environment.get("MEDALLION_HOME", "/var/lib/medallion"), "watch.alive")
    with suppress(FileNotFoundError):
        return time.time() - mark.stat().st_mtime < ROUND_WITHIN_SECONDS
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at the process with the id that is given, or at what the container's init process started."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        process = Path("/proc", given[0] if given else _started_by_init())
        command = _words(process)
        asked = address(command, os.environ)
        if asked is not None:
            with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS):  # noqa: S310 # nosec B310 - loopback
                return 0
        if "medallion watch" in command:
            return 0 if watches(os.environ) else 1
        alive = "prefect server services" not in command or awakens(process)
    except OSError as problem:
        sys.stderr.write(f"{type(problem).__name__}: {problem}\n")
        return 1
    return 0 if alive else 1


def _started_by_init() -> str:
    children = Path("/proc/1/task/1/children").read_text().split()
    # Without an init process the program itself is the first, and has children of its own.
    return children[0] if children and "prefect" not in _words(Path("/proc/1")).partition("--")[0] else "1"


def _slept(process: Path) -> int:
    return int(_AWAKENED.findall((process / "status").read_text())[0])


def _words(process: Path) -> str:
    """`python prefect server start`: the command line without folders, and without `-m`."""
    words = (process / "cmdline").read_text().rstrip("\0").split("\0")
    return " ".join(Path(word).name for word in words if word != "-m")


if __name__ == "__main__":
    sys.exit(main())
