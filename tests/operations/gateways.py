"""A receiver of pushed metrics on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr

from infra.local.ports import any_free


@dataclass
class Gateway:
    """A receiver of metrics: what it took, and how it answers."""

    port: int
    answers: list[int] = field(default_factory=lambda: [200])
    taken: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"http://medallion:s3cret@127.0.0.1:{self.port}/metrics/job/medallion")


@contextmanager
def gateway() -> Iterator[Gateway]:
    receiver = Gateway(any_free())

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            receiver.taken.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(receiver.answers[0])
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
