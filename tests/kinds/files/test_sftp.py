"""Files of a real SFTP server: OpenSSH's."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.access.addresses import SourceAddress
from flows.kinds.files import Archive, Delete, Files, Leave, Settled
from flows.kinds.files.filesystem import FileSystem
from flows.kinds.files.kind import FileDrops
from flows.values.errors import ConfigurationError, SourceError
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.files.loading import LINES, Drop
from tests.kinds.loading import at
from tests.sessions import take_over_sessions

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
pytest.importorskip("paramiko", reason="the extra `sftp` is not installed")
pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed: package openssh-server of Debian")


def _new_key(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server's port, and the home of a user whom it lets in and who knows it."""
    folder = tmp_path_factory.mktemp("sshd")
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    _new_key(folder / "host_key")
    _new_key(home / ".ssh" / "id_ed25519")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)  # what it needs to separate privileges
    options = {
        "Port": str(port),
        "ListenAddress": "127.0.0.1",
        "HostKey": str(folder / "host_key"),
        "AuthorizedKeysFile": str(home / ".ssh" / "id_ed25519.pub"),
        "StrictModes": "no",
        "PidFile": "none",
        "PermitRootLogin": "yes",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    kind, key, *_ = (folder / "host_key.pub").read_text().split()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port, home
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def url(server: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty folder on the server, which is `drop` of this machine."""
    port, home = server
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "drop").mkdir(exist_ok=True)
    return f"sftp://127.0.0.1:{port}{tmp_path / 'drop'}"


async def load_from(warehouse: TestDatabase, url: str, **options: Any) -> Any:
    source = Files("drop", connection="drop", tables=[LINES], **{"ready": Settled("0 s"), **options})
    take_over_sessions()
    return await load_table(at(warehouse, "loader"), SourceAddress(url), source, LINES)


async def test_many_files_of_a_server_are_read_ahead(drop: Drop, url: str) -> None:
    """By several threads on one connection, which would wait for each other's answers for ever."""
    for number in range(30):
        drop.put(f"in/{number:02}.csv", f"x;y\n{number};same size\n")
    await load_from(drop.warehouse, url)
    assert len({file for file, _ in drop.raw("_file, x")}) == 30


async def test_files_of_a_server_are_loaded_archived_and_deleted(drop: Drop, url: str) -> None:
    drop.put("in/a.csv", "x;y\n1;one\n")
    await load_from(drop.warehouse, url, acknowledge=Archive("done"))
    assert drop.raw("x, y, _file") == [("1", "one", "in/a.csv")]
    left = [str(file.relative_to(drop.root)) for file in drop.root.rglob("*") if file.is_file()]
    assert left == ["done/in/a.csv"]
    drop.put("in/a.csv", "x;y\n2;another\n")
    await load_from(drop.warehouse, url, acknowledge=Delete())
    assert drop.raw("x, y") == [("2", "another")]
    # The archive is a folder like any other now, and its file was loaded before.
    assert [file for file in drop.root.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("to", [None, "done/a.csv"])
def test_a_file_that_is_overwritten_during_its_release_stays(
    drop: Drop, url: str, monkeypatch: pytest.MonkeyPatch, to: str | None
) -> None:
    """At the moment between the look and the move. A place that only looks before deletes what nobody has read."""
    drop.put("a.csv", "read")
    place = FileSystem(url, "drop", {})
    (found,) = place.beside("").values()
    move = type(place._fs).mv

    def overwritten_before(files: Any, source: str, target: str) -> None:
        if source.endswith("/a.csv"):
            drop.put("a.csv", "overwritten")
        move(files, source, target)

    monkeypatch.setattr(type(place._fs), "mv", overwritten_before)
    assert not place.release("a.csv", found.signature, to)
    assert (drop.root / "a.csv").read_text() == "overwritten"
    assert [file.name for file in drop.root.rglob("*") if file.is_file()] == ["a.csv"]


def test_a_server_that_is_not_known_gets_nothing(drop: Drop, url: str, server: tuple[int, Path]) -> None:
    known = server[1] / ".ssh" / "known_hosts"
    before = known.read_text()
    known.write_text(before.replace("[127.0.0.1]", "[127.0.0.2]"))
    try:
        with pytest.raises(SourceError, match="known_hosts"):
            FileSystem(url, "drop", {})
    finally:
        known.write_text(before)
    assert FileSystem(url, "drop", {}).beside("") == {}


def test_where_files_can_only_be_copied_and_deleted_they_are_left() -> None:
    for acknowledge in (Archive("done"), Delete()):
        source = Files("drop", connection="drop", tables=[LINES], acknowledge=acknowledge)
        with pytest.raises(ConfigurationError, match="would be lost unread"):
            FileDrops().open(source, SourceAddress("memory://bucket/in"), "drop")
    FileDrops().open(
        Files("drop", connection="drop", tables=[LINES], acknowledge=Leave()),
        SourceAddress("memory://bucket/in"),
        "drop",
    )
