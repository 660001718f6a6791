"""A load in a process that may die, forked from one that has imported everything: 10 ms instead of a second of imports.

    done = run("tests.kinds.postgres.one_load", ["baskets"], {"MEDALLION_FAILPOINT": "after_copy"})
    assert done.returncode == -signal.SIGKILL, done.stderr

`python -m tests.kinds.conformance.forking FOLDER SOCKET` is the process that forks, one for all workers of a run: its
imports take 5 s of a core, and 5 s more with dbt. It has neither threads nor an event loop. Whoever connects to its
socket sends a job, a line of JSON, and reads the answer once the job has ended. It ends with the run whose folder it is
given.
"""

import contextlib
import gc
import hashlib
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from infra.local import logs, process
from infra.local.home import Home

ROOT = Path(__file__).parents[3]
SECONDS = 60
IMPORTED = (
    "tests.kinds.conformance.one_load",
    "tests.kinds.conformance.kinds",
    # What the extras bring is imported by the first load that needs it, else: 3 s for each.
    "tests.kinds.dlt.conforming",
    "tests.kinds.dlt.one_load",
    "adbc_driver_sqlite.dbapi",
    "pyarrow.csv",
    "tests.kinds.api.one_load",
    "tests.kinds.api.servers.one_load",
    "tests.kinds.databases.one_load",
    "tests.kinds.postgres.one_load",
    "tests.kinds.postgres.chunked",
    "tests.kinds.postgres.killable",
    "tests.verbs.one_replay",
    "tests.privacy.one_erasure",
    "tests.access.one_rotation",
    "prefect.flows",  # commands of `medallion` are forked from here: see tests/flows/forked_door.py
    "flows.cli.app",
    # What commands import when they help, refuse or run: 0.1 to 0.5 s of a core for each.
    "typer.rich_utils",
    "rich.columns",
    "rich.traceback",
    "anyio._backends._asyncio",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.artifacts",
    "prefect.states",
)
#: Imported before the first job that runs dbt: 5 s of a core.
OF_DBT = (
    "tests.dbt_project.one_dbt",
    "tests.security.one_build",
    "metricflow.converters.msi_to_osi",
    "metricflow_semantic_interfaces.transformations.semantic_manifest_transformer",
    "multiprocessing.dummy",
    "prefect_dbt",
    "soda_core.contracts",
    "soda_postgres",
)


#: A test runs a copy of the project, with this run's servers; what is forked for it is of the copy.
NAME = f"forker-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"


@cache
def _begun() -> str:
    """The socket of the run's forker; whoever needs it first starts it."""
    folder = Path(os.environ["MEDALLION_TEST_HOME"])
    address, record = folder / NAME, folder / "run" / NAME  # what has a record there is stopped at the end of the run
    with Home(folder).lock():
        if process.find(record) is None:
            address.unlink(missing_ok=True)
            with _listening(address) as listener:
                command = [sys.executable, "-m", __name__, str(folder), str(listener.fileno())]
                process.spawn(
                    command, record=record, port=0, env=_environment(), log=folder / f"{NAME}.log", cwd=ROOT,
                    listening=listener,
                )  # fmt: skip
    return str(address)


def _environment() -> dict[str, str]:
    """Without what only the test that comes first has set: each job brings its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API_")}


def _listening(address: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    return listener


def run(
    module: str, arguments: list[str], variables: Mapping[str, str], seconds: int = SECONDS
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` with the variables; waits for its end, a minute at most unless more is given."""
    environment = {**os.environ, **variables}
    job = {"module": module, "arguments": arguments, "environment": environment, "seconds": seconds}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds + 120)  # it may import first
        connection.connect(_begun())
        connection.sendall(json.dumps(job).encode() + b"\n")
        with connection.makefile("rb") as answers:
            answer = json.loads(answers.readline())
    return subprocess.CompletedProcess([module, *arguments], answer["returncode"], answer["stdout"], answer["stderr"])


@dataclass(frozen=True)
class _Job:
    """One that runs, and who waits for it."""

    connection: socket.socket
    output: IO[bytes]
    errors: IO[bytes]

    def answer(self, status: int) -> None:
        told = {"stdout": _told(self.output), "stderr": _told(self.errors)}
        answer = json.dumps({"returncode": os.waitstatus_to_exitcode(status), **told}).encode() + b"\n"
        with self.connection, self.output, self.errors, contextlib.suppress(OSError):  # it may wait no longer
            self.connection.sendall(answer)


def serve(folder: Path, listener: socket.socket) -> None:
    """Take jobs until the folder is gone, or the process that made it."""
    os.environ.pop(logs.VARIABLE, None)
    os.umask(0o022)  # as those have who ask
    for name in IMPORTED:
        with contextlib.suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(name)
    gc.freeze()  # what was imported stays: neither this process nor what it forks need look for garbage in it
    ended, end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(ended, selectors.EVENT_READ)
    running: dict[int, _Job] = {}
    while _is_owned(folder):
        for key, _ in waiting.select(timeout=10):
            if key.fileobj is listener:
                _begin(listener.accept()[0], running)
            else:
                os.read(ended, 4096)
        _answer_those_that_ended(running)


def _is_owned(folder: Path) -> bool:
    try:
        pid, born = (folder / "owner").read_text().splitlines()
    except OSError:
        return False
    return process.born(int(pid)) == born


def _begin(connection: socket.socket, running: dict[int, _Job]) -> None:
    connection.settimeout(10)  # who connects sends at once: others wait meanwhile
    with connection.makefile("rb") as lines:
        line = lines.readline()
    if not line.endswith(b"\n"):  # it died
        connection.close()
        return
    job = json.loads(line)
    if _runs_dbt(job):
        _import_dbt()
    connection.settimeout(60)
    output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed with the answer
    pid = os.fork()
    if pid == 0:
        _become(job, output.fileno(), errors.fileno())
    running[pid] = _Job(connection, output, errors)


def _answer_those_that_ended(running: dict[int, _Job]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        if pid in running:
            running.pop(pid).answer(status)


@cache
def _import_dbt() -> None:
    """Before the first job that runs dbt. Those that come meanwhile wait for it."""
    for name in OF_DBT:
        with contextlib.suppress(ModuleNotFoundError):  # dbt's own parts move
            importlib.import_module(name)
    importlib.import_module(OF_DBT[0]).ready()
    gc.freeze()


def _runs_dbt(job: Mapping[str, Any]) -> bool:
    return job["module"] in OF_DBT or bool(
        job["module"] == "tests.flows.forked_door"
        and {"run", "transform", "docs"} & {*job["arguments"][1:2]}
        and "--ingest-only" not in job["arguments"]
    )


def _told(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _become(job: Mapping[str, object], output: int, errors: int) -> None:
    """Never returns: what is forked must not take the next job."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        environment, arguments, seconds = job["environment"], job["arguments"], job["seconds"]
        assert isinstance(seconds, int)
        signal.alarm(seconds)
        assert isinstance(environment, dict)
        assert isinstance(arguments, list)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(job["module"]), *arguments]
        importlib.import_module(str(job["module"])).main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
