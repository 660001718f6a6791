"""An HTTP API with one list in pages, which fails on request."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from infra.local.ports import HOST

Mode = Literal["fine", "500", "401", "html", "contradiction"]

_PAGE = b"<!doctype html><html><body><h1>Please log in</h1></body></html>"


@dataclass
class GameApi:
    """The API, in threads of its own. `items` are what it lists by id; `mode` may be changed at any time."""

    key: str = field(repr=False)
    mode: Mode = "fine"
    items: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _server: ThreadingHTTPServer | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """Its address."""
        assert self._server is not None
        return f"http://{HOST}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen on a free port."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                number, size = int(asked.get("page", ["1"])[0]), int(asked.get("limit", ["25"])[0])
                status, kind, body = api.answer(number, size, self.headers.get("X-API-Key", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="game api", daemon=True).start()

    def stop(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, page: int, size: int, key: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a page."""
        mode = self.mode
        if mode == "500":
            return 500, "application/json", b'{"error": "internal"}'
        if mode == "401" or key != self.key:
            return 401, "application/json", b'{"error": "unauthorized"}'
        if mode == "html":
            return 200, "text/html; charset=utf-8", _PAGE
        with self.lock:
            listed = [self.items[number] for number in sorted(self.items)]
        found = listed[(page - 1) * size : page * size]
        if mode == "contradiction" and page > 1:
            # There are more, by its own total, and it gives none.
            found = []
        return 200, "application/json", json.dumps({"data": found, "total": len(listed)}).encode()
