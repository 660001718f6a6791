"""Classification of failures: each gets a class, a severity and a strategy, and a text without values of rows.

PostgreSQL's errors are classified in sqlstates; this module handles the rest: connections, certificates, timeouts.
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
    BudgetReached,
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
    """How a failure is handled."""

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

# What asyncpg raises for a lost connection. InternalClientError is among it: a server that ends an idle session sends
# the reason before it closes the connection, and a query in between finds the protocol out of sync.
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
    """A failure as it is recorded: an id, its class, and the error with a safe text."""

    error_id: str
    failure_class: FailureClass
    severity: str
    strategy: Strategy
    error: MedallionError

    @property
    def status(self) -> str:
        """The run's final status: data was refused, a source requested a later retry, a budget was reached, or it
        failed."""
        if isinstance(self.error, RateLimited):
            return "rescheduled"
        if isinstance(self.error, BudgetReached):
            return "stopped"
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
    """The exception as a MedallionError, with the class that decides how it is handled."""
    if isinstance(exception, MedallionError):
        return exception
    if (answer := Answer.of(exception)) is not None:
        role, grants = (getattr(exception, facts, {}).get(side, "") for facts in ("roles", "grants"))
        return explain_answer(answer, where, side, role, grants)
    if _is_lost_by_libpq(exception):
        return explain_libpq(exception, where=where, side=side)
    # A connection that ends during the TLS handshake counts as lost.
    if isinstance(exception, ssl.SSLError) and not isinstance(exception, ssl.SSLEOFError):
        # OpenSSL's text names the host and nothing else.
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
            fix=f"check that the {side} is up and reachable; the next run resumes from the last commit",
            retryable=True,
        )
        error.failure_class = FailureClass.TRANSIENT
        return error
    # The text of an unknown exception may contain anything, so only its type is shown; the traceback is in the log.
    return MedallionError(
        f"unexpected {type(exception).__name__}",
        where=where,
        fix="read the traceback in this run's log; if it is a bug of medallion, report it",
    )


def _is_lost_by_libpq(exception: BaseException) -> bool:
    # psycopg's and psycopg2's OperationalError without a SQLSTATE, recognised by module: only dbt installs the latter.
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(exception).__mro__}
    return not kinds.isdisjoint({("psycopg", "OperationalError"), ("psycopg2", "OperationalError")})


def _is_time_limit_of_task(exception: BaseException) -> bool:
    # Prefect's own TimeoutError, recognised by module: this layer does not import Prefect.
    return isinstance(exception, TimeoutError) and type(exception).__module__.partition(".")[0] == "prefect"


def _stopped(where: str, side: str) -> MedallionError:
    """A task timeout arrives as a cancellation, so both have the same text."""
    error = (SourceError if side == "source" else WarehouseError)(
        "stopped from outside: cancelled, or longer than the task timeout (2 hours)",
        where=where,
        fix=f"if it was the timeout, find out what the {side} was waiting for (a lock, a slow query); "
        "the next run resumes from the last commit",
    )
    error.failure_class = FailureClass.RESOURCE
    return error
