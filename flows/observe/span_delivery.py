"""Spans on their way out, in a thread of their own: nothing waits for the collector, and memory is bounded.

The SDK's processor waits up to 30 s for its exporter at the end of a process, and logs a line for each span that it
drops, with the collector's URL in some of them. This one has a deadline, counts what is lost, and says so once.
"""

from __future__ import annotations

import atexit
import logging
import random
import threading
from collections import deque

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Tracer

from flows.values.correlation import trace_id

#: A span has about 1 kB: 8 MB at most.
_MOST_WAITING = 8_192
_BATCH = 512
_EVERY_SECONDS = 1.0
_log = logging.getLogger(__name__)
_chance = random.SystemRandom()


class TraceOfTheRun(IdGenerator):
    """One trace per correlation id, in whichever process: see `flows.values.correlation.trace_id`."""

    def generate_span_id(self) -> int:
        return _chance.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return int(trace_id() or "0", 16) or _chance.getrandbits(128) or 1


class Delivery(SpanProcessor):
    """Sends spans in batches from a daemon thread. When the queue is full, new spans are dropped and counted."""

    def __init__(self, exporter: SpanExporter, place: str, most: int = _MOST_WAITING) -> None:
        self.lost = 0
        self._exporter, self._place, self._most = exporter, place, most
        self._waiting: deque[ReadableSpan] = deque()
        self._wake, self._done = threading.Event(), threading.Event()
        self._ends = False
        threading.Thread(target=self._work, name="medallion-spans", daemon=True).start()

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._ends or len(self._waiting) >= self._most:
            self._lose(1)
            return
        self._waiting.append(span)
        if len(self._waiting) >= _BATCH:
            self._wake.set()

    def finish(self, seconds: float) -> None:
        """Send what is left; give up after so many seconds."""
        self._ends = True
        self._wake.set()
        if not self._done.wait(seconds):
            self._lose(len(self._waiting))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        self.finish(0)

    def _work(self) -> None:
        while not self._ends:
            self._wake.wait(_EVERY_SECONDS)
            self._wake.clear()
            self._send()
        self._send()  # what came while the last batch was on its way
        self._done.set()

    def _send(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                delivered = self._exporter.export(batch) is SpanExportResult.SUCCESS
            except Exception:  # whatever it is, the load must not notice
                delivered = False
            if not delivered:
                self._lose(len(batch))

    def _lose(self, count: int) -> None:
        if self.lost == 0 and count:
            _log.warning("spans cannot be delivered to %s; runs go on without", self._place)
        self.lost += count


def delivered(environment: str, place: str) -> tuple[Tracer, Delivery]:
    """A tracer of this process's own, whose spans go to the collector that OpenTelemetry's variables name."""
    # Its lines quote the collector's URL and answer. What matters, Delivery says.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    facts = {"service.name": "medallion", "deployment.environment.name": environment or "dev"}
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
    resource = Resource(facts).merge(Resource.create())
    provider = TracerProvider(resource=resource, id_generator=TraceOfTheRun(), shutdown_on_exit=False)
    delivery = Delivery(OTLPSpanExporter(), place)
    provider.add_span_processor(delivery)

    def at_exit() -> None:
        from flows.observe.tracing import stop

        stop()

    atexit.register(at_exit)
    return provider.get_tracer("medallion"), delivery
