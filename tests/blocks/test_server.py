"""A Prefect server that does not serve: told in one panel with its fix, by every command, and at once."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLOUD_API_URL,
    get_current_settings,
    temporary_settings,
)

from blocks.server import require_server
from flows.values.errors import ConfigurationError
from tests.access.authority import Authority
from tests.conftest import TestDatabase
from tests.flows.front_door import Ended
from tests.kinds.conformance import forking
from tests.kinds.loading import addresses
from tests.nightly import chosen

CANARY = "canary-7f3a"


@dataclass(frozen=True)
class Answer:
    """What a server says to everything."""

    status: int
    body: str = ""
    kind: str = "application/json"


SERVES = Answer(200, '"3.9.1"')


@contextmanager
def answering(answer: Answer, *, tls: Path | None = None) -> Iterator[str]:
    """A web server on loopback with one answer; the authority in `tls` has signed its certificate."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = respond  # noqa: N815 - named by the base

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*Authority(tls).issue("localhost"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://localhost:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent(first: bytes = b"") -> Iterator[str]:
    """A server that takes connections, says this, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def hold() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                    connection.sendall(first)
                except OSError:
                    return
                held.append(connection)

        threading.Thread(target=hold, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        for connection in held:
            connection.close()


def refusal(url: str) -> ConfigurationError:
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(ConfigurationError) as refused:
        require_server(patience=1)
    assert CANARY not in str(refused.value)
    return refused.value


@pytest.mark.parametrize(
    ("answer", "what", "fix", "retryable"),
    [
        (
            Answer(401, f'{{"detail": "{CANARY}"}}'),
            r"refuses the credentials \(401\)",
            "PREFECT_API_AUTH_STRING",
            False,
        ),
        (Answer(403, f'{{"detail": "{CANARY}"}}'), r"refuses the credentials \(403\)", "PREFECT_API_KEY", False),
        (
            Answer(404, f'{{"detail": "{CANARY}"}}'),
            r"not a Prefect API \(it responds with 404\)",
            "ends in /api",
            False,
        ),
        (Answer(200, f"<html>{CANARY}</html>", "text/html"), "not a Prefect API", "ends in /api", False),
        (Answer(200, f'{{"a": "{CANARY}"}}'), "not a Prefect API", "ends in /api", False),
        (Answer(302, CANARY, "text/html"), r"not a Prefect API \(it responds with 302\)", "ends in /api", False),
        (Answer(503, CANARY, "text/plain"), "responds with 503", "log", True),
        (Answer(200, '"2.20.4"'), "has version 2.20.4", "same major version", False),
    ],
)
def test_an_answer_that_is_none_says_what_is_wrong_with_it(
    answer: Answer, what: str, fix: str, retryable: bool
) -> None:
    with answering(answer) as url:
        error = refusal(url)
    assert error.exit_code == 3
    assert re.search(what, error.what), error.what
    assert fix in error.fix
    assert error.retryable is retryable
    assert error.where == url.removesuffix("/")


def test_a_server_that_hangs_is_given_up_after_the_patience() -> None:
    with silent() as url:
        error = refusal(url)
    assert "accepts connections, but does not respond" in error.what
    assert error.retryable


def test_what_speaks_no_http_is_no_prefect() -> None:
    with silent(b"220 smtp.example.com ready\r\n\r\n") as url:
        assert "not a Prefect API" in refusal(url).what


def test_an_address_that_is_no_url_is_told_with_an_example() -> None:
    error = refusal("localhost:4200/api")
    assert "is not a URL" in error.what
    assert "http://127.0.0.1:4200/api" in error.fix


def test_tls_that_fails_at_either_end_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with answering(SERVES, tls=tmp_path / "theirs") as url:
        assert "no encrypted connection" in refusal(url).what
        # The control: it serves whoever trusts its authority.
        trusted = {PREFECT_API_URL: url, PREFECT_API_SSL_CERT_FILE: str(tmp_path / "theirs" / "root.crt")}
        with temporary_settings(trusted):
            assert require_server(patience=5) == url
    with answering(SERVES) as url:
        error = refusal(url.replace("http:", "https:"))
    assert "no encrypted connection" in error.what
    assert "PREFECT_API_SSL_CERT_FILE" in error.fix


def test_prefect_cloud_without_a_key_is_told_to_log_in() -> None:
    with answering(Answer(401)) as url, temporary_settings({PREFECT_CLOUD_API_URL: url}):
        error = refusal(f"{url}/accounts/a/workspaces/w")
    assert "PREFECT_API_KEY" in error.fix
    assert "prefect cloud login" in error.fix


def test_a_server_that_serves_is_let_through(prefect_server: str) -> None:
    assert require_server() == prefect_server == get_current_settings().api.url


# -- by every command


def ended(*arguments: str, **variables: str) -> Ended:
    done = forking.run("tests.flows.forked_door", ["flows.cli.app", *arguments], variables)
    return Ended(done.returncode, done.stdout, done.stderr)


COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "shop"),
    "transform": ("transform",),
    "release": ("transform", "--release"),
    "predict": ("predict",),
    "reconcile": ("reconcile", "shop"),
    "backfill": ("backfill", "shop.baskets", "--from", "2017-01-01", "--to", "2017-01-31"),
    "register": ("register",),
    "deploy": ("deploy", "dev", "--plan"),
    "rollback": ("rollback", "deployments", "dev", "--plan"),
}


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://user:{CANARY}@127.0.0.1:{listening.getsockname()[1]}/api"


@pytest.mark.parametrize("command", chosen(COMMANDS, *[*COMMANDS][::2]))
def test_a_command_without_an_answer_is_one_panel_and_exit_code_3(
    command: str, nobody: str, warehouse: TestDatabase, shop: TestDatabase, tmp_path: Path
) -> None:
    """It was a traceback of 103 lines."""
    done = ended(
        *COMMANDS[command],
        PREFECT_API_URL=nobody,
        MEDALLION_HOME=str(tmp_path),
        PREFECT_HOME=str(tmp_path / "prefect"),
        **addresses(warehouse, shop),
    )
    assert_one_panel(done, 3, "the Prefect server does not respond")
    assert CANARY not in done.text


@pytest.mark.parametrize("command", chosen(COMMANDS, *[*COMMANDS][1::2]))
def test_a_command_without_a_server_is_refused_before_prefect_starts_one(
    command: str, warehouse: TestDatabase, shop: TestDatabase, tmp_path: Path
) -> None:
    """`register` started one that took 27 s, and forgot what it was told."""
    done = ended(
        *COMMANDS[command],
        MEDALLION_HOME=str(tmp_path),
        PREFECT_HOME=str(tmp_path / "prefect"),
        PREFECT_API_URL="",
        **addresses(warehouse, shop),
    )
    assert_one_panel(done, 2, "no Prefect server is configured")
    assert not (tmp_path / "prefect" / "prefect.db").exists()


@pytest.mark.parametrize("command", ["purge", "status"])
def test_a_command_that_needs_no_server_works_without_one(
    warehouse: TestDatabase, tmp_path: Path, command: str
) -> None:
    """Data is deleted in time, whatever becomes of Prefect."""
    home = {"MEDALLION_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    done = ended(command, MEDALLION_WAREHOUSE_URL=warehouse.url("loader"), **home)
    assert done.code == 0, done.text


def test_status_that_looks_for_blocks_at_a_dead_server_says_so(nobody: str, tmp_path: Path) -> None:
    done = ended("status", PREFECT_API_URL=nobody, MEDALLION_HOME=str(tmp_path), PREFECT_HOME=str(tmp_path / "p"))
    assert_one_panel(done, 3, "the Prefect server does not respond")


@pytest.mark.parametrize("module", ["deployments.documents", "deployments.register"])
def test_the_modules_that_register_refuse_too(module: str, tmp_path: Path, nobody: str) -> None:
    variables = {"MEDALLION_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
    for url, code, what in (("", 2, "no Prefect server is configured"), (nobody, 3, "does not respond")):
        done = forking.run("tests.flows.forked_door", [module], {**variables, "PREFECT_API_URL": url})
        assert done.returncode == code, done.stderr
        assert what in done.stderr
        assert "Traceback" not in done.stderr


def test_a_flow_called_from_a_shell_without_a_server_is_refused_at_once(tmp_path: Path) -> None:
    variables = {"MEDALLION_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    done = forking.run("tests.flows.forked_door", ["tests.cli.one_flow"], variables)
    assert "No Prefect API URL provided" in done.stderr
    assert not (tmp_path / "prefect" / "prefect.db").exists()


def assert_one_panel(done: Ended, code: int, what: str) -> None:
    assert done.code == code, done.text
    assert what in done.panel
    assert "Traceback" not in done.text
    assert "fix" in done.err
    assert len(done.err.splitlines()) <= 12, done.err
