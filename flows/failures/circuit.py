"""A circuit breaker for sources, shared by all runs.

    closed     requests are sent
    open       after several consecutive failed loads; no requests for a while
    half-open  the time is over, and one load tests the source: it closes the circuit, or opens it for twice as long

Only transient failures of the source count: a wrong key or a refused row does not show whether it is up, and a
source that limits the rate (429) is up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flows.state import circuits
from flows.values.errors import PlaceLost, RateLimited, SourceUnavailable
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


class CircuitOpen(SourceUnavailable):
    """The source's circuit is open."""


@asynccontextmanager
async def guarded(connection: Connection[Record], source: str, where: str) -> AsyncIterator[None]:
    """Call the source within this block; the result updates its circuit.

    Raises:
        CircuitOpen: the circuit is open, or another load is testing the source.
    """
    limits = settings()
    if (refusal := await circuits.admit(connection, source)) is not None:
        raise _open(refusal, source, where)
    try:
        yield
    except SourceUnavailable as problem:
        if not connection.is_closed() and not isinstance(problem, PlaceLost):
            if isinstance(problem, RateLimited):
                await circuits.worked(connection, source)
            else:
                await circuits.failed(
                    connection,
                    source,
                    problem.what,
                    limits.circuit_failures,
                    limits.circuit_seconds,
                    limits.circuit_longest_seconds,
                )
        raise
    except BaseException:
        # Any other error does not mean that the source is down; a test that ends so has found it up.
        if not connection.is_closed() and not connection.is_in_transaction():
            await circuits.worked(connection, source)
        raise
    await circuits.worked(connection, source)


def _open(refusal: circuits.Refusal, source: str, where: str) -> CircuitOpen:
    if refusal.state == "half-open":
        return CircuitOpen(
            f"the circuit of {source} is half-open: another load is testing the API now",
            where=where,
            fix="wait for that load; if it succeeds, the circuit closes",
            retryable=True,
        )
    error = CircuitOpen(
        f"the circuit of {source} is open for {refusal.wait:.0f} s more: {refusal.what}",
        where=where,
        fix="the first load after that tests the API; to test it now, set retry_at = now() in ops.circuits",
        retryable=True,
    )
    error.__dict__["retry_after"] = refusal.wait
    return error
