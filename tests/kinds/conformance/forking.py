"""A load in a process that may die, forked from one that has imported everything: 10 ms instead of a second of imports.

    done = run("tests.kinds.postgres.one_load", ["baskets"], {"MEDALLION_FAILPOINT": "after_copy"})
    assert done.returncode == -signal.SIGKILL, done.stderr

`python -m tests.kinds.conformance.forking` is the process that forks. It takes a job a line, answers it with a line,
has neither threads nor an event loop, and ends with its input: a test run that dies leaves nothing behind.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

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
)
#: Imported before the first job that runs dbt: 3 s of a core, and most of a run's workers never run it.
OF_DBT = ("tests.dbt_project.one_dbt", "tests.security.one_build")


@cache
def _forker() -> subprocess.Popen[str]:
    forker = subprocess.Popen(
        [sys.executable, "-m", "tests.kinds.conformance.forking"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert forker.stdin is not None
    atexit.register(forker.stdin.close)
    return forker


def run(
    module: str, arguments: list[str], variables: Mapping[str, str], seconds: int = SECONDS
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` with the variables; waits for its end, a minute at most unless more is given."""
    forker = _forker()
    assert forker.stdin is not None
    assert forker.stdout is not None
    environment = {**os.environ, **variables}
    job = {"module": module, "arguments": arguments, "environment": environment, "seconds": seconds}
    forker.stdin.write(json.dumps(job) + "\n")
    forker.stdin.flush()
    answer = json.loads(forker.stdout.readline())
    return subprocess.CompletedProcess([module, *arguments], answer["returncode"], answer["stdout"], answer["stderr"])


def serve() -> None:
    """Take jobs until the input ends."""
    for name in IMPORTED:
        with contextlib.suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(name)
    gc.freeze()  # what was imported stays: neither this process nor what it forks need look for garbage in it
    for line in sys.stdin:
        job = json.loads(line)
        if _runs_dbt(job):
            _import_dbt()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            pid = os.fork()
            if pid == 0:
                _become(job, output.fileno(), errors.fileno())
            _, status = os.waitpid(pid, 0)
            answer = {"returncode": os.waitstatus_to_exitcode(status), "stdout": _told(output), "stderr": _told(errors)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


@cache
def _import_dbt() -> None:
    for name in OF_DBT:
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
    serve()
