"""The relay between a worker and the embedded Prefect server: it proves the server again for each connection.

A worker runs for days, and so may the flow runs it starts; the server may die meanwhile, another program take its port,
and `medallion up` start it again on another. Prefect's clients keep one URL and send the auth string to whoever answers
there. So they are given the URL of a relay on this machine, and a token that is of use nowhere else:

    worker, flow runs  ── token ──▶  relay  ── proof, then auth string ──▶  Prefect server of this home

The relay reads where the server is for each connection, sends it a challenge, and passes the request on over the same
connection: between the proof and the request nobody can take the server's place. Until a server has proven itself, a
request waits, and is then answered with 503.

The worker holds the relay's socket as well: while it lives, nobody else can take the relay's port. Should both be
killed, flow runs that outlive them would send a stranger the token, with which nothing can be done.
"""

import argparse
import asyncio
import base64
import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from infra.local import proof
from infra.local.home import Home, read_json
from infra.local.ports import HOST
from infra.local.service import address, finds_checkout
from infra.local.websocket_auth import until_login

#: How long a request waits for a proven server: a boot takes 5 to 10 s, and Prefect's client gives up after 60.
PATIENCE_SECONDS = 20.0
#: How long the relay serves flow runs that outlive their worker: three heartbeats without a request, and none is left.
LINGER_SECONDS = 100.0
_POLL_SECONDS = 0.5
_CHUNK = 65_536
_UNAVAILABLE = b'{"detail": "the embedded Prefect server of this home does not answer: run `medallion up`"}'


