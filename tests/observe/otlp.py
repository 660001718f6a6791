"""A collector of OpenTelemetry in this process: what is sent to it by OTLP over HTTP, as spans."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span as the collector got it; ids in hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    message: str


@dataclass
class Collector:
    """`hangs` until it is released: a collector that takes requests and never answers."""

    hangs: bool = False
    status: int = 200
    spans: list[Received] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.released = threading.Event()
        self.asked = threading.Event()

    def __enter__(self) -> Collector:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.asked.set()
                if collector.hangs:
                    collector.released.wait(60)
                    return
                collector.take(body)
                collector.headers.append(dict(self.headers))
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: bytes) -> None:
        """Decode a request."""
        self.bodies.append(body)
        asked = ExportTraceServiceRequest.FromString(body)
        for resource in asked.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [
                    Received(
                        each.name,
                        each.trace_id.hex(),
                        each.span_id.hex(),
                        each.parent_span_id.hex(),
                        {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in each.attributes},
                        each.status.code == 2,
                        each.status.message,
                    )
                    for each in scope.spans
                ]

    def named(self, name: str) -> list[Received]:
        """The spans of that name."""
        return [each for each in self.spans if each.name == name]

    def above(self, one: Received) -> list[str]:
        """The names of the spans above one, the nearest first."""
        by_id = {each.span_id: each for each in self.spans}
        names = []
        while (parent := by_id.get(one.parent_id)) is not None:
            names.append(parent.name)
            one = parent
        return names


@contextmanager
def took() -> Iterator[list[float]]:
    """The seconds that a block took."""
    seconds: list[float] = []
    began = time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - began)
