"""Logs of processes that run for weeks: bounded, with no line lost and none written into the void."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.local import logs, process
from infra.local.home import Home
from infra.local.postgres import Cluster
from infra.local.roles import ADMIN
from tests.conftest import ROOT, TEST_SETTINGS
from tests.eventually import eventually

BOUND = 20_000
#: Writes numbered lines without end, as a server in trouble does, and some past Python, as a library that crashes.
WRITER = f"""
import os, sys, time
from infra.local import logs
if sys.argv[1] == "bounded":
    logs.keep_bounded(max_bytes={BOUND}, interval=0.01)
for number in range(3000):
    print(f"line {{number:05}} " + "x" * 40, file=sys.stderr, flush=True)
    if number % 2:
        os.write(1, f"raw  {{number:05}}\\n".encode())
    time.sleep(0.0005)
print("the end", file=sys.stderr, flush=True)
time.sleep(60)
"""


@pytest.fixture
def written(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The log of a process that has written all it has to write, and lives."""
    log = tmp_path / "x.log"
    running = process.spawn(
        [sys.executable, "-c", WRITER, request.param],
        record=tmp_path / "record",
        port=0,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        log=log,
        cwd=tmp_path,
    )
    try:
        eventually(lambda: "the end" in log.read_text())
        yield log
    finally:
        process.stop(running.pid, process.born(running.pid))


def parts(log: Path) -> list[Path]:
    return sorted(log.parent.glob(f"{log.name}*"), reverse=True)


@pytest.mark.parametrize("written", ["bounded"], indirect=True)
def test_a_process_writes_far_beyond_the_bound_and_the_disk_holds_four_files(written: Path) -> None:
    assert [part.name for part in parts(written)] == ["x.log.3", "x.log.2", "x.log.1", "x.log"]
    # It looks every so often, and what it wrote in between is beyond the bound.
    assert sum(part.stat().st_size for part in parts(written)) < 200_000
    lines = "".join(part.read_text() for part in parts(written)).splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line")]
    # No line is missing from the oldest that is kept to the newest, and none is torn.
    assert numbers == list(range(numbers[0], 3000))
    raw = [int(line.split()[1]) for line in lines if line.startswith("raw")]
    assert raw == list(range(raw[0], 3000, 2))
    assert {part.stat().st_mode & 0o777 for part in parts(written)} == {0o600}


@pytest.mark.parametrize("written", ["unbounded"], indirect=True)
def test_without_rotation_the_same_writer_fills_one_file(written: Path) -> None:
    """The control: what the test above bounds is really written."""
    assert [part.name for part in parts(written)] == ["x.log"]
    assert written.stat().st_size > 150_000


def test_postgresql_writes_on_in_a_new_file_and_no_line_is_lost(home: Home) -> None:
    cluster = Cluster(home.postgres, TEST_SETTINGS)
    port = cluster.start(admin_password="pw").port
    try:
        with psycopg.connect(cluster.url(ADMIN, "pw", port, "postgres"), autocommit=True) as session:
            number = rotations = 0
            # The collector opens its new file a moment after it is asked to, however fast we write.
            while rotations < logs.KEPT + 1:
                session.execute(f"do $$ begin raise log 'line % {'x' * 200}', {number}; end $$".encode())
                rotations += cluster.rotate_log(max_bytes=2000)
                number += 1
                assert number < 20_000
            session.execute(f"do $$ begin raise log 'line %', {number}; end $$".encode())
        # The last line may still have gone to the file before: the new one can come later than the line.
        eventually(
            lambda: cluster.log.exists() and any(f"line {number}" in part.read_text() for part in parts(cluster.log))
        )
        numbered = "".join(part.read_text() for part in parts(cluster.log))
        found = [int(line.split("line ")[1].split()[0]) for line in numbered.splitlines() if "LOG:  line" in line]
        assert len(parts(cluster.log)) == logs.KEPT + 1
        assert found == list(range(found[0], number + 1))
        assert {part.stat().st_mode & 0o777 for part in parts(cluster.log)} == {0o600}
    finally:
        cluster.stop()


def test_a_log_that_is_full_when_its_process_starts_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"y" * logs.MAX_BYTES)
    running = process.spawn(
        [sys.executable, "-S", "-c", "print('new')"],
        record=tmp_path / "record", port=0, env=os.environ, log=log, cwd=tmp_path,
    )  # fmt: skip
    eventually(lambda: process.born(running.pid) is None)
    assert (log.read_text(), (tmp_path / "x.log.1").stat().st_size) == ("new\n", logs.MAX_BYTES)


def test_output_that_goes_elsewhere_is_left_alone(tmp_path: Path) -> None:
    """A person who starts a program of ours with the variable set keeps the terminal, and the log its content."""
    log = tmp_path / "x.log"
    log.write_bytes(b"y" * 100)
    script = f"from infra.local import logs; from pathlib import Path; logs.rotate_own_output(Path({str(log)!r}), 10)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)
    assert parts(log) == [log]
