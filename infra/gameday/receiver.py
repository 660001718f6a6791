"""What is outside of the platform: the receiver of its alerts, and the dead man's switch that its watch pings."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.local.ports import HOST


@dataclass(frozen=True)
class Message:
    """A message that was accepted: when, its key, and its content."""

    at: float
    key: str
    content: Mapping[str, Any]

    @property
    def event(self) -> str:
        """Its event: opened, grew, changed, resolved, …"""
        return str(self.content["event"])

    @property
    def alerts(self) -> list[str]:
        """Its alerts, as `load failed game.events`."""
        return [f"{alert['name']} {alert['subject']}" for alert in self.content["alerts"]]


@dataclass
class Receiver:
    """Accepts messages unless it is `down`, and notes each ping."""

    down: bool = False
    accepted: list[Message] = field(default_factory=list, init=False)
    refused: int = field(default=0, init=False)
    pinged_at: float = field(default=0.0, init=False)
    _server: ThreadingHTTPServer | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """Where messages are sent."""
        return f"{self._address}/alerts"

    @property
    def ping_url(self) -> str:
        """Where the watch says that it lives."""
        return f"{self._address}/ping"

    @property
    def _address(self) -> str:
        assert self._server is not None
        return f"http://{HOST}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen on a free port."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                status = receiver.take(self.headers.get("Idempotency-Key", ""), body)
                self._end(status)

            def do_GET(self) -> None:
                receiver.pinged_at = time.time()
                self._end(200)

            def _end(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True).start()

    def stop(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def take(self, key: str, body: bytes) -> int:
        """The status by which a message is answered."""
        if self.down:
            self.refused += 1
            return 503
        self.accepted.append(Message(time.time(), key, json.loads(body)))
        return 200
