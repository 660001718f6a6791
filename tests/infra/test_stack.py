"""The stack as a whole, for real: one Prefect server boots here, since booting takes ten seconds of a core."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from infra.local import ports, process
from infra.local.errors import DiskFull, FolderUnusable, NotUp, PortTaken, StackError
from infra.local.home import Home
from infra.local.stack import Stack, down, status, up
from tests.eventually import eventually
from tests.flows.front_door import medallion
from tests.infra.conftest import LITTLE, open_to_others
from tests.nightly import nightly

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _away_from_the_default_port(monkeypatch: pytest.MonkeyPatch) -> None:
    # 4200 may be the tester's own server.
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.default_port", None)


def alive(pid: int) -> bool:
    return process.born(pid) is not None


def fetch(url: str) -> bytes:
    return httpx.get(url, follow_redirects=True, trust_env=False).raise_for_status().content


def test_the_life_of_a_stack(home: Home) -> None:
    """One story, because each chapter needs the running servers of the one before."""
    told: list[str] = []
    os.umask(0)  # the least that a person may have set; the fixture of the home puts it back
    stack = up(wait=False, on_step=told.append, with_commerce=True, home=home, min_free_bytes=LITTLE)

    # PostgreSQL is ready before Prefect is: a load can begin.
    for name, url in stack.urls.items():
        with psycopg.connect(url) as connection:
            role = connection.execute("select current_user || '@' || current_database()").fetchone()
            assert role is not None
            assert role[0].endswith(name.split("_")[0])
    assert len(told) == 4

    # Everything that holds a password is for its owner's eyes only, and no repr shows one.
    for path in (home.stack_file, home.credentials_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    passwords = json.loads(home.credentials_file.read_text()).values()
    shown = repr(stack) + " ".join(told) + repr(status(home=home))
    assert not [password for password in passwords if password in shown]

    # What is written is what was returned, in the shape the other parts read.
    assert Stack.load(home) == stack
    written = json.loads(home.stack_file.read_text())
    assert set(written) == {"home", "postgres", "urls", "prefect", "commerce"}

    # Several at once, while Prefect still boots: all find the same servers.
    with ThreadPoolExecutor(3) as pool:
        again = [found.result() for found in [pool.submit(up, False, home=home, min_free_bytes=0) for _ in range(3)]]
    assert again == [stack, stack, stack]

    # Prefect's pages are served, and know where the API is although the port is not the default one.
    stack.wait_for_prefect(home)
    assert b"<html" in fetch(stack.prefect.ui_url)
    assert not (home.prefect / "prefect.db").exists()
    with psycopg.connect(prefect_database_of(home, stack)) as connection:
        assert connection.execute("select to_regclass('public.flow_run') is not null").fetchone() == (True,)
    assert json.loads(fetch(f"{stack.prefect.ui_url}/ui-settings"))["api_url"] == stack.prefect.api_url
    assert [service.state for service in status(home=home)] == ["running", "running", "running"]

    assert what_a_shell_learns(home) == f"{stack.prefect.api_url} {stack.prefect.auth_string}"

    # Nothing that the three have written is for anybody else, its folders included.
    assert open_to_others(home) == []

    # A killed server is replaced; the others are left alone.
    assert stack.commerce is not None
    os.killpg(stack.commerce.pid, signal.SIGKILL)
    while alive(stack.commerce.pid):
        time.sleep(0.01)
    assert [service.state for service in status(home=home)] == ["running", "running", "stopped"]
    repaired = up(wait=True, with_commerce=True, home=home, min_free_bytes=0)
    assert repaired.commerce is not None
    assert repaired.commerce.pid != stack.commerce.pid
    assert (repaired.postgres, repaired.prefect) == (stack.postgres, stack.prefect)

    # A bystander survives `down`, even one whose pid stands in a stale record.
    assert down(home=home) == ["commerce API", "Prefect server", "PostgreSQL"]
    # PostgreSQL takes its file away a moment before its process ends.
    started, pids = time.monotonic(), (stack.postgres.pid, stack.prefect.pid, repaired.commerce.pid)
    while any(map(alive, pids)) and time.monotonic() < started + 10:
        time.sleep(0.05)
    assert not [pid for pid in pids if alive(pid)]
    assert down(home=home) == []
    with pytest.raises(NotUp, match="medallion up"):
        Stack.load(home)


def prefect_database_of(home: Home, stack: Stack, database: str = "prefect") -> str:
    """The URL of a database in the stack's cluster, as the Prefect server's role."""
    password = json.loads(home.credentials_file.read_text())["medallion_prefect"]
    return f"postgresql://medallion_prefect:{password}@127.0.0.1:{stack.postgres.port}/{database}"


@pytest.fixture
def no_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that sleeps in Prefect's place, where only starting and finding matter."""
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(120)"]
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.command", lambda self, port: sleep)


