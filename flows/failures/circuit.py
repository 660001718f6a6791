"""A circuit breaker for sources: one that is out of order is left alone, by all runs.

    closed     it is asked
    open       after some loads in a row that found it out of order; nobody asks it for a while
    half-open  the while is over, and one load tries it: it works, and the circuit closes; or it opens for twice as long

Only failures of the source that may pass count: a wrong key or a refused row says nothing about whether it is up, and a
source that asks for patience (429) is up.
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
    """The source is left alone for now."""


@asynccontextmanager
async def guarded(connection: Connection[Record], source: str, where: str) -> AsyncIterator[None]:
    """Ask the source within this block, and its circuit learns how it ended.

    Raises:
        CircuitOpen: the source is left alone now, or another load is trying it.
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
        # Whatever went wrong was not the source's being down; a trial that shows nothing else has found it up.
        if not connection.is_closed() and not connection.is_in_transaction():
            await circuits.worked(connection, source)
        raise
    await circuits.worked(connection, source)


def _open(refusal: circuits.Refusal, source: str, where: str) -> CircuitOpen:
    if refusal.state == "half-open":
        return CircuitOpen(
            f"{source} has been out of order, and another load is trying it now",
            where=where,
            fix="wait for that load; if it works, the next attempt goes through",
            retryable=True,
        )
    error = CircuitOpen(
        f"{source} is left alone for {refusal.wait:.0f} s more: {refusal.what}",
        where=where,
        fix="the first load after that tries it; to try at once, set state = 'closed' in ops.circuits",
        retryable=True,
    )
    error.__dict__["retry_after"] = refusal.wait
    return error
