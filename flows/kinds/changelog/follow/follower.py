"""Follows a source's log: rounds of reading and committing, until told to stop.

A round reads the log once, in cuts of some 50,000 changes, and commits each table's changes of a cut with its position.
A table that cannot follow has an ordinary load, which may take its time and fail: the others go on. If the source or
the warehouse is down, it waits and begins again from the stored positions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import explain
from flows.kinds.changelog.follow.connections import Connections, connected
from flows.kinds.changelog.follow.rounds import Rounds
from flows.publish.following import Following
from flows.state import table_locks
from flows.values.errors import BudgetReached, LoadLocked
from flows.values.settings import settings

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.25
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0


async def follow_log(following: Following[Database]) -> None:
    """Follow until stopped, until the time is up, or until caught up.

    Raises:
        LoadLocked: another run follows the source.
        BudgetReached: a budget of the run or the source is used up. What was committed stays.
        MedallionError: nothing can follow until a person has acted: the error says what to do.
    """
    where, wait = f"source {following.source.name}", _FIRST_WAIT_SECONDS
    tables = [table for table in following.tables if isinstance(table, Table)]
    rounds = Rounds(following, tables)
    try:
        while not following.is_over:
            began = time.monotonic()
            try:
                async with connected(following) as connections, _held(connections, where):
                    await rounds.run(connections)
                return
            except (LoadLocked, BudgetReached):
                raise
            except Exception as problem:
                error = explain(problem, where, rounds.side)
                if not error.retryable:
                    raise error from None
            if time.monotonic() - began > _LONGEST_WAIT_SECONDS:
                wait = _FIRST_WAIT_SECONDS
            _log.warning("%s; following goes on in %.1f s", error, wait)
            following.tell(f"waiting: {error.what}")
            await _pause(following, wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
    finally:
        await rounds.leave_all()


async def _pause(following: Following[Database], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(following.stop.wait(), seconds)


@contextlib.asynccontextmanager
async def _held(connections: Connections, where: str) -> AsyncIterator[None]:
    """The lock that only one run follows the source by, and that of the run, which the warehouse may have lost."""
    warehouse, following = connections.warehouse, connections.following
    until = time.monotonic() + settings().lock_wait_seconds
    while not await table_locks.lock_table(warehouse, following.source.name, table_locks.FOLLOWED):
        if time.monotonic() >= until or following.is_over:
            raise LoadLocked(
                "another run follows the source",
                where=where,
                fix="none needed if it is to go on; else stop it: `medallion runs` shows it",
            )
        await asyncio.sleep(_POLL_SECONDS)
    if following.run_id is not None:
        await warehouse.fetchval("select ops.take_lock($1)", f"run {following.run_id}")
    yield
