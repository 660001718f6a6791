"""The embedded PostgreSQL: created, found again, recovered, refused with the next move."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from infra.local import process
from infra.local.account import account_for
from infra.local.errors import DiskFull, FolderUnusable, PortTaken, ServiceFailed
from infra.local.home import Home
from infra.local.postgres import Cluster
from infra.local.postmaster import Postmaster
from infra.local.roles import ADMIN
from tests.conftest import TEST_SETTINGS
from tests.eventually import eventually
from tests.nightly import nightly

PASSWORD = secrets.token_urlsafe(12)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another account or mount")


@pytest.fixture
def cluster(home: Home) -> Cluster:
    return Cluster(home.postgres, TEST_SETTINGS)


def answer(cluster: Cluster, postmaster: Postmaster, question: LiteralString) -> str:
    with psycopg.connect(cluster.url(ADMIN, PASSWORD, postmaster.port, "postgres")) as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return str(row[0])


def kill_hard(cluster: Cluster, postmaster: Postmaster) -> None:
    os.kill(postmaster.pid, signal.SIGKILL)
    while process.born(postmaster.pid) is not None:
        time.sleep(0.01)


def test_a_new_cluster_boots_within_two_seconds(cluster: Cluster) -> None:
    begin = time.monotonic()
    postmaster = cluster.start(admin_password=PASSWORD)
    assert time.monotonic() - begin < 2.0 * max(1.0, os.getloadavg()[0])
    assert answer(cluster, postmaster, "show server_version").startswith("18")


def test_it_listens_on_loopback_only_and_wants_a_password(cluster: Cluster) -> None:
    postmaster = cluster.start(admin_password=PASSWORD)
    assert answer(cluster, postmaster, "show listen_addresses") == "127.0.0.1"
    assert answer(cluster, postmaster, "show unix_socket_directories") == ""
    assert answer(cluster, postmaster, "show password_encryption") == "scram-sha-256"
    rules = answer(cluster, postmaster, "select string_agg(distinct auth_method, ',') from pg_hba_file_rules")
    assert rules == "scram-sha-256"


def test_starting_twice_finds_the_first(cluster: Cluster) -> None:
    first = cluster.start(admin_password=PASSWORD)
    assert cluster.start(admin_password="another") == first
    assert answer(cluster, first, "select 1") == "1"


def test_data_and_address_survive_a_stop(cluster: Cluster) -> None:
    first = cluster.start(admin_password=PASSWORD)
    with psycopg.connect(cluster.url(ADMIN, PASSWORD, first.port, "postgres")) as connection:
        connection.execute("create table kept as select 42 as value")
    assert cluster.stop()
    assert not cluster.stop()
    second = cluster.start(admin_password=PASSWORD)
    assert second.port == first.port
    assert answer(cluster, second, "select value from kept") == "42"


def test_a_killed_server_is_recovered(cluster: Cluster) -> None:
    first = cluster.start(admin_password=PASSWORD)
    with psycopg.connect(cluster.url(ADMIN, PASSWORD, first.port, "postgres")) as connection:
        connection.execute("set synchronous_commit to on")
        connection.execute("create table kept as select 42 as value")
    kill_hard(cluster, first)
    assert cluster.running() is None
    second = cluster.start(admin_password=PASSWORD)
    assert answer(cluster, second, "select value from kept") == "42"


def test_a_stale_pid_file_that_names_a_foreign_process_is_recovered(cluster: Cluster) -> None:
    """After a reboot the pid in the file may be anybody's; PostgreSQL alone refuses to start then."""
    first = cluster.start(admin_password=PASSWORD)
    kill_hard(cluster, first)
    pid_file = cluster.data / "postmaster.pid"
    foreign = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        pid_file.write_text("\n".join([str(foreign.pid), *pid_file.read_text().splitlines()[1:]]) + "\n")
        assert cluster.running() is None
        assert not cluster.stop()
        second = cluster.start(admin_password=PASSWORD)
        assert answer(cluster, second, "select 1") == "1"
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


@pytest.mark.parametrize("content", ["garbage\n", *nightly("", "12")])
def test_a_torn_pid_file_is_recovered(cluster: Cluster, content: str) -> None:
    first = cluster.start(admin_password=PASSWORD)
    kill_hard(cluster, first)
    (cluster.data / "postmaster.pid").write_text(content)
    assert answer(cluster, cluster.start(admin_password=PASSWORD), "select 1") == "1"


def test_an_interrupted_creation_leaves_nothing_that_passes_for_a_cluster(cluster: Cluster) -> None:
    leftover = cluster.folder / "data.partial-dead"
    leftover.mkdir(parents=True)
    (leftover / "PG_VERSION").write_text("18\n")
    cluster.start(admin_password=PASSWORD)
    assert not leftover.exists()
    assert [found.name for found in cluster.folder.iterdir() if found.name.startswith("password")] == []


def test_a_configured_port_that_is_taken_is_named(cluster: Cluster) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} .* in use") as refusal:
            cluster.start(admin_password=PASSWORD, port=port)
    assert "MEDALLION_POSTGRES_PORT" in refusal.value.fix
    assert cluster.running() is None


def test_a_port_of_last_time_that_is_taken_now_is_given_up(cluster: Cluster) -> None:
    first = cluster.start(admin_password=PASSWORD)
    cluster.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first.port))
        other.listen()
        second = cluster.start(admin_password=PASSWORD)
    assert second.port != first.port
    assert answer(cluster, second, "select 1") == "1"


