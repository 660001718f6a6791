"""`/metrics` and `/healthz` of the watch: a small server whose answers are ready before anybody asks.

    server = MetricsServer("127.0.0.1", 9464, token=None)
    await server.open()
    server.show(text)            once per round; a request costs no query

Written here, because prometheus_client's server starts a thread for every connection, without bound, and uvicorn gives
a client any time to ask. A client has five seconds to ask and ten to take the answer. If more than 64 are connected,
the one that has been for longest is dropped: whoever keeps connections open harms others of its kind only.
"""

from __future__ import annotations

import asyncio
import gzip
import hmac
import ipaddress
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MOST_CLIENTS = 64
_ASK_SECONDS, _TAKE_SECONDS = 5.0, 10.0
_HEAD_BYTES = 8192
#: As deployments/health.py: a round in which everything hangs takes two minutes.
_ROUND_WITHIN_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    type: str = "text/plain; charset=utf-8"


@dataclass(slots=True)
class MetricsServer:
    """Serves what `show` was given last. `address` is where, once it is open; `port` 0 takes any.

    `elapsed` is a monotonic clock, in seconds.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)
    elapsed: Callable[[], float] = time.monotonic
    _body: bytes = field(default=b"", init=False)
    _zipped: bytes = field(default=b"", init=False)
    _shown_at: float | None = field(default=None, init=False)
    _server: asyncio.Server | None = field(default=None, init=False)
    #: Who is connected, the oldest first.
    _clients: dict[asyncio.StreamWriter, None] = field(default_factory=dict, init=False)

    async def open(self) -> None:
        """Listen, unless it does.

        Raises OSError.
        """
        if self._server is None:
            self._server = await asyncio.start_server(self._meet, self.host, self.port, limit=_HEAD_BYTES)

    @property
    def address(self) -> str:
        """host:port."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def show(self, text: bytes) -> None:
        """A round has ended with these metrics."""
        self._body, self._zipped, self._shown_at = text, b"", self.elapsed()

    async def close(self) -> None:
        """Stop listening, and drop who is connected."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in [*self._clients]:
            writer.transport.abort()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= _MOST_CLIENTS:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.transport.abort()
        self._clients[writer] = None
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                answer, only_head = await self._read(reader)
            async with asyncio.timeout(_TAKE_SECONDS):
                writer.write(_as_bytes(answer, only_head=only_head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # it is gone, too slow, or the process ends: Python 3.11 would log a traceback for each
        finally:
            self._clients.pop(writer, None)
            with suppress(OSError, RuntimeError):
                writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[_Answer, bool]:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            return _Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"the request is too long\n"), False
        line, *fields = head.split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _Answer(HTTPStatus.BAD_REQUEST, b"this is no request of HTTP/1\n"), False
        method, target, _ = words
        headers = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
        if method not in ("GET", "HEAD"):
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n", {"Allow": "GET, HEAD"}), False
        return self._answer(target.partition("?")[0], headers), method == "HEAD"

    def _answer(self, path: str, headers: Mapping[str, str]) -> _Answer:
        if path == "/healthz":
            return self._health()
        if path != "/metrics":
            return _Answer(HTTPStatus.NOT_FOUND, b"there are /metrics and /healthz\n")
        if self.token is not None:
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                return _Answer(HTTPStatus.UNAUTHORIZED, b"a token is required\n", {"WWW-Authenticate": "Bearer"})
        elif not self._is_meant(headers.get("host", "")):
            return _Answer(HTTPStatus.MISDIRECTED_REQUEST, b"this host is not served without a token\n")
        if self._shown_at is None:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"no round has ended yet\n", {"Retry-After": "10"})
        if "gzip" in headers.get("accept-encoding", ""):
            self._zipped = self._zipped or gzip.compress(self._body, 1, mtime=0)
            return _Answer(HTTPStatus.OK, self._zipped, {"Content-Encoding": "gzip"}, CONTENT_TYPE)
        return _Answer(HTTPStatus.OK, self._body, type=CONTENT_TYPE)

    def _health(self) -> _Answer:
        if self._shown_at is None:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"no round has ended yet\n")
        age = self.elapsed() - self._shown_at
        good = age < _ROUND_WITHIN_SECONDS
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return _Answer(status, f"the last round ended {age:.0f} s ago\n".encode())

    def _is_meant(self, host: str) -> bool:
        """Whether the name by which it is asked is its own: a web page could have a name that leads to this machine."""
        if not _is_loopback(self.host):
            return True
        return _is_loopback(host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host)


def _is_loopback(host: str) -> bool:
    name = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _as_bytes(answer: _Answer, *, only_head: bool) -> bytes:
    headers = {
        **answer.headers,
        "Content-Type": answer.type,
        "Content-Length": str(len(answer.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if only_head else answer.body)
