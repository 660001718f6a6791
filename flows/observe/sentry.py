"""Errors to Sentry, reduced to texts that we wrote ourselves.

By default the SDK sends local variables, the command line, request headers and bodies, and every exception's text:
these may contain customers' rows and API keys. So the integrations are an allow-list, and `before_send` keeps
the text of our own errors and of Python's programming errors, and withholds the text of all others.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration

from flows.observe.redaction import redact, redact_value
from flows.values.correlation import correlation_id

if TYPE_CHECKING:
    from sentry_sdk._types import Event, Hint
    from sentry_sdk.transport import Transport

WITHHELD = "text withheld: it may contain values of rows"
# Their texts name types, attributes and modules. ValueError and KeyError quote values, so they are not among them.
_PROGRAMMING_ERRORS = frozenset(
    {"TypeError", "AttributeError", "NameError", "ImportError", "ModuleNotFoundError", "NotImplementedError"}
    | {"UnboundLocalError", "RecursionError", "SyntaxError"}
)
_OWN_ERRORS = "flows.values.errors"
# Everything an event may carry. What is not here (request, user, extra, breadcrumbs, server_name, modules) is dropped.
_KEPT = frozenset(
    {"event_id", "timestamp", "platform", "level", "logger", "logentry", "message", "exception", "threads", "release"}
    | {"environment", "tags", "contexts", "sdk", "fingerprint", "transaction", "type"}
)
_CONTEXTS_KEPT = frozenset({"runtime", "os", "trace"})
_FRAME_DROPPED = frozenset({"vars", "pre_context", "post_context"})


def init(
    dsn: str | None,
    *,
    environment: str,
    release: str | None = None,
    transport: "Transport | Callable[[Event], None] | None" = None,
) -> bool:
    """Switch Sentry on, hardened. Returns whether a DSN is configured; without one, nothing is sent."""
    if not dsn:
        return False
    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release,
        transport=transport,
        # An allow-list. The defaults include the command line (argv), all modules, and every log line as breadcrumb.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[AtexitIntegration(), DedupeIntegration(), ExcepthookIntegration(), ThreadingIntegration()],
        include_local_variables=False,
        include_source_context=False,
        send_default_pii=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        attach_stacktrace=False,
        # Requests to sources must have no headers beyond those of their authentication.
        trace_propagation_targets=[],
        traces_sample_rate=None,
        enable_logs=False,
        send_client_reports=False,
        auto_session_tracking=False,
        server_name="",
        before_send=scrub,
        before_breadcrumb=lambda _crumb, _hint: None,
    )
    return True


def capture(error: BaseException) -> None:
    """Send an error that a flow has handled. Does nothing while Sentry is off."""
    sentry_sdk.capture_exception(error)


def scrub(event: "Event", _hint: "Hint") -> "Event | None":
    """The event reduced to what may be sent; an event that cannot be scrubbed is dropped."""
    try:
        clean: dict[str, Any] = {key: value for key, value in event.items() if key in _KEPT}
        for part in ("exception", "threads"):
            for entry in (clean.get(part) or {}).get("values") or []:
                _scrub_entry(entry)
        contexts = clean.get("contexts") or {}
        clean["contexts"] = {name: value for name, value in contexts.items() if name in _CONTEXTS_KEPT}
        if "message" in clean:
            clean["message"] = redact(str(clean["message"]))
        if "logentry" in clean:
            # `params` are the raw arguments, `formatted` is the message with its arguments.
            clean["logentry"] = {"message": redact(str(clean["logentry"].get("message", "")))}
        if "tags" in clean:
            clean["tags"] = redact_value(clean["tags"])
        clean["tags"] = {**dict(clean.get("tags") or {}), "correlation_id": correlation_id()}
    except Exception:
        return None
    return clean  # type: ignore[return-value]  # a plain dict again; the SDK's Event is a TypedDict of the same keys


def _scrub_entry(entry: dict[str, Any]) -> None:
    """An exception or a thread, in place."""
    if "value" in entry:
        entry["value"] = _allowed_text(entry)
    if "mechanism" in entry:
        entry["mechanism"].pop("data", None)
        entry["mechanism"].pop("meta", None)
    for frame in ((entry.get("stacktrace") or {}).get("frames")) or []:
        for name in _FRAME_DROPPED:
            frame.pop(name, None)


def _allowed_text(entry: dict[str, Any]) -> str:
    module, kind = entry.get("module"), entry.get("type")
    own = module == _OWN_ERRORS
    programming = module in (None, "builtins") and kind in _PROGRAMMING_ERRORS
    return redact(str(entry["value"])) if own or programming else WITHHELD