def test_a_cluster_of_another_version_is_refused(cluster: Cluster) -> None:
    cluster.start(admin_password=PASSWORD)
    cluster.stop()
    (cluster.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(ServiceFailed, match="created by PostgreSQL 17"):
        cluster.start(admin_password=PASSWORD)


def test_rows_in_errors_stay_out_of_the_log(cluster: Cluster) -> None:
    postmaster = cluster.start(admin_password=PASSWORD)
    with psycopg.connect(cluster.url(ADMIN, PASSWORD, postmaster.port, "postgres"), autocommit=True) as connection:
        connection.execute("create table people (email text primary key)")
        connection.execute("insert into people values ('ada@example.com')")
        with pytest.raises(psycopg.errors.UniqueViolation, match=r"ada@example\.com"):
            connection.execute("insert into people values ('ada@example.com')")
    # The collector writes when it gets to it, so the log is read once all was written.
    cluster.stop()
    eventually(lambda: "database system is shut down" in cluster.log.read_text())
    logged = cluster.log.read_text()
    assert "duplicate key" in logged
    assert "ada@example.com" not in logged


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@as_root
def test_a_disk_that_fills_up_while_the_cluster_is_created_is_told(cluster: Cluster) -> None:
    with small_disk(cluster.folder, 12), pytest.raises(DiskFull, match="disk is full") as refusal:
        cluster.start(admin_password=PASSWORD)
    assert "MEDALLION_HOME" in refusal.value.fix


@as_root
def test_root_passes_through_a_private_folder_without_opening_it_to_everybody(home: Home, cluster: Cluster) -> None:
    """A checkout below /root, which is 0700: its postgres account gets passage, and nobody else does."""
    private = home.root.parent
    private.chmod(0o700)
    postmaster = cluster.start(admin_password=PASSWORD)
    assert answer(cluster, postmaster, "select 1") == "1"
    assert stat.S_IMODE(private.stat().st_mode) & stat.S_IRWXO == 0
    nobody = pwd.getpwnam("nobody")
    looked = subprocess.run(["ls", str(home.root)], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
                            capture_output=True, check=False)  # fmt: skip
    assert looked.returncode != 0


@as_root
def test_root_runs_a_persons_cluster_as_that_person(cluster: Cluster) -> None:
    """`sudo medallion up` in a person's checkout must not take the folder away from them."""
    nobody = pwd.getpwnam("nobody")
    cluster.folder.mkdir(parents=True)
    os.chown(cluster.folder, nobody.pw_uid, nobody.pw_gid)
    postmaster = cluster.start(admin_password=PASSWORD)
    assert Path(f"/proc/{postmaster.pid}").stat().st_uid == nobody.pw_uid
    account = account_for(cluster.folder)
    assert account is not None
    assert account.name == "nobody"


NORMAL_USER = """
import os, sys
from pathlib import Path
import psycopg, encodings.idna, stringprep
from infra.local.postgres import Cluster
from infra.local.roles import ADMIN

os.setgroups([]); os.setgid({gid}); os.setuid({uid})
cluster = Cluster(Path({folder!r}), {settings!r})
first = cluster.start(admin_password={password!r})
with psycopg.connect(cluster.url(ADMIN, {password!r}, first.port, "postgres")) as connection:
    connection.execute("select 1")
assert cluster.start(admin_password="another") == first
os.kill(first.pid, 9)
while cluster.running() is not None: pass
second = cluster.start(admin_password="another")
assert second.pid != first.pid
assert Path(f"/proc/{{second.pid}}").stat().st_uid == os.getuid() == {uid}
assert cluster.stop()
"""


@as_root
def test_a_normal_user_needs_no_privileges(cluster: Cluster) -> None:
    """Without root every test here runs as a normal user anyway; with root, a child becomes one."""
    nobody = pwd.getpwnam("nobody")
    cluster.folder.parent.mkdir(mode=0o755, exist_ok=True)
    cluster.folder.mkdir(mode=0o700)
    os.chown(cluster.folder, nobody.pw_uid, nobody.pw_gid)
    script = NORMAL_USER.format(
        uid=nobody.pw_uid,
        gid=nobody.pw_gid,
        folder=str(cluster.folder),
        settings=dict(TEST_SETTINGS),
        password=PASSWORD,
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_belongs_to_another_account_is_refused(cluster: Cluster) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    cluster.folder.mkdir(parents=True)
    nobody = pwd.getpwnam("nobody")
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom infra.local.postgres import Cluster\n"
        "from infra.local.errors import FolderUnusable\n"
        f"os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})\n"
        "try:\n"
        f"    Cluster(Path({str(cluster.folder)!r})).start(admin_password='x')\n"
        "except FolderUnusable as error:\n"
        "    sys.exit(f'refused: {error}')\n"
    )
    cluster.folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "refused" in done.stderr
    assert "its owner is uid 0" in done.stderr


def test_a_folder_that_is_a_file_is_refused(cluster: Cluster) -> None:
    cluster.folder.parent.mkdir(parents=True)
    cluster.folder.write_text("not a folder")
    with pytest.raises(FolderUnusable):
        cluster.start(admin_password=PASSWORD)
    shutil.rmtree(cluster.folder.parent)
