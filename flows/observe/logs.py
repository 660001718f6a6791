"""Logs: one line per event with the run's correlation id, and without secrets or values of rows.

with correlated("ingest-20170103-7f3a"), about(source="shop", table="baskets", run=12):
    logger.info("published", extra={"rows": 69013})

{"time": "2017-01-03T06:15:02.113Z", "level": "INFO", "logger": "flows.tasks.tables", "message": "published",
 "correlation_id": "ingest-20170103-7f3a", "trace_id": "5b8e…", "source": "shop", "table": "baskets", "run": 12,
 "rows": 69013}

MEDALLION_LOG_FORMAT chooses the form: `json`, or `pretty` for people. Unset, Prefect's own handlers write as always.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Literal

from flows.observe.redaction import redact, redact_value
from flows.observe.wire_logs import keep_values_out
from flows.values.correlation import correlation_id, trace_id, traceparent
from flows.values.visible import visible

Form = Literal["json", "pretty"]
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "correlation_id", "about_what", "text_alone", "exception_text",
    "soda_thread_label",  # which Soda puts on the records of everybody, once it is imported
}  # fmt: skip
# Prefect has its own handlers on these loggers; their records do not propagate to the root logger.
_GUARDED = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "dbt", "dlt", "httpx", "httpx2")
# Loggers whose handlers may write to the console.
_WRITING = (*_GUARDED, "prefect._internal", "prefect.server", "prefect.extra", "uvicorn", "fastapi")
_about: ContextVar[Mapping[str, object]] = ContextVar("medallion_log_facts", default={})  # noqa: B039 - never changed


@contextmanager
def about(**facts: str | int) -> Iterator[None]:
    """Every line logged inside says so: source, table, run."""
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


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
            record.text_alone, record.exception_text = record.msg, record.exc_text
            record.msg, record.exc_info, record.exc_text = f"{record.msg}\n{record.exc_text}", None, None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name in set(vars(record)) - _STANDARD:
            value = getattr(record, name)
            # Prefect adds ids and objects to its records; only values that may contain text are rewritten.
            if isinstance(value, str | bytes | dict | list | tuple):
                clean = redact_value({name: value})
                setattr(record, name, clean[name] if isinstance(clean, dict) else clean)
        if not hasattr(record, "about_what"):  # a later handler may run in a thread without this context
            record.correlation_id, record.about_what = correlation_id(), _facts_here()
        return True


def _facts_here() -> dict[str, object]:
    """The trace, and what the current code is about."""
    parent = traceparent()
    parts = parent.split("-") if parent else []
    trace = parts[1] if len(parts) == 4 else trace_id()
    ids = ({"trace_id": trace} if trace else {}) | ({"span_id": parts[2]} if len(parts) == 4 else {})
    return ids | dict(_about.get())


def written_at(record: logging.LogRecord) -> datetime:
    """When the record was made, in UTC."""
    return datetime.fromtimestamp(record.created, UTC)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, correlation and trace ids, then the other fields.

    An exception is a field of its own. Whatever a field contains, the line has no line break, no control character and
    no character that cannot be encoded.
    """

    def __init__(self, *_of_logging: object) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": written_at(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": getattr(record, "text_alone", None) or record.getMessage(),
            "correlation_id": getattr(record, "correlation_id", "-"),
        }
        if exception := getattr(record, "exception_text", None):
            line["exception"] = exception
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        line |= getattr(record, "about_what", {}) | extra
        try:
            text = json.dumps(line, default=str, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError):  # a number that is none in JSON, an object within itself
            text = json.dumps({name: _plain(value) for name, value in line.items()}, ensure_ascii=False)
        return _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# What JSON allows inside a text although some readers break lines there, terminals obey it, or no encoding has it.
_BREAKS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _plain(value: object) -> object:
    """The value as JSON has it for certain."""
    return value if value is None or isinstance(value, str | bool | int) else str(redact_value(str(value)))


