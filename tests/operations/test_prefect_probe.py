"""A slow Prefect server is not reported as down, and one that struggles does not flap; by a server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.operations import prefect_api, prefect_probe
from flows.operations.prefect_api import PrefectApi
from flows.operations.prefect_facts import PrefectReader
from flows.operations.prefect_probe import PrefectProbe


@dataclass
class Server:
    """Answers as a Prefect API without deployments; `busy` and `hung`, it keeps questions waiting until the end."""

    busy: bool = False
    hung: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str) -> bytes:
        if self.hung or (self.busy and not path.endswith("/health")):
            self.ended.wait()
        return json.dumps({"events": []} if "events" in path else path.endswith("/health") or []).encode()


@contextmanager
def serving() -> Iterator[tuple[Server, str]]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.do_GET()

        def do_GET(self) -> None:
            body = server.answer(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{listening.server_address[1]}/api"
    finally:
        server.ended.set()
        listening.shutdown()
        listening.server_close()


async def reported(probe: PrefectProbe, rounds: int) -> list[str | None]:
    """What is reported after each of so many rounds."""
    found: list[str | None] = []
    for _ in range(rounds):
        await probe.look(datetime.now(UTC))
        found.append(probe.found[0].what if probe.found else None)
    return found


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_api, "_SECONDS", 0.3)


async def test_a_server_that_is_slow_is_reported_only_if_it_stays_so() -> None:
    with serving() as (server, url):
        probe = PrefectProbe(PrefectReader(PrefectApi(url), ["one"]))
        assert await reported(probe, 1) == [None]
        server.busy = True
        assert await reported(probe, 5) == [None] * 5, "busy for five rounds"
        server.busy = False
        assert await reported(probe, 1) == [None]
        server.busy = True
        *before, last = await reported(probe, 6)
        assert before == [None] * 5
        assert last is not None
        assert "although its /health responds" in last
        await probe.reader.api.close()


async def test_a_server_that_hangs_is_reported_at_once_and_over_after_two_responses() -> None:
    with serving() as (server, url):
        probe = PrefectProbe(PrefectReader(PrefectApi(url), ["one"]))
        server.hung = True
        [hung] = await reported(probe, 1)
        assert hung is not None
        assert "does not respond" in hung
        server.ended.set()
        server.hung = False
        assert await reported(probe, 2) == [hung, None]
        await probe.reader.api.close()


async def test_a_server_that_struggles_is_one_alert_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second round it responds. The control: without damping, each is a change."""

    async def struggle(probe: PrefectProbe) -> list[bool]:
        found = []
        for _ in range(6):
            server.hung, server.ended = True, threading.Event()
            found += [what is not None for what in await reported(probe, 1)]
            server.ended.set()
            server.hung = False
            found += [what is not None for what in await reported(probe, 1)]
        return found

    with serving() as (server, url):
        probe = PrefectProbe(PrefectReader(PrefectApi(url), ["one"]))
        assert await struggle(probe) == [True] * 12
        assert await reported(probe, 1) == [None]
        monkeypatch.setattr(prefect_probe, "_GOOD_ROUNDS", 1)
        assert await struggle(probe) == [True, False] * 6
        await probe.reader.api.close()


async def test_a_server_that_is_killed_is_reported_at_once_and_over_when_it_responds() -> None:
    with serving() as (_, url):
        pass
    probe = PrefectProbe(PrefectReader(PrefectApi(url), ["one"]))
    [gone] = await reported(probe, 1)
    assert gone is not None
    await probe.reader.api.close()
