"""Every failure gets a class, a severity and a strategy; and words that hold no value of any row.

PostgreSQL quotes rows in DETAIL, and values even in the first line of errors of class 22 and 23. Only what is known
to be safe is passed on: the SQLSTATE, its name, and the first line where its class speaks of objects and not of values.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from flows.spec.errors import (
    ConfigurationError,
    DataRefused,
    FailureClass,
    MedallionError,
    RateLimited,
    SourceError,
    SourceUnavailable,
    WarehouseError,
)
from flows.spec.libpq import certificate_refused, no_tls


class Strategy(StrEnum):
    """What is done about a failure."""

    RETRY = "back off and retry"
    WAIT = "wait until the resource is there; no hot retry"
    QUARANTINE = "quarantine and continue, up to the threshold"
    ASK = "ask a person"


STRATEGIES: dict[FailureClass, tuple[Strategy, str]] = {
    FailureClass.TRANSIENT: (Strategy.RETRY, "warning"),
    FailureClass.RESOURCE: (Strategy.WAIT, "critical"),
    FailureClass.DATA: (Strategy.QUARANTINE, "error"),
    FailureClass.SCHEMA: (Strategy.ASK, "error"),
    FailureClass.BUSINESS: (Strategy.ASK, "error"),
    FailureClass.PERMANENT: (Strategy.ASK, "error"),
}

_TRANSIENT_STATES = frozenset(["40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "53300", "25006"])
_RESOURCE_STATES = frozenset(["53000", "53100", "53200", "53400"])
# Connections, features, transactions, rights, names, resources, limits, states, operators, files. Not 22 (data) and 23
# (constraints), which quote values; nor those that extensions, foreign servers and people's own functions use.
_CLASSES_THAT_SPEAK_OF_OBJECTS = frozenset(
    ["08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"]
)
# The files of PostgreSQL in which procedural languages raise what a function's author wrote.
_SOURCES_OF_RAISE = frozenset(["pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"])
_CONFIGURATION_STATES = frozenset(["28P01", "28000", "3D000"])

# What asyncpg raises when nobody is at the other end. InternalClientError among it: a server that ends an idle session
# says why before it closes the connection, and whoever asks it something in between meets a protocol out of step.
CONNECTION_LOST = (
    OSError,
    socket.gaierror,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is recorded: an id to ask by, its class, and the error in safe words."""

    error_id: str
    failure_class: FailureClass
    severity: str
    strategy: Strategy
    error: MedallionError

    @property
    def status(self) -> str:
        """How a run ends with it: data was refused, a source asked to come back later, or something failed."""
        if isinstance(self.error, RateLimited):
            return "rescheduled"
        return "refused" if isinstance(self.error, DataRefused) else "failed"

    def facts(self, run_id: int | None, batch_id: int | None) -> dict[str, Any]:
        """The row of ops.errors."""
        return {
            "error_id": self.error_id,
            "run_id": run_id,
            "batch_id": batch_id,
            "failure_class": self.failure_class.value,
            "severity": self.severity,
            "strategy": self.strategy.value,
            "location": self.error.where,
            "what": self.error.what,
            "next_move": self.error.next_move,
            "retryable": self.error.retryable,
        }


def diagnose(exception: BaseException, where: str, side: str = "warehouse") -> Failure:
    """The failure behind an exception. `side` is "source" or "warehouse": whose connection raised it."""
    error = explain(exception, where, side)
    strategy, severity = STRATEGIES[error.failure_class]
    return Failure(f"E-{uuid.uuid4().hex[:10]}", error.failure_class, severity, strategy, error)