class PrettyFormatter(logging.Formatter):
    """For people: `06:15:02 INFO    flows.tasks.tables published source=shop table=baskets rows=69013`."""

    def __init__(self, *_of_logging: object) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        named = {"correlation_id": getattr(record, "correlation_id", "-")} | _shown_to_people(record)
        extra = "".join(f" {name}={visible(str(value))}" for name, value in named.items())
        text = getattr(record, "text_alone", None) or record.getMessage()
        exception = getattr(record, "exception_text", None)
        under = f"\n{exception}" if exception else ""
        return f"{written_at(record):%H:%M:%S} {record.levelname:<7} {record.name} {text}{extra}{under}"


def _shown_to_people(record: logging.LogRecord) -> dict[str, object]:
    """Extra fields without ids of traces and runs of Prefect: a screen has no room for them."""
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    facts = getattr(record, "about_what", {}) | extra
    hidden = ("trace_id", "span_id", "flow_run_id", "task_run_id", "flow_run_name", "task_run_name", "flow_name")
    return {name: value for name, value in facts.items() if name not in (*hidden, "task_name")}


class LineHandler(logging.StreamHandler[IO[str]]):
    """Writes whole lines, redacted, in one of our forms; to the standard error of the moment unless a stream is given.

    Prefect makes one for its workers, too, with the options of its own handler: see `environment_of_workers`.
    """

    def __init__(self, stream: IO[str] | None = None, form: Form = "json", **_of_prefect: object) -> None:
        super().__init__(stream or sys.stderr)
        self._follows = stream is None
        self.setFormatter(JsonFormatter() if form == "json" else PrettyFormatter())
        self.addFilter(RedactingFilter())

    def emit(self, record: logging.LogRecord) -> None:
        if self._follows and self.stream is not sys.stderr:
            self.stream = sys.stderr
        super().emit(record)


def configure(*, form: Form = "pretty", level: int = logging.INFO, stream: IO[str] | None = None) -> logging.Handler:
    """Log to `stream` (standard error), and put the redacting filter on all handlers, Prefect's too. Idempotent."""
    handler = LineHandler(stream, form)
    handler.name = "medallion"
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


def write_as(form: Form | None) -> None:
    """Have all that this process logs written in this form, Prefect's lines too; None leaves everything as it is.

    Handlers are replaced under their names: Prefect configures its own again at each flow run, by name.
    """
    if form is None:
        return
    logging.getLogger("flows").setLevel(logging.INFO)
    instead: dict[int, LineHandler] = {}
    for name in _WRITING:
        logger = logging.getLogger(name)
        for old in [each for each in logger.handlers if _is_console(each)]:
            new = instead.get(id(old))
            if new is None:
                new = instead[id(old)] = LineHandler(None, form)
                new.setLevel(old.level)
                new.name = old.name
            logger.removeHandler(old)
            logger.addHandler(new)
    if not logging.getLogger().handlers:
        configure(form=form)
    guard()


def _is_console(handler: logging.Handler) -> bool:
    """Whether it writes to this process's own output, in another form than ours."""
    if isinstance(handler, LineHandler) or not isinstance(handler, logging.StreamHandler):
        return False
    return handler.stream in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)


def environment_of_workers(form: Form | None) -> dict[str, str]:
    """Variables by which a Prefect worker, and the flow runs that it starts, log in this form from their first line."""
    if form is None:
        return {}
    own = f"{__name__}.{JsonFormatter.__name__ if form == 'json' else PrettyFormatter.__name__}"
    return {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": f"{__name__}.{LineHandler.__name__}",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
        "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": own,
    }


def guard() -> None:
    """Put the redacting filter on every handler of the loggers named here. Call it at the start of a flow run.

    A logger's filter sees only that logger's own records, not its children's; a handler's filter sees all of them.
    """
    keep_values_out()
    for name in _GUARDED:
        for handler in logging.getLogger(name).handlers:
            if not any(isinstance(present, RedactingFilter) for present in handler.filters):
                handler.addFilter(RedactingFilter())