UP_IN_A_CHILD = """
import sys
from pathlib import Path
from infra.local.home import Home
from infra.local.prefect_server import PrefectServer
from infra.local.stack import up
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(120)"]
PrefectServer.command = lambda self, port: sleep
PrefectServer.default_port = None
up(wait=False, on_step=lambda step: print(step, flush=True), home=Home(Path(sys.argv[1])), min_free_bytes=0)
print("done", flush=True)
"""


@pytest.mark.parametrize("steps", [*nightly(0, 1, 2), 3])
def test_an_up_that_was_killed_is_taken_over_by_the_next(home: Home, no_prefect: None, steps: int) -> None:
    """Killed before its first step, or after any of them: no second PostgreSQL, no second Prefect, no wreck."""
    child = subprocess.Popen(
        [sys.executable, "-c", UP_IN_A_CHILD, str(home.root)],
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=ROOT,
        text=True,
    )
    assert child.stdout is not None
    if steps == 0:
        while not home.postgres.exists():
            time.sleep(0.001)
    for _ in range(steps):
        child.stdout.readline()
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    left = {service.name: service.pid for service in status(home=home)}

    stack = up(wait=False, home=home, min_free_bytes=0)
    if steps >= 1:
        assert stack.postgres.pid == left["PostgreSQL"]
    if steps >= 3:
        assert stack.prefect.pid == left["Prefect server"]
    with psycopg.connect(stack.urls["warehouse_loader"]) as connection:
        connection.execute("create table ops.written (id int)")