@dataclass(frozen=True)
class Upstream:
    """A connection to the server of this home, proven, and the auth string it asks for."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    secret: str


def start(home: Home) -> dict[str, str]:
    """Start a relay for the rest of this process; what its clients' environment needs.

    The process may become another program (`exec`): the relay's socket is inherited, and the relay ends after it.
    """
    listening = socket.create_server((HOST, 0), backlog=128)
    listening.set_inheritable(True)
    token = f"worker:{secrets.token_urlsafe(24)}"
    home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.logs / "relay.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "infra.local.relay", "--home", str(home.root), "--fd", str(listening.fileno()),
             "--worker", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, cwd=home.root,
            env={**os.environ, **finds_checkout()}, pass_fds=(listening.fileno(),),
        )  # fmt: skip
    assert child.stdin is not None
    child.stdin.write(token.encode())
    child.stdin.close()
    url = address(int(listening.getsockname()[1])) + "/api"
    listening.detach()  # it stays open without an object that would close it
    return {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": token, "MEDALLION_RELAY_URL": url}


@dataclass
class Relay:
    """Serves `listening` to those who know `token`, for as long as the process `worker`, its parent, needs it."""

    home: Home
    token: str
    worker: int
    listening: socket.socket
    _open: int = field(default=0, init=False)
    _last: float = field(default_factory=time.monotonic, init=False)
    _told_to_end: bool = field(default=False, init=False)

    async def serve(self) -> None:
        """Until the worker is gone; and its flow runs, unless a signal has told the relay as well."""
        loop = asyncio.get_running_loop()
        # Ctrl-C reaches all processes of a terminal, a service manager's SIGTERM all of a service: the worker still
        # reports to the server how it ends.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end_with_worker)
        server = await asyncio.start_server(self._serve_one, sock=self.listening)
        while self._is_needed():  # noqa: ASYNC110 - another process ends, and tells nobody
            await asyncio.sleep(_POLL_SECONDS)
        server.close()  # without waiting for web sockets, which nobody ends

    def _end_with_worker(self) -> None:
        self._told_to_end = True

    def _is_needed(self) -> bool:
        if os.getppid() == self.worker:
            return True
        return not self._told_to_end and (self._open > 0 or time.monotonic() - self._last < LINGER_SECONDS)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        with closing(writer):
            try:
                # Limited to 64 KiB, as asyncio's readers are.
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, reader, writer)
            except (OSError, EOFError, asyncio.LimitOverrunError):
                pass  # either side went away, or it was no request
            finally:
                self._open, self._last = self._open - 1, time.monotonic()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = urlsplit(head.split(b" ", 2)[1].decode("ascii", "replace"))
        recorded = self._recorded()
        if asked.path == proof.PATH and recorded is not None:
            # A command within a flow run asks whose server it is pointed to. It proves the server itself before use.
            challenge = parse_qs(asked.query).get("challenge", [""])[0]
            port = int(self.listening.getsockname()[1])
            writer.write(_response(b"200 OK", proof.prove(recorded[1], str(self.home.prefect), port, challenge)))
            await writer.drain()
        elif (upstream := await self._proven()) is None:
            writer.write(_response(b"503 Service Unavailable", _UNAVAILABLE.decode(), b"Retry-After: 5\r\n"))
            await writer.drain()
        else:
            with closing(upstream.writer):
                await self._pass_on(head, reader, writer, upstream)

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream
    ) -> None:
        lines = head[:-4].split(b"\r\n")
        is_websocket = any(line.lower().startswith(b"upgrade:") for line in lines)
        upstream.writer.write(b"\r\n".join([*self._headers(lines, upstream.secret, is_websocket), b"", b""]))

        async def requests() -> None:
            if is_websocket:
                # Its subscribers log in by their first message.
                async for frame in until_login(reader, self.token, upstream.secret):
                    upstream.writer.write(frame)
            await _copy(reader, upstream.writer)

        sending = asyncio.ensure_future(requests())
        receiving = asyncio.ensure_future(_copy(upstream.reader, writer))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for half in (sending, receiving):
                half.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    def _headers(self, lines: list[bytes], secret: str, is_websocket: bool) -> list[bytes]:
        """The request's head with the server's auth string in the token's place."""
        ours, theirs = (base64.b64encode(text.encode()) for text in (self.token, secret))
        # One request a connection: the next one is proven again. And a compressed message could not be read.
        left_out = b"sec-websocket-extensions:" if is_websocket else b"connection:"
        kept = [
            line.replace(ours, theirs) if line.lower().startswith(b"authorization:") else line
            for line in lines
            if not line.lower().startswith(left_out)
        ]
        return kept if is_websocket else [*kept, b"Connection: close"]

    async def _proven(self) -> Upstream | None:
        """A connection to a server of this home, as soon as there is one; None if there is none in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (upstream := await self._prove()) is None:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(_POLL_SECONDS)
                return upstream
        return None

    async def _prove(self) -> Upstream | None:
        if (recorded := self._recorded()) is None:
            return None
        port, secret = recorded
        challenge = secrets.token_hex(proof.CHALLENGE_BYTES)
        proven = False
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return None
        try:
            writer.write(f"GET {proof.PATH}?challenge={challenge} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            expected = proof.prove(secret, str(self.home.prefect), port, challenge).encode()
            proven = hmac.compare_digest(await reader.readexactly(len(expected)), expected)
            return Upstream(reader, writer, secret) if proven else None
        except (OSError, EOFError, asyncio.LimitOverrunError):
            return None
        finally:
            if not proven:
                writer.close()

    def _recorded(self) -> tuple[int, str] | None:
        """The port and the auth string of the server that `up` started last; None after `down`."""
        found = read_json(self.home.stack_file) or {}
        server = found.get("prefect")
        if found.get("home") != str(self.home.root) or not isinstance(server, dict):
            return None
        port, secret = urlsplit(str(server.get("api_url"))).port, server.get("auth_string")
        return (port, str(secret)) if port and secret else None


def _response(status: bytes, body: str, more: bytes = b"") -> bytes:
    kind = b"application/json" if body.startswith("{") else b"text/plain"
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n"
    return head % (status, kind, len(body), more) + body.encode()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()


def main() -> None:
    """Serve a worker on a socket that was bound before; the token is read from standard input."""
    parser = argparse.ArgumentParser("python -m infra.local.relay", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of a listening socket")
    parser.add_argument("--worker", type=int, required=True, help="pid of the worker that started it")
    given = parser.parse_args()
    listening = socket.socket(fileno=given.fd)
    listening.set_inheritable(False)
    asyncio.run(Relay(Home(given.home), sys.stdin.read(), given.worker, listening).serve())


if __name__ == "__main__":
    main()
