"""Homes for stacks of the tests' own, stopped whatever happens."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from infra.local.home import Home
from infra.local.stack import down
from tests.conftest import fastest_folder

#: Test machines may be small, and these stacks hold next to nothing.
LITTLE = 64 * 1024**2


#: Behind the real guard and on the socket that was handed over, an application that boots in no time.
LIGHT_SERVER = """
import os, sys
from infra.local import serve
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"true"})
secret, folder = os.environ["PREFECT_SERVER_API_AUTH_STRING"], os.environ["PREFECT_HOME"]
serve.serve(app, serve.listener(int(sys.argv[1])), secret, folder, lifespan="off")
"""


def light_command(fd: int) -> list[str]:
    """What runs in Prefect's place where only the stack around it matters: Prefect takes ten seconds of a core."""
    return [sys.executable, "-c", LIGHT_SERVER, str(fd)]


def open_to_others(home: Home) -> list[str]:
    """What the modes in a home let others do; the account of PostgreSQL may pass through, by an access list."""
    found = []
    for path in (home.root, *home.root.rglob("*")):
        mode = path.lstat().st_mode
        named = stat.S_ISDIR(mode) and "system.posix_acl_access" in os.listxattr(path)
        if not stat.S_ISLNK(mode) and mode & (0o067 if named else 0o077):
            found.append(f"{stat.filemode(mode)} {path.relative_to(home.root)}")
    return found


@pytest.fixture
def light_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The light server in Prefect's place, on any free port unless MEDALLION_PREFECT_PORT says which."""
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.command", lambda self, fd: light_command(fd))
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.default_port", None)


@pytest.fixture
def new_home() -> Iterator[Callable[[], Home]]:
    """Makes empty homes. Directly below a folder for temporary files: PostgreSQL's account must pass through."""
    roots: list[Path] = []

    def make() -> Home:
        roots.append(Path(mkdtemp(prefix="mds-", dir=fastest_folder())))
        roots[-1].chmod(0o711)
        return Home(roots[-1] / ".medallion")

    umask = os.umask(0o022)  # commands close it for the rest of their process, which is ours here
    yield make
    os.umask(umask)
    for root in roots:
        root.chmod(0o711)
    homes = [Home(home) for root in roots for home in root.iterdir()]
    with ThreadPoolExecutor(max(1, len(homes))) as pool:  # each waits for its servers to end
        list(pool.map(lambda home: down(home=home), homes))
    for root in roots:
        rmtree(root, ignore_errors=True)


@pytest.fixture
def home(new_home: Callable[[], Home]) -> Home:
    """An empty home."""
    return new_home()