def test_the_prefect_servers_role_reaches_its_own_database_only_and_nobody_else_reaches_it(
    home: Home, no_prefect: None
) -> None:
    """Whoever gets hold of the server has blocks and runs, but no row of the warehouse; no reader has the blocks."""
    stack = up(wait=False, home=home, min_free_bytes=0)
    with psycopg.connect(prefect_database_of(home, stack)) as connection:
        connection.execute("create extension pg_trgm")  # as Prefect's migrations do
        connection.execute("create table runs (id int)")
    for database in ("warehouse", "shop", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(prefect_database_of(home, stack, database))
    for name, url in stack.urls.items():
        if not name.endswith("_admin"):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(url.rpartition("/")[0] + "/prefect")


def test_a_home_with_prefects_sqlite_database_goes_on_with_it_and_up_says_so(home: Home, no_prefect: None) -> None:
    """Deployments and schedules are in there: a server that began without them would run nothing, and say nothing."""
    home.prefect.mkdir(parents=True)
    (home.prefect / "prefect.db").touch()
    told: list[str] = []
    stack = up(wait=False, on_step=told.append, home=home, min_free_bytes=0)
    assert b"DATABASE_CONNECTION_URL=sqlite+aiosqlite:///" in environment_of(stack.prefect.pid)
    assert [line for line in told if "SQLite" in line]

    # Without that file it is the same home's PostgreSQL.
    down(home=home)
    (home.prefect / "prefect.db").unlink()
    told.clear()
    stack = up(wait=False, on_step=told.append, home=home, min_free_bytes=0)
    assert b"DATABASE_CONNECTION_URL=postgresql+asyncpg://medallion_prefect:" in environment_of(stack.prefect.pid)
    assert not [line for line in told if "SQLite" in line]


def what_a_shell_learns(home: Home) -> str:
    """Where the server is and how to get in, by `medallion env`, whatever other server the environment names."""
    variables = {"MEDALLION_HOME": str(home.root), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    printed = medallion("env", variables=variables)
    assert printed.code == 0, printed.text
    assert medallion("env", "PREFECT_API_AUTH_STRING", variables=variables).out.strip() in printed.out
    script = f'{printed.out}\nprintf "%s %s" "$PREFECT_API_URL" "$PREFECT_API_AUTH_STRING"'
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


def environment_of(pid: int) -> bytes:
    """As the process was started: nothing yet for a moment, while it becomes its program."""
    return eventually(Path(f"/proc/{pid}/environ").read_bytes)


def test_two_ups_at_once_start_one_stack(home: Home, no_prefect: None) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", UP_IN_A_CHILD, str(home.root)], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    output = [child.communicate()[0].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted("PostgreSQL started" in text for text in output) == [False, True]
    assert sorted("Prefect is starting" in text for text in output) == [False, True]


def test_down_does_not_touch_a_process_that_took_over_a_recorded_pid(home: Home) -> None:
    bystander = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        home.run.mkdir(parents=True)
        stat_line = Path(f"/proc/{bystander.pid}/stat").read_text()
        fields = stat_line.split()
        fields[21] = "1"  # born at another time than the process that the record is about
        (home.run / "prefect").write_text("4200\n" + " ".join(fields) + "\n")
        assert down(home=home) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("variable", ["MEDALLION_POSTGRES_PORT", "MEDALLION_PREFECT_PORT"])
def test_a_configured_port_in_use_names_the_variable_and_the_next_move(
    home: Home, no_prefect: None, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv(variable, str(other.getsockname()[1]))
        with pytest.raises(PortTaken) as refusal:
            up(wait=False, home=home, min_free_bytes=0)
    assert variable in refusal.value.fix
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize("value", ["no", "0", "70000", "-1", "4200.0"])
def test_a_port_that_is_none_is_refused(
    home: Home, no_prefect: None, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MEDALLION_POSTGRES_PORT", value)
    with pytest.raises(StackError, match="is not a port"):
        up(wait=False, home=home, min_free_bytes=0)


def test_configured_ports_are_used(home: Home, no_prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres, prefect = ports.any_free(), ports.any_free()
    monkeypatch.setenv("MEDALLION_POSTGRES_PORT", str(postgres))
    monkeypatch.setenv("MEDALLION_PREFECT_PORT", str(prefect))
    stack = up(wait=False, home=home, min_free_bytes=0)
    assert stack.postgres.port == postgres
    assert stack.prefect.api_url == f"http://127.0.0.1:{prefect}/api"


def test_a_disk_with_too_little_room_is_refused_before_anything_starts(home: Home) -> None:
    with pytest.raises(DiskFull, match=r"GB free, .* GB needed"):
        up(home=home, min_free_bytes=1 << 60)
    assert not home.postgres.exists()


def test_a_folder_that_cannot_be_written_is_refused(home: Home) -> None:
    home.root.write_text("a file in the folder's place")
    with pytest.raises(FolderUnusable) as refusal:
        up(home=home, min_free_bytes=0)
    assert "MEDALLION_HOME" in refusal.value.fix


def test_lost_passwords_are_told_rather_than_replaced(home: Home, no_prefect: None) -> None:
    """New passwords would not open the old cluster, and a new cluster would drop the data."""
    up(wait=False, home=home, min_free_bytes=0)
    home.credentials_file.unlink()
    with pytest.raises(StackError, match="its passwords file does not"):
        up(wait=False, home=home, min_free_bytes=0)
    assert not home.credentials_file.exists()


def test_a_prefect_server_that_dies_while_booting_is_told_with_its_last_words(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = [sys.executable, "-S", "-c", "raise SystemExit('no such table: flow')"]
    monkeypatch.setattr("infra.local.prefect_server.PrefectServer.command", lambda self, port: dying)
    with pytest.raises(StackError, match="no such table: flow"):
        up(home=home, min_free_bytes=0)


def test_the_home_is_the_checkouts_wherever_the_command_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`medallion status` in a subfolder, or in somebody else's project, must show the same stack."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDALLION_HOME")
    assert Home.find().root == ROOT / ".medallion"
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path / "elsewhere"))
    assert Home.find().root == tmp_path / "elsewhere"


def test_without_a_checkout_the_home_is_beside_the_nearest_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "lib" / "infra" / "local" / "home.py"
    project = tmp_path / "project"
    (project / "deep" / "down").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    monkeypatch.setattr("infra.local.home.__file__", str(installed))
    monkeypatch.delenv("MEDALLION_HOME")
    monkeypatch.chdir(project / "deep" / "down")
    assert Home.find().root == project / ".medallion"


def test_nothing_is_created_by_asking(home: Home) -> None:
    assert [service.state for service in status(home=home)] == ["stopped", "stopped", "stopped"]
    assert down(home=home) == []
    assert not home.root.exists()
