"""Files of an FTP server."""

import threading
from collections.abc import Iterator

import pytest
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

from flows.access.addresses import SourceAddress
from flows.kinds.files import Archive, Files, Settled
from flows.kinds.files.filesystem import FileSystem
from flows.verbs.load import load_table
from tests.kinds.files.loading import LINES, Drop
from tests.kinds.loading import at
from tests.sessions import take_over_sessions


@pytest.fixture
def url(drop: Drop) -> Iterator[str]:
    """The address of the folder on a server that asks for a password."""
    users = DummyAuthorizer()
    users.add_user("ada", "s3cret", str(drop.root), perm="elradfmw")
    handler = type("Handler", (FTPHandler,), {"authorizer": users})
    server = ThreadedFTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"handle_exit": False})
    thread.start()
    yield f"ftp://127.0.0.1:{server.address[1]}"
    server.close_all()
    thread.join(10)


async def test_files_of_a_server_are_loaded_and_archived(drop: Drop, url: str) -> None:
    for number in range(8):
        drop.put(f"in/{number}.csv", f"x;y\n{number};same size\n")
    source = Files("drop", connection="drop", tables=[LINES], ready=Settled("0 s"), acknowledge=Archive("done"))
    take_over_sessions()
    address = SourceAddress(url, user="ada", key="s3cret")
    result = await load_table(at(drop.warehouse, "loader"), address, source, LINES)
    assert (result.counts.rows_inserted, result.counts.reconciliation) == (8, "match")
    left = sorted(str(file.relative_to(drop.root)) for file in drop.root.rglob("*") if file.is_file())
    assert left == [f"done/in/{number}.csv" for number in range(8)]


def test_a_server_tells_when_a_file_was_written(drop: Drop, url: str) -> None:
    """Otherwise no file of it would ever be settled."""
    drop.put("a.csv", "x\n1\n")
    found = FileSystem(url, "drop", {"username": "ada", "password": "s3cret"}).look("a.csv")
    assert found is not None
    assert found.quiet is not None
    assert 0 <= found.quiet < 60
