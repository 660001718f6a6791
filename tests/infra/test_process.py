"""Detached processes: found again, and never mistaken."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import process

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[process.Running]:
    running = process.spawn(
        SLEEP, record=tmp_path / "record", port=4242, env=os.environ, log=tmp_path / "log", cwd=tmp_path
    )
    yield running
    process.stop(running.pid, process.born(running.pid))


def test_a_process_is_found_by_its_record(sleeper: process.Running, tmp_path: Path) -> None:
    assert process.find(tmp_path / "record") == sleeper
    assert sleeper.port == 4242


def test_a_pid_that_is_anothers_now_is_not_found(sleeper: process.Running, tmp_path: Path) -> None:
    """The record of a process long gone, whose pid the system gave to somebody else: it must not be stopped."""
    port, seen, *folder = (tmp_path / "record").read_text().splitlines()
    head, name, rest = seen.rpartition(")")
    fields = rest.split()
    fields[19] = str(int(fields[19]) - 1)  # the same pid, born a hundredth of a second earlier
    (tmp_path / "record").write_text("\n".join([port, f"{head}{name} {' '.join(fields)}", *folder]) + "\n")
    assert process.find(tmp_path / "record") is None
    assert process.stop(sleeper.pid, "another birth") is False
    assert process.born(sleeper.pid) is not None


@pytest.mark.parametrize("torn", ["", "42", "42\n", "42\nnonsense\n", "\x00\n\x00"])
def test_a_torn_record_counts_as_none(tmp_path: Path, torn: str) -> None:
    (tmp_path / "record").write_text(torn)
    assert process.find(tmp_path / "record") is None


def test_a_zombie_counts_as_dead() -> None:
    """Where no init process collects orphans, as in many containers, a killed process stays in the table."""
    child = subprocess.Popen(SLEEP)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.born(child.pid) is None
    child.wait()


def test_a_process_outlives_a_starter_that_is_killed(tmp_path: Path) -> None:
    record = tmp_path / "record"
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time; from pathlib import Path; from infra.local import process\n"
            f"process.spawn({SLEEP!r}, record=Path({str(record)!r}), port=1, env=os.environ,"
            f" log=Path({str(tmp_path / 'log')!r}), cwd=Path({str(tmp_path)!r}))\n"
            "time.sleep(60)",
        ],
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while process.find(record) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    found = process.find(record)
    assert found is not None
    assert process.stop(found.pid, process.born(found.pid))
    assert process.find(record) is None


def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    script = f"import subprocess, time; p = subprocess.Popen({SLEEP!r}); print(p.pid, flush=True); time.sleep(60)"
    running = process.spawn(
        [sys.executable, "-S", "-c", script],
        record=tmp_path / "record", port=1, env=os.environ, log=tmp_path / "log", cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not (tmp_path / "log").read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.01)
    grandchild = int((tmp_path / "log").read_text())
    process.stop(running.pid, process.born(running.pid))
    deadline = time.monotonic() + 5
    while process.born(grandchild) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.born(grandchild) is None
