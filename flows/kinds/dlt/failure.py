"""Errors of dlt sources as our errors.

Texts of dlt and of users' code quote records, URLs and secrets. So only exception types, code locations, HTTP statuses
and names of fields are passed on.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from flows.kinds.dlt.json import NotJson, no_json
from flows.values.errors import ConfigurationError, MedallionError, SourceError, SourceUnavailable

# Connection errors of HTTP and database libraries, by name: none of them need be installed.
_UNREACHABLE = frozenset(
    ["ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ChunkedEncodingError", "ConnectError",
     "ReadError", "RemoteProtocolError", "ProtocolError", "MaxRetryError", "RetryError", "TimeoutException"]
)  # fmt: skip
_BY_ITSELF = "the load is retried automatically, from the last published state"
_NO_CURSOR = frozenset(
    ["IncrementalCursorPathMissing", "IncrementalCursorPathHasValueNone", "IncrementalCursorInvalidCoercion"]
)


def not_installed(where: str) -> ConfigurationError:
    """The error for a missing extra."""
    return ConfigurationError("dlt is not installed", where=where, fix="run `uv sync --extra dlt`, then again")


def explain(problem: Exception, where: str) -> MedallionError:
    """An exception of a dlt source. Our own errors are returned unchanged."""
    cause = _innermost(problem)
    if isinstance(cause, MedallionError):
        return cause
    if isinstance(cause, NotJson):
        return no_json(cause.kind, where)
    kind = type(cause).__name__
    if kind == "ConfigFieldMissingException":
        return _lacks_configuration(cause, where)
    if kind == "ConfigValueCannotBeCoercedException":
        return ConfigurationError(
            f"dlt found a value of the wrong type for {getattr(cause, 'field_name', 'a setting')}",
            where=where,
            fix="correct it where it is set: in the environment, or in .dlt/secrets.toml or config.toml",
        )
    if kind in _NO_CURSOR:
        return SourceError(
            f"a record lacks the cursor's field, or has a value of another type there ({kind})",
            where=where,
            fix="compare a record with the resource's dlt.sources.incremental(…); its on_cursor_value_missing "
            "decides about records without it",
        )
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(status, int):
        return _http_status(status, where)
    if (
        isinstance(cause, ConnectionError | TimeoutError | socket.gaierror)
        or kind in _UNREACHABLE
        or _connection_lost(cause)
    ):
        return SourceUnavailable(f"the source does not respond ({kind})", where=where, fix=_BY_ITSELF, retryable=True)
    return SourceError(
        f"the source raised {kind}{_place(cause)}",
        where=where,
        fix="call the source's function in a Python session to read the message: it may quote records, so it is "
        "not stored",
    )


def _innermost(problem: BaseException) -> BaseException:
    """The exception of the source's own code, without dlt's wrappers."""
    while type(problem).__name__ == "ResourceExtractionError" and problem.__cause__ is not None:
        problem = problem.__cause__
    return problem


def _place(problem: BaseException) -> str:
    """` in hubspot.py, line 42`, the innermost frame outside of installed packages."""
    theirs = ("site-packages", "/lib/python", "/flows/kinds/dlt_", "<")
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in theirs)]
    return f" in {own[-1].filename.rpartition('/')[2]}, line {own[-1].lineno}" if own else ""


def _http_status(status: int, where: str) -> MedallionError:
    what = f"the source answered HTTP {status}"
    if status in {401, 403}:
        return ConfigurationError(
            what, where=where, fix="check the key that dlt uses for the source, and its permissions"
        )
    if status in {408, 425, 429} or status >= 500:
        return SourceUnavailable(what, where=where, fix=_BY_ITSELF, retryable=True)
    return SourceError(what, where=where, fix="compare the source's endpoints and parameters with its documentation")


def _connection_lost(problem: BaseException) -> bool:
    """A connection error of SQLAlchemy, or PostgreSQL's by its SQLSTATE."""
    if getattr(problem, "connection_invalidated", False):
        return True
    state = getattr(getattr(problem, "orig", problem), "pgcode", None)
    return isinstance(state, str) and (state[:2] == "08" or state in {"57P01", "57P02", "57P03"})


def _lacks_configuration(problem: Any, where: str) -> ConfigurationError:
    names = ", ".join(str(name) for name in problem.fields)
    # Names of variables only: their values are next to them, and are not read.
    variables = list(_variables(problem.traces))
    example = f", such as {variables[0]}" if variables else ""
    return ConfigurationError(
        f"dlt found no value for {names}",
        where=where,
        fix=f"set it in the environment{example}, or in .dlt/secrets.toml",
    )


def _variables(looked_up: Mapping[str, Any]) -> Iterator[str]:
    """The environment variables that dlt tried, including those of nested settings."""
    for traces in looked_up.values():
        for trace in traces:
            if getattr(trace, "provider", "") == "Environment Variables":
                yield str(trace.key)
            elif hasattr(trace, "traces"):
                yield from _variables(trace.traces)
