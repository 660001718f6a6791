"""Logs: one line per event with the run's correlation id, and without secrets or values of rows.

with correlated("ingest-20170103-7f3a"):
    logger.info("published", extra={"table": "shop.baskets", "rows": 69013})

{"time": "2017-01-03T06:15:02.113Z", "level": "INFO", "logger": "flows.tasks.tables", "message": "published",
 "correlation_id": "ingest-20170103-7f3a", "table": "shop.baskets", "rows": 69013}
"""

import json
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Literal

from flows.observe.redaction import redact, redact_value
from flows.observe.wire_logs import keep_values_out
from flows.values.visible import visible

# Child processes (dbt, a worker's flow run) use their parent's id.
CORRELATION_VARIABLE = "MEDALLION_CORRELATION_ID"
_correlation_id: ContextVar[str | None] = ContextVar("medallion_correlation_id", default=None)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "correlation_id"}
# Prefect has its own handlers on these loggers; their records do not propagate to the root logger.
_GUARDED = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "dbt", "dlt", "httpx", "httpx2")


def correlation_id() -> str:
    """The current correlation id: of this context, else of the parent process, else `-`."""
    return _correlation_id.get() or os.environ.get(CORRELATION_VARIABLE) or "-"


@contextmanager
def correlated(identifier: str | None = None) -> Iterator[str]:
    """Everything logged inside has this id; by default the current id, or a new one if there is none."""
    current = correlation_id()
    chosen = identifier or (current if current != "-" else uuid.uuid4().hex[:12])
    token = _correlation_id.set(chosen)
    try:
        yield chosen
    finally:
        _correlation_id.reset(token)


class RedactingFilter(logging.Filter):
    """Rewrites a record before any handler of its logger formats it: message, exception and extra fields.

    The exception is rendered here and its object dropped: a handler that renders `exc_info` itself, as Prefect's
    JSON formatter does, would otherwise print the original. It never drops a record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # wrong number of arguments: keep the record without its arguments
            message = str(record.msg)
        record.msg, record.args = visible(redact(message), lines=True), ()
        if record.exc_info:
            record.exc_text = visible(
                redact(record.exc_text or logging.Formatter().formatException(record.exc_info)), lines=True
            )
            record.msg, record.exc_info, record.exc_text = f"{record.msg}\n{record.exc_text}", None, None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name in set(vars(record)) - _STANDARD:
            value = getattr(record, name)
            # Prefect adds ids and objects to its records; only values that may contain text are rewritten.
            if isinstance(value, str | bytes | dict | list | tuple):
                clean = redact_value({name: value})
                setattr(record, name, clean[name] if isinstance(clean, dict) else clean)
        record.correlation_id = correlation_id()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, correlation_id, then the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "correlation_id": getattr(record, "correlation_id", "-"),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        return json.dumps(line, default=str, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """For people: `06:15:02 INFO  flows.tasks.tables published table=shop.baskets rows=69013`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        extra = "".join(
            f" {name}={visible(str(value))}" for name, value in vars(record).items() if name not in _STANDARD
        )
        return f"{time} {record.levelname:<7} {record.name} {record.getMessage()}{extra}"


def configure(
    *, form: Literal["json", "console"] = "console", level: int = logging.INFO, stream: IO[str] | None = None
) -> logging.Handler:
    """Log to `stream` (standard error), and put the redacting filter on all handlers, Prefect's too. Idempotent."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.name = "medallion"
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for old in [other for other in root.handlers if other.name == "medallion"]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # Below WARNING they log the URL of each request, whose query may contain a key. OpenLineage's client uses httpx2.
    for chatty in ("httpx", "httpcore", "httpx2", "httpcore2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    guard()
    return handler


def guard() -> None:
    """Put the redacting filter on every handler of the loggers named here. Call it at the start of a flow run.

    A logger's filter sees only that logger's own records, not its children's; a handler's filter sees all of them.
    """
    keep_values_out()
    for name in _GUARDED:
        for handler in logging.getLogger(name).handlers:
            if not any(isinstance(present, RedactingFilter) for present in handler.filters):
                handler.addFilter(RedactingFilter())
