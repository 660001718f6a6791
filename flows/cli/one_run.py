"""A command of the command line as one run: one correlation id, one span, logs in the configured form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from flows.observe import logs, tracing
from flows.values.correlation import CORRELATION_VARIABLE, TRACEPARENT_VARIABLE, correlated
from flows.values.settings import settings

# They run for weeks and are no run themselves: what they start has ids of its own.
_SERVICES = frozenset({"watch", "worker", "up", "demo"})


@contextmanager
def as_one_run(command: str) -> Iterator[None]:
    """Run a command under one id: that of the environment, else a new one."""
    logs.write_as(settings().log_format)
    if command in _SERVICES:
        for variable in (CORRELATION_VARIABLE, TRACEPARENT_VARIABLE):
            os.environ.pop(variable, None)
        yield
        return
    tracing.start(settings().environment)
    try:
        with correlated(), tracing.span(f"medallion {command}"):
            yield
    finally:
        tracing.stop()
