"""Traces by OpenTelemetry: one per correlation id, from the command to each statement.

with span("load shop.baskets", source="shop", table="baskets") as one:
    one.set(rows=69013)

Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set: then nothing of OpenTelemetry is imported. The variables of OpenTelemetry
count (headers, timeout, sampler, service name, OTEL_SDK_DISABLED); spans go out by OTLP over HTTP.

Spans have our own texts only: names, counts, classes of errors, statements as templates. Our spans are not in the
global tracer provider, nor in OpenTelemetry's context: no library adds spans of its own, with values in them, and none
sends our trace context to somebody else's server.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from flows.observe.redaction import redact
from flows.values.correlation import TRACEPARENT_VARIABLE, correlation_id, traceparent, under_span
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from flows.observe.span_delivery import Delivery

Kind = Literal["internal", "client"]
Value = str | int | float | bool
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
#: At the end of a process, undelivered spans wait so long at most.
EXIT_SECONDS = 2.0
_log = logging.getLogger(__name__)
_tracing: _Tracing | None = None


class _Tracing:
    """A tracer and where its spans go, of one process."""

    def __init__(self, tracer: Tracer, delivery: Delivery) -> None:
        self.tracer, self.delivery, self.pid = tracer, delivery, os.getpid()


class OneSpan:
    """A span under way; without tracing, nothing."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def set(self, **attributes: Value | None) -> None:
        """Add attributes; those that are None are left out."""
        if self._span is not None:
            self._span.set_attributes(_safe(attributes))

    def failed(self, problem: BaseException) -> None:
        """Mark it as failed: by our own error's text, or another's type."""
        if self._span is not None:
            _mark(self._span, problem)


_NOTHING = OneSpan()


def endpoint() -> str:
    """Where spans go; empty: nowhere."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in ("otlp", ""):
        return ""
    return next((found for name in _ENDPOINTS if (found := os.environ.get(name, "").strip())), "")


def start(environment: str = "") -> bool:
    """Trace from here on if an endpoint is configured. Idempotent; whether spans are made. It never raises.

    A configuration that does not work must not end a load, so it is only logged.
    """
    global _tracing  # noqa: PLW0603 - one per process, as Sentry's client
    if not (to := endpoint()):
        return False
    if _tracing is not None and _tracing.pid == os.getpid():
        return True
    protocol = next((found for name in _PROTOCOLS if (found := os.environ.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        _log.warning("traces are off: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, the only protocol here")
        return False
    try:
        from flows.observe.span_delivery import delivered  # imports the SDK: 0.1 s

        _tracing = _Tracing(*delivered(environment, _place(to)))
    except Exception as problem:
        _log.warning("traces are off: OpenTelemetry did not start (%s)", type(problem).__name__)
        return False
    return True


def stop(seconds: float = EXIT_SECONDS) -> None:
    """Deliver what is left, within this time, and trace no more."""
    global _tracing
    ending, _tracing = _tracing, None
    if ending is not None and ending.pid == os.getpid():
        ending.delivery.finish(seconds)


def is_on() -> bool:
    """Whether spans are made in this process."""
    return _tracing is not None and _tracing.pid == os.getpid()


@contextmanager
def span(name: str, kind: Kind = "internal", /, **attributes: Value | None) -> Iterator[OneSpan]:
    """A span around this block, below the current one. An exception marks it as failed."""
    if not is_on():
        yield _NOTHING
        return
    made = _made(name, kind, attributes)
    context = made.get_span_context()
    here = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    try:
        with under_span(here):
            yield OneSpan(made)
    except BaseException as problem:
        _mark(made, problem)
        raise
    finally:
        made.end()


def finished(
    name: str,
    began: int,
    ended: int,
    attributes: Mapping[str, Value | None],
    problem: BaseException | str | None = None,
) -> None:
    """A span of something that has ended, below the current one; times are nanoseconds since 1970."""
    if not is_on():
        return
    made = _made(name, "client", attributes, began)
    if isinstance(problem, str):
        _mark_text(made, problem, "")
    elif problem is not None:
        _mark(made, problem)
    made.end(ended)


def now() -> int:
    """The time in nanoseconds, for `finished`."""
    return time.time_ns()


def _made(name: str, kind: Kind, attributes: Mapping[str, Value | None], began: int | None = None) -> Span:
    from opentelemetry import trace
    from opentelemetry.context import Context

    assert _tracing is not None
    context = Context()
    if (parent := _parent()) is not None:
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
    kinds = {"internal": trace.SpanKind.INTERNAL, "client": trace.SpanKind.CLIENT}
    facts = _safe({"medallion.correlation_id": correlation_id(), **attributes})
    return _tracing.tracer.start_span(redact(name), context, kinds[kind], facts, start_time=began)


def _parent() -> Any:
    """The current span of this context, else that of the process that started this one; None if there is neither."""
    from opentelemetry.trace import SpanContext, TraceFlags

    here = traceparent()
    with suppress(ValueError):
        _, trace_id, span_id, flags = (here or os.environ.get(TRACEPARENT_VARIABLE, "")).strip().split("-")
        found = SpanContext(int(trace_id, 16), int(span_id, 16), here is None, TraceFlags(int(flags, 16)))
        return found if found.is_valid else None
    return None


def _safe(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    """Attributes without those that are None, their texts redacted. Names of ours without a dot belong to us."""
    return {
        key if "." in key else f"medallion.{key}": redact(value) if isinstance(value, str) else value
        for key, value in attributes.items()
        if value is not None
    }


def _mark(span: Span, problem: BaseException) -> None:
    own = problem.what if isinstance(problem, MedallionError) else ""
    _mark_text(span, type(problem).__name__, own)


def _mark_text(span: Span, kind: str, text: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, redact(text) or None))


def _place(url: str) -> str:
    """The host of an endpoint, for log lines: its URL may have a token."""
    return urlsplit(url).hostname or "the collector"
