"""Several stacks on one machine: whoever answers on a recorded port is ours, or nothing is sent there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psycopg
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.access import addresses
from flows.cli.terminal import prepare
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from infra.local import ports, process, proof
from infra.local.errors import FolderUnusable, NotOurs, NotUp
from infra.local.home import Home
from infra.local.prefect_server import PrefectServer
from infra.local.stack import Stack, down, status, up
from tests.conftest import ROOT
from tests.infra.conftest import LIGHT_SERVER, LITTLE

#: `up` in a process of its own, as a person runs it; all prefer one port, as all clones prefer 4200.
UP = f"""
import sys
from pathlib import Path
from infra.local.home import Home
from infra.local.prefect_server import PrefectServer
from infra.local.stack import up
PrefectServer.default_port = int(sys.argv[2])
if sys.argv[3] == "light":
    PrefectServer.command = lambda self, fd: [sys.executable, "-c", {LIGHT_SERVER!r}, str(fd)]
sys.stdin.readline()
home = Home(Path(sys.argv[1]))
up(wait=False, home=home, min_free_bytes={LITTLE}).wait_for_prefect(home, timeout=550)
"""


def ups_at_once(homes: Sequence[Home], server: str) -> list[Stack]:
    preferred = ports.any_free()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", UP, str(home.root), str(preferred), server],
            cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for home in homes
    ]  # fmt: skip
    with ThreadPoolExecutor(len(homes)) as pool:
        ended = list(pool.map(lambda child: child.communicate("go\n", timeout=600)[1], started))
    assert [child.returncode for child in started] == [0] * len(homes), "\n".join(ended)
    return [Stack.load(home) for home in homes]


@pytest.fixture
def in_force(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Home], None]]:
    """Makes a home the one that commands in this process are about.

    Prefect in this process keeps to the run's server, and reads no variable again: that one answers a command's last
    question, whether the server serves it. Without it these tests would depend on which others ran before.
    """
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, "")  # so that both are put back, whatever a command sets
        monkeypatch.delenv(name)

    def choose(home: Home) -> None:
        monkeypatch.setenv("MEDALLION_HOME", str(home.root))
        settings.cache_clear()

    yield choose
    settings.cache_clear()


def test_ups_at_once_get_a_server_each(new_home: Callable[[], Home]) -> None:
    """One of them gets the port that all prefer; the others take another, and none believes in a neighbour's."""
    homes = [new_home() for _ in range(3)]
    stacks = ups_at_once(homes, "light")
    assert len({stack.prefect.api_url for stack in stacks}) == len({stack.postgres.port for stack in stacks}) == 3
    for home, stack in zip(homes, stacks, strict=True):
        assert [service.state for service in status(home=home)] == ["running", "running", "stopped"]
        # Each proves itself to its own home, and to none of the others.
        for other in stacks:
            answer = proof.ask(stack.prefect.ui_url, other.prefect.auth_string, home.prefect)
            assert answer == ("ours" if other is stack else "stack")


