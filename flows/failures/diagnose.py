"""Every failure gets a class, a severity and a strategy; and words that hold no value of any row.

What PostgreSQL answered is classified by sqlstates; here is the rest: connections, certificates, what is stopped.
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

from flows.values.errors import (
    DataRefused,
    FailureClass,
    MedallionError,
    RateLimited,
    SourceError,
    SourceUnavailable,
    WarehouseError,
)
from flows.values.libpq import certificate_refused, explain_libpq, no_tls
from flows.values.sqlstates import Answer, explain_answer


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
            "fix": self.error.fix,
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
    if (answer := Answer.of(exception)) is not None:
        role, grants = (getattr(exception, facts, {}).get(side, "") for facts in ("roles", "grants"))
        return explain_answer(answer, where, side, role, grants)
    if _is_lost_by_libpq(exception):
        return explain_libpq(exception, where=where, side=side)
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
            fix=f"check that the {side} is up and reachable; the next run goes on from the last commit",
            retryable=True,
        )
        error.failure_class = FailureClass.TRANSIENT
        return error
    # The text of an unknown exception may hold anything, so only its kind is told; the traceback stays in the log.
    return MedallionError(
        f"unexpected {type(exception).__name__}",
        where=where,
        fix="read the traceback in this run's log; if it is ours, report it",
    )


def _is_lost_by_libpq(exception: BaseException) -> bool:
    # psycopg's and psycopg2's OperationalError without a SQLSTATE, told by its home: dbt alone brings the latter.
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(exception).__mro__}
    return not kinds.isdisjoint({("psycopg", "OperationalError"), ("psycopg2", "OperationalError")})


def _is_time_limit_of_task(exception: BaseException) -> bool:
    # Prefect's own kind of TimeoutError, told by its home: this room does not know Prefect.
    return isinstance(exception, TimeoutError) and type(exception).__module__.partition(".")[0] == "prefect"


def _stopped(where: str, side: str) -> MedallionError:
    """A task's time limit reaches what runs in it as a cancellation, so both are told in the same words."""
    error = (SourceError if side == "source" else WarehouseError)(
        "stopped from outside: cancelled, or longer at work than a task may be (2 hours)",
        where=where,
        fix=f"if it was the time limit, find out what the {side} was waiting for (a lock, a slow query); "
        "the next run goes on from the last commit",
    )
    error.failure_class = FailureClass.RESOURCE
    return error
