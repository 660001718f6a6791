"""The log on its way to the archive: receivers die, nobody archives for a while, the server loses its patience."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from infra.backup import archive, archiver, server
from infra.backup.archive import Stretch
from infra.backup.aside import clear
from infra.backup.errors import LogGap
from infra.local.postmaster import PidFile
from infra.local.process import born
from tests.eventually import eventually
from tests.infra.backup.conftest import Backed
from tests.kinds.conformance.forking import ROOT

pytestmark = pytest.mark.xdist_group("backup")


def stretch(backed: Backed) -> Stretch:
    """The log from the newest backup on."""
    return archive.stretch(backed.catalog, backed.catalog.backups()[-1], archive.histories(backed.catalog, backed.keys))


def write(backed: Backed, segments: int) -> None:
    """Fill segments of log."""
    for _ in range(segments):
        backed.run("select pg_logical_emit_message(true, 'test', 'x')")
        backed.run("select pg_switch_wal()")


def slot(backed: Backed) -> tuple[bool, int | None]:
    with psycopg.connect(backed.warehouse.url("admin")) as session:
        row = session.execute("select active, active_pid from pg_replication_slots").fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.fixture(scope="module", autouse=True)
def _backup(backed: Backed) -> None:
    backed.back_up()


def test_a_receiver_that_lost_its_connection_is_started_again_without_a_gap(backed: Backed) -> None:
    before = stretch(backed).whole_until
    with backed.archived():
        write(backed, 1)
        while not slot(backed)[0]:
            time.sleep(0.05)
        backed.run(f"select pg_terminate_backend({slot(backed)[1]})")
        write(backed, 2)

    found = stretch(backed)
    assert found.missing == []
    assert found.whole_until - before >= 3 * found.segment_bytes


def test_what_was_written_while_nobody_archived_is_fetched_afterwards(backed: Backed) -> None:
    before = stretch(backed).whole_until
    write(backed, 3)
    assert stretch(backed).whole_until == before

    with backed.archived():
        pass

    found = stretch(backed)
    assert found.missing == []
    assert found.whole_until - before >= 3 * found.segment_bytes


def test_an_archiver_that_is_started_during_a_backup_takes_over_when_it_ends(backed: Backed) -> None:
    """A backup holds the spool where nobody archives. Ending then would leave the stack without an archiver."""
    command = [sys.executable, "-u", "-m", "flows.cli", "backup", "archive"]
    with archiver.hold(archiver.spool_folder()) as ours:
        assert ours
        started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert started.stdout is not None
        assert "another process uses" in started.stdout.readline()
    try:
        assert any("archiving the WAL of cluster" in line for line in iter(started.stdout.readline, ""))
    finally:
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0


def test_log_that_the_server_gave_up_is_a_gap_until_the_next_backup(backed: Backed) -> None:
    write(backed, 12)  # the cluster of these tests keeps eight
    backed.run("checkpoint")
    with server.connect(server.address()) as session:
        given_up = server.slot(session)
        assert given_up is not None
        assert given_up.lost

    with backed.archived():
        write(backed, 1)

    found = stretch(backed)
    assert found.missing != []
    with pytest.raises(LogGap, match="WAL segments are missing"):
        archive.refuse_gap(found, "here")
    backed.back_up()
    assert stretch(backed).missing == []


def test_a_segment_that_the_server_no_longer_has_is_a_gap_and_not_the_end(backed: Backed) -> None:
    """Its slot may stand elsewhere, so that no slot is lost: the receiver asked for the segment for ever."""
    with backed.archived():
        write(backed, 1)
    for partial in archiver.spool_folder().glob("*.partial"):
        partial.unlink()
    (archiver.spool_folder() / "000000010000000000000001.partial").touch()  # where the receiver would go on

    with backed.archived():
        write(backed, 1)

    backed.back_up()
    assert stretch(backed).missing == []


_RECOVER_AND_WAIT = """
import sys, time
from pathlib import Path
from infra.backup.aside import aside
from infra.backup.catalog import open_catalog
from infra.backup.key import keys
from infra.backup.recover import Recovery, recovered
from infra.backup.store import open_store
from infra.local.account import account_for
within = Path(sys.argv[1])
with aside(within, account_for(within)) as folder:
    with recovered(Recovery(open_catalog(open_store()), keys()), folder, account=account_for(folder)):
        print(folder, flush=True)
        time.sleep(600)
"""


def test_what_a_killed_recovery_left_is_stopped_and_cleared_away_by_the_next(backed: Backed) -> None:
    within = backed.root / "scratch"
    within.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _RECOVER_AND_WAIT, str(within)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    left = PidFile(folder / "data").running()
    assert left is not None
    clear(within)
    assert PidFile(folder / "data").running() == left, "one that still works was cleared away"
    process.send_signal(signal.SIGKILL)
    process.wait()

    with backed.recovered():
        assert not folder.exists()
        # A server deletes its pid file before it ends, and one without a parent may stay in the process table.
        eventually(lambda: born(left.pid) is None)