@pytest.mark.long
def test_six_homes_at_once_see_their_own_runs_and_blocks_only(new_home: Callable[[], Home]) -> None:
    """The same with Prefect itself: what one home writes, no other finds."""
    homes = [new_home() for _ in range(6)]
    stacks = ups_at_once(homes, "prefect")
    assert len({stack.prefect.api_url for stack in stacks}) == 6
    command = [sys.executable, "-m", "flows.cli"]
    for home in homes:
        made = subprocess.run(
            [*command, "register"], env=os.environ | {"MEDALLION_HOME": str(home.root)}, cwd=ROOT, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr
    for home, stack in zip(homes, stacks, strict=True):
        user, _, password = stack.prefect.auth_string.partition(":")
        client = httpx.Client(base_url=stack.prefect.api_url, auth=(user, password), timeout=60, trust_env=False)
        flow = client.post("/flows/", json={"name": f"of-{home.root.parent.name}"}).raise_for_status().json()
        client.post("/flow_runs/", json={"flow_id": flow["id"], "name": home.root.parent.name}).raise_for_status()
    for home, stack in zip(homes, stacks, strict=True):
        user, _, password = stack.prefect.auth_string.partition(":")
        client = httpx.Client(base_url=stack.prefect.api_url, auth=(user, password), timeout=60, trust_env=False)
        runs = client.post("/flow_runs/filter", json={}).raise_for_status().json()
        assert [run["name"] for run in runs] == [home.root.parent.name]
        blocks = client.post("/block_documents/filter", json={"include_secrets": True}).raise_for_status().json()
        found = {block["name"]: json.dumps(block["data"]) for block in blocks}
        assert f":{stack.postgres.port}/warehouse" in found["warehouse"]
        assert not [other for other in stacks if other is not stack and other.urls["warehouse_loader"] in str(found)]


@dataclass
class Stranger:
    """A server that answers 200 to everything, and remembers what it was sent."""

    port: int
    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def stranger_on(port: int) -> Iterator[Stranger]:
    found = Stranger(port)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.heard.append((self.path, dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        found.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()


def kill(home: Home, stack: Stack) -> None:
    os.killpg(stack.prefect.pid, signal.SIGKILL)
    server = PrefectServer.of(home)
    while server.running() is not None:
        pass


def test_a_stranger_on_the_recorded_port_is_sent_nothing(
    home: Home, light_prefect: None, in_force: Callable[[Home], None]
) -> None:
    stack = up(home=home, min_free_bytes=LITTLE)
    in_force(home)
    prepare()
    assert os.environ["PREFECT_API_AUTH_STRING"] == stack.prefect.auth_string
    del os.environ["PREFECT_API_AUTH_STRING"], os.environ["PREFECT_API_URL"]
    kill(home, stack)
    with pytest.raises(NotUp, match="medallion up"):
        prepare()
    with stranger_on(int(stack.prefect.ui_url.rpartition(":")[2])) as stranger:
        # The control: by address alone the stranger would do, since it answers everything with 200.
        assert httpx.get(f"{stack.prefect.api_url}/health", trust_env=False).json() is True
        stranger.heard.clear()
        with pytest.raises(NotOurs, match="does not belong to this stack") as refusal:
            prepare()
        assert "medallion up" in refusal.value.fix
        assert "PREFECT_API_AUTH_STRING" not in os.environ
        assert [path.partition("=")[0] for path, _ in stranger.heard] == [f"{proof.PATH}?challenge"]
        assert stack.prefect.auth_string not in str(stranger.heard)
        assert status(home=home)[1].state == "stopped"
        # `up` leaves it alone and starts ours elsewhere.
        again = up(home=home, min_free_bytes=LITTLE)
        assert again.prefect.api_url != stack.prefect.api_url
        prepare()
        assert os.environ["PREFECT_API_URL"] == again.prefect.api_url


def test_a_server_of_ours_that_proves_nothing_is_replaced_by_up(
    home: Home, light_prefect: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the one that an earlier version of this code left running: it has no auth string and answers every page."""
    before = "import http.server, socket, sys; s = http.server.HTTPServer(('', 0), http.server.SimpleHTTPRequestHandler"
    before += ", False); s.socket = socket.socket(fileno=int(sys.argv[1])); s.serve_forever()"
    monkeypatch.setattr(
        "infra.local.prefect_server.PrefectServer.command", lambda self, fd: [sys.executable, "-c", before, str(fd)]
    )
    old = up(wait=False, home=home, min_free_bytes=LITTLE)
    while proof.ask(old.prefect.ui_url, "", home.prefect) == "silent":
        pass
    monkeypatch.undo()
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.default_port", None)
    from tests.infra.conftest import light_command

    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.command", lambda self, fd: light_command(fd))
    new = up(home=home, min_free_bytes=LITTLE)
    assert new.prefect.pid != old.prefect.pid
    assert process.born(old.prefect.pid) is None
    assert new.postgres == old.postgres


def test_a_copy_of_a_home_leaves_the_originals_servers_alone(
    home: Home, light_prefect: None, in_force: Callable[[Home], None]
) -> None:
    """`cp -r` of a clone, with everything in it: same passwords, same token, same records of pids."""
    original = up(home=home, min_free_bytes=LITTLE)
    copy = Home(home.root.with_name("copy"))
    shutil.copytree(home.root, copy.root)
    if os.geteuid() == 0:
        # copytree keeps modes, not owners.
        for path in (copy.postgres, *copy.postgres.rglob("*")):
            found = (home.postgres / path.relative_to(copy.postgres)).stat()
            os.chown(path, found.st_uid, found.st_gid)
    in_force(copy)
    for ask in (prepare, addresses.warehouse):
        with pytest.raises(ConfigurationError, match="was written for a stack in"):
            ask()
    with pytest.raises(NotUp):
        Stack.load(copy)
    assert [service.state for service in status(home=copy)] == ["stopped", "stopped", "stopped"]
    assert down(home=copy) == []
    its = up(home=copy, min_free_bytes=LITTLE)
    assert its.prefect.pid != original.prefect.pid
    assert its.postgres.pid != original.postgres.pid
    assert its.prefect.auth_string == original.prefect.auth_string  # which therefore proves nothing
    assert proof.ask(original.prefect.ui_url, its.prefect.auth_string, copy.prefect) == "stack"
    assert down(home=copy) == ["Prefect server", "PostgreSQL"]
    assert [service.state for service in status(home=home)] == ["running", "running", "stopped"]


def test_a_home_that_was_moved_while_its_servers_ran_is_refused_until_it_is_back(
    home: Home, light_prefect: None, in_force: Callable[[Home], None]
) -> None:
    """PostgreSQL opens pg_control by its path: a shutdown in the new place panicked, and lost the last commits."""
    before = up(home=home, min_free_bytes=LITTLE)
    with psycopg.connect(before.urls["warehouse_admin"]) as connection:
        connection.execute("create table ops.written (id int)")
    moved = Home(home.root.with_name("moved"))
    home.root.rename(moved.root)
    in_force(moved)
    with pytest.raises(ConfigurationError, match="was written for a stack in"):
        prepare()
    for command in (up, down):
        with pytest.raises(FolderUnusable, match="was moved here from") as refusal:
            command(home=moved)
        assert "move it back" in refusal.value.fix
    assert process.born(before.postgres.pid)
    moved.root.rename(home.root)
    assert "PostgreSQL" in down(home=home)
    home.root.rename(moved.root)
    after = up(home=moved, min_free_bytes=LITTLE)
    prepare()
    with psycopg.connect(after.urls["warehouse_admin"]) as connection:
        assert connection.execute("select count(*) from ops.written").fetchone() == (0,)


def test_a_gone_postgresql_is_not_sent_a_password(
    home: Home, light_prefect: None, in_force: Callable[[Home], None]
) -> None:
    """Its port may be anybody's by now, and a stranger may ask for the password in clear."""
    stack = up(home=home, min_free_bytes=LITTLE)
    in_force(home)
    assert str(stack.postgres.port) in addresses.warehouse().url
    os.kill(stack.postgres.pid, signal.SIGKILL)
    while process.born(stack.postgres.pid):
        pass
    with pytest.raises(ConfigurationError, match="PostgreSQL is not running"):
        addresses.warehouse()


def test_a_server_of_another_stack_in_the_environment_is_refused_and_one_of_a_team_gets_no_auth_string(
    new_home: Callable[[], Home],
    light_prefect: None,
    in_force: Callable[[Home], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`eval "$(medallion env)"` in one clone, then work in another."""
    ours, theirs = new_home(), new_home()
    stack, other = (up(home=home, min_free_bytes=LITTLE) for home in (ours, theirs))
    in_force(ours)
    monkeypatch.setenv("PREFECT_API_URL", other.prefect.api_url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", other.prefect.auth_string)
    with pytest.raises(NotOurs, match="another stack") as refusal:
        prepare()
    assert f"the one in {theirs.root}" in refusal.value.what
    assert "unset PREFECT_API_URL" in refusal.value.fix

    # Our own server by its other name is ours.
    monkeypatch.setenv("PREFECT_API_URL", stack.prefect.api_url.replace("127.0.0.1", "localhost"))
    prepare()
    assert os.environ["PREFECT_API_AUTH_STRING"] == stack.prefect.auth_string

    # What was left in the environment for ours does not go to a team's server; what is meant for that one does.
    with stranger_on(0) as team:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{team.port}/api")
        prepare()
        assert "PREFECT_API_AUTH_STRING" not in os.environ
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "team:its-own")
        prepare()
        assert os.environ["PREFECT_API_AUTH_STRING"] == "team:its-own"


def test_a_project_without_a_stack_is_told_whose_server_refuses_it(
    new_home: Callable[[], Home], in_force: Callable[[Home], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was "the Prefect server refuses us (401)", and the fix a password that this project does not have."""
    refusing = LIGHT_SERVER.replace('"status": 200', '"status": 401')
    command = lambda self, fd: [sys.executable, "-c", refusing, str(fd)]  # noqa: E731
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.command", command)
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.default_port", None)
    ours, theirs = new_home(), new_home()
    other = up(home=theirs, min_free_bytes=LITTLE)
    in_force(ours)
    monkeypatch.setenv("PREFECT_API_URL", other.prefect.api_url)
    with temporary_settings({PREFECT_API_URL: other.prefect.api_url}), pytest.raises(NotOurs) as refusal:
        prepare()
    assert f"another stack, the one in {theirs.root}" in refusal.value.what
    for fix in ("unset PREFECT_API_URL", "medallion up", "medallion env", f"MEDALLION_HOME to {theirs.root}"):
        assert fix in refusal.value.fix
    # A server of one's own that refuses is still told as such.
    with stranger_on(0) as team:
        monkeypatch.setenv("PREFECT_API_URL", url := f"http://127.0.0.1:{team.port}/api")
        with temporary_settings({PREFECT_API_URL: url}), pytest.raises(ConfigurationError, match="not a Prefect API"):
            prepare()


def test_the_listening_socket_is_held_from_the_choice_of_the_port_on() -> None:
    """Between choosing and listening there is no moment in which somebody else could take the port."""
    with ports.listen("a server", "MEDALLION_NO_PORT", None) as listening:
        taken = int(listening.getsockname()[1])
        assert not ports.is_free(taken)
        with ports.listen("another", "MEDALLION_NO_PORT", taken) as second:
            assert int(second.getsockname()[1]) != taken
    # The control: a port that was only found free is anybody's.
    found = ports.any_free()
    with ports.listen("another", "MEDALLION_NO_PORT", None, found):
        assert not ports.is_free(found)


def test_a_path_of_a_home_is_no_secret_and_no_proof(tmp_path: Path) -> None:
    with stranger_on(0) as stranger:
        assert proof.ask(f"http://127.0.0.1:{stranger.port}", "secret", tmp_path) == "other"
        assert proof.ask(f"http://127.0.0.1:{stranger.port}", "", tmp_path) == "other"