def explain(exception: BaseException, where: str, side: str = "warehouse") -> MedallionError:
    """The exception in our words, with the class that decides what is done about it."""
    if isinstance(exception, MedallionError):
        return exception
    if isinstance(exception, asyncpg.PostgresError):
        return _explain_postgres(exception, where, side)
    # A connection that ends in the middle of TLS is a lost one.
    if isinstance(exception, ssl.SSLError) and not isinstance(exception, ssl.SSLEOFError):
        # OpenSSL's own words: they name the host and no more.
        reason = str(getattr(exception, "verify_message", ""))
        return certificate_refused(where, side, reason.rstrip("."))
    if isinstance(exception, ConnectionError) and "rejected SSL upgrade" in str(exception):
        return no_tls(where, side)
    if isinstance(exception, asyncio.CancelledError) or _is_time_limit_of_task(exception):
        return _stopped(where, side)
    if isinstance(exception, CONNECTION_LOST):
        kind = SourceUnavailable if side == "source" else WarehouseError
        error = kind(
            f"the connection to the {side} failed ({type(exception).__name__})",
            where=where,
            next_move=f"check that the {side} is up and reachable; the next run goes on from the last commit",
            retryable=True,
        )
        error.failure_class = FailureClass.TRANSIENT
        return error
    # The text of an unknown exception may hold anything, so only its kind is told; the traceback stays in the log.
    return MedallionError(
        f"unexpected {type(exception).__name__}",
        where=where,
        next_move="read the traceback in this run's log; if it is ours, report it",
    )


def _is_time_limit_of_task(exception: BaseException) -> bool:
    # Prefect's own kind of TimeoutError, told by its home: this room does not know Prefect.
    return isinstance(exception, TimeoutError) and type(exception).__module__.partition(".")[0] == "prefect"


def _stopped(where: str, side: str) -> MedallionError:
    """A task's time limit reaches what runs in it as a cancellation, so both are told in the same words."""
    error = (SourceError if side == "source" else WarehouseError)(
        "stopped from outside: cancelled, or longer at work than a task may be (2 hours)",
        where=where,
        next_move=f"if it was the time limit, find out what the {side} was waiting for (a lock, a slow query); "
        "the next run goes on from the last commit",
    )
    error.failure_class = FailureClass.RESOURCE
    return error


def _canceled(what: str, message: str, where: str, side: str) -> MedallionError:
    """A statement that was stopped: a person's doing, or else the time limit, in whatever language the server says so.

    Run again, it would take as long again.
    """
    kind = SourceError if side == "source" else WarehouseError
    if "user request" in message:
        return kind(what, where=where, next_move="somebody stopped the statement: ask who and why, then run again")
    error = kind(
        what,
        where=where,
        next_move="raise MEDALLION_STATEMENT_TIMEOUT_SECONDS, or find out what makes the statement slow "
        f"on the {side}; then run again",
    )
    error.failure_class = FailureClass.RESOURCE
    return error


def _explain_postgres(exception: asyncpg.PostgresError, where: str, side: str) -> MedallionError:
    state = exception.sqlstate or "?????"
    name = type(exception).__name__.removesuffix("Error")
    # What somebody's own function raises may quote anything, under any SQLSTATE; so may a query it composed.
    facts = exception.as_dict()
    own_words = facts.get("server_source_filename") in _SOURCES_OF_RAISE or "internal_query" in facts
    safe = state[:2] in _CLASSES_THAT_SPEAK_OF_OBJECTS and not own_words
    message = f": {exception.args[0]}" if safe and exception.args else ""
    what = f"the {side} answered {state} {name}{message}"
    if state in _CONFIGURATION_STATES:
        return ConfigurationError(
            what,
            where=where,
            next_move=f"check user, password and database in the {side}'s URL or block, then run again",
        )
    if state == "57014":
        return _canceled(what, message, where, side)
    if state in _TRANSIENT_STATES or state[:2] == "08":
        kind = SourceUnavailable if side == "source" else WarehouseError
        error: MedallionError = kind(
            what, where=where, next_move="the load is tried again by itself, from the last commit", retryable=True
        )
        error.failure_class = FailureClass.TRANSIENT
        return error
    side_error = SourceError if side == "source" else WarehouseError
    if state in _RESOURCE_STATES:
        error = side_error(what, where=where, next_move=f"free disk or memory on the {side}, then run again")
        error.failure_class = FailureClass.RESOURCE
        return error
    if state[:2] in {"22", "23"}:
        error = side_error(
            what, where=where, next_move="a value does not fit raw's column: compare the staged rows with raw"
        )
        error.failure_class = FailureClass.DATA
        return error
    if state[:2] == "42":
        error = side_error(
            what, where=where, next_move="compare the declaration with the source's tables and our rights on them"
        )
        error.failure_class = FailureClass.SCHEMA if state != "42501" else FailureClass.PERMANENT
        return error
    return side_error(what, where=where, next_move=f"look {state} up in PostgreSQL's list of error codes")
