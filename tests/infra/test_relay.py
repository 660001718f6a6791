"""The relay of a worker: it passes on to the proven server only, follows it, and ends after the worker."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from infra.local import ports, proof
from infra.local.home import Home
from infra.local.prefect_server import PrefectServer
from infra.local.stack import up
from infra.local.websocket_auth import until_login
from tests.conftest import ROOT
from tests.eventually import eventually
from tests.infra.conftest import LITTLE
from tests.infra.port_taken import kill, listener_on, port_for_long

#: In Prefect's place: answers what it was sent as `Authorization`.
ECHO = """
import os, sys
from infra.local import serve
async def app(scope, receive, send):
    sent = dict(scope["headers"]).get(b"authorization", b"none")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": sent})
secret, folder = os.environ["PREFECT_SERVER_API_AUTH_STRING"], os.environ["PREFECT_HOME"]
serve.serve(app, serve.listener(int(sys.argv[1])), secret, folder, lifespan="off")
"""


def basic(auth_string: str) -> str:
    return f"Basic {base64.b64encode(auth_string.encode()).decode()}"


@dataclass
class Served:
    """What stands for a worker: the process that has started the relay, and what that gives to its children."""

    worker: subprocess.Popen[str]
    url: str
    token: str

    @property
    def port(self) -> int:
        return int(self.url.removesuffix("/api").rpartition(":")[2])

    @property
    def relay(self) -> int:
        """Its process id."""
        worker = self.worker.pid
        (child,) = map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split())
        return child


#: It becomes another program, as `medallion worker` does.
WORKER = """
import json, os, sys
from pathlib import Path
from infra.local import home, relay
print(json.dumps(relay.start(home.Home(Path(sys.argv[1])))), flush=True)
os.execv("/bin/cat", ["cat"])
"""


@contextmanager
def relayed(home: Home) -> Iterator[Served]:
    command = [sys.executable, "-c", WORKER, str(home.root)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            given = json.loads(worker.stdout.readline())
            yield Served(worker, given["PREFECT_API_URL"], given["PREFECT_API_AUTH_STRING"])
        finally:
            worker.kill()


def test_a_relay_passes_nothing_on_before_the_server_is_proven_and_follows_it_to_another_port(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefectServer, "default_port", port_for_long())
    monkeypatch.setattr(PrefectServer, "command", lambda self, fd: [sys.executable, "-c", ECHO, str(fd)])
    stack = up(home=home, min_free_bytes=LITTLE)
    secret = stack.prefect.auth_string
    with relayed(home) as served:
        url = served.url
        client = httpx.Client(headers={"Authorization": basic(served.token)}, timeout=60, trust_env=False)
        assert client.get(url).text == basic(secret)
        # Who does not know the token gets no further than at the server itself.
        assert httpx.get(url, headers={"Authorization": basic("worker:another")}).text == basic("worker:another")
        assert proof.ask(url.removesuffix("/api"), secret, home.prefect) == "ours"

        kill(home, stack)
        with listener_on(int(stack.prefect.ui_url.rpartition(":")[2])) as listener:
            refused = client.get(url)
            assert (refused.status_code, "medallion up" in refused.text) == (503, True)
            assert len(listener.heard) > 10
            assert {text.partition("?")[0] for text in listener.heard} == {f"GET {proof.PATH}"}
            assert "authorization" not in str(listener.heard).lower()
            again = up(home=home, min_free_bytes=LITTLE)
        assert again.prefect.api_url != stack.prefect.api_url
        assert client.get(url).text == basic(secret)


def test_the_port_of_a_relay_is_its_workers_until_both_are_gone(home: Home) -> None:
    home.root.mkdir(parents=True)
    with relayed(home) as served:
        os.kill(served.relay, signal.SIGKILL)
        time.sleep(0.2)
        assert not ports.is_free(served.port)
    eventually(lambda: ports.is_free(served.port), 10, (home.logs / "relay.log").read_text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_relay_that_is_told_to_end_ends_after_its_worker(home: Home, number: signal.Signals) -> None:
    """Ctrl-C reaches both at once, and the worker still reports how it ends."""
    home.root.mkdir(parents=True)
    with relayed(home) as served:
        ask = f"{served.url.removesuffix('/api')}{proof.PATH}"
        with suppress(httpx.ReadTimeout):
            httpx.get(ask, timeout=2, trust_env=False)  # so that it has begun: it looks for a server
        os.kill(relay := served.relay, number)
        time.sleep(1)
        assert Path(f"/proc/{relay}/exe").exists()
    eventually(lambda: ports.is_free(served.port), 10, (home.logs / "relay.log").read_text)


def frame(first: int, text: bytes, mask: bytes = b"abcd") -> bytes:
    """A frame as clients send it."""
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
    size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2)
    return bytes([first]) + size + mask + masked


LOGIN, LONG = b'{"type": "auth", "token": "the token"}', b'{"type": "auth", "token": "' + b"x" * 200 + b'"}'


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        (frame(0x81, LOGIN), frame(0x81, LOGIN.replace(b"the token", b"s" * 99))),
        # Clients ping before they log in.
        (frame(0x89, b"ping") + frame(0x81, LOGIN),
         frame(0x89, b"ping") + frame(0x81, LOGIN.replace(b"the token", b"s" * 99))),
        (frame(0x81, LONG), frame(0x81, LONG)),
        (frame(0x81, b"no JSON"), frame(0x81, b"no JSON")),
        (frame(0x82, LOGIN), frame(0x82, LOGIN)),
        # Only the first message is a login.
        (frame(0x81, b"[]") + frame(0x81, LOGIN), frame(0x81, b"[]") + frame(0x81, LOGIN)),
    ],
)  # fmt: skip
def test_the_login_of_a_web_socket_gets_the_auth_string_in_the_tokens_place(sent: bytes, passed_on: bytes) -> None:
    async def passed() -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(sent)
        reader.feed_eof()
        frames = [part async for part in until_login(reader, "the token", "s" * 99)]
        return b"".join(frames) + await reader.read()

    assert asyncio.run(passed()) == passed_on
