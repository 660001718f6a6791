"""One load's surroundings: the table's lock, its row in the ledger, and an end that is always written down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from flows.access.addresses import connect
from flows.failures.cancellation import in_spite_of_cancellation
from flows.failures.diagnose import CONNECTION_LOST, diagnose, explain
from flows.failures.failpoints import pass_failpoint
from flows.landing.table import Target
from flows.missing_grants import note_refusal
from flows.state import ledger, reads, schema_changes, table_locks
from flows.state.blockers import STOPS_CHANGES, ending, in_the_way
from flows.values.connection import DatabaseConnection
from flows.values.errors import LoadLocked, MedallionError
from flows.values.plan import LoadCounts, LoadPlan
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Progress = Callable[[str, int], None]
"""Called with what is going on and the bytes so far."""

_LOCK_POLL_SECONDS = 0.25
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one load did. Plain values, so that it crosses processes as JSON."""

    source: str
    table: str
    batch_id: int
    mode: str
    path: str
    seconds: float
    counts: LoadCounts
    lower: str | None = None
    upper: str | None = None
    schema_changes: tuple[str, ...] = ()
    warning: str | None = None
    volume: str = "small"
    chunks: int = 1


@dataclass(slots=True)
class LoadSession:
    """A load under way. `side` says whose connection is in use, so that an error names the right one.

    `started` is a moment of the monotonic clock: before the table's lock was waited for.
    """

    warehouse: Connection[Record]
    target: Target
    run_id: int | None
    started: float
    batch_id: int = 0
    rows_read: int = 0
    side: str = "warehouse"

    def pass_failpoint(self, name: str) -> None:
        """Die here, when a test chose this place."""
        pass_failpoint(name, settings().failpoint)

    def result(
        self, plan: LoadPlan, counts: LoadCounts, schema_changes: tuple[str, ...] = (), chunks: int = 1
    ) -> LoadResult:
        """What the load did, once it is published: `plan` as it was carried out, in `chunks`."""
        return LoadResult(
            source=plan.source,
            table=plan.table,
            batch_id=self.batch_id,
            mode=plan.mode,
            path=plan.path,
            seconds=time.monotonic() - self.started,
            counts=counts,
            lower=plan.lower,
            upper=plan.upper,
            schema_changes=schema_changes,
            warning=plan.warning,
            volume=plan.reading.volume,
            chunks=chunks,
        )


@asynccontextmanager
async def load_session(
    address: DatabaseConnection, target: Target, mode: str, path: str, run_id: int | None, *, resumes: bool = False
) -> AsyncIterator[LoadSession]:
    """Lock the table, open its load in the ledger, and write down how it ends.

    With `resumes` a load whose read was interrupted is taken up again under its old batch id.

    Raises:
        LoadLocked: another run held the lock all the while we waited.
        MedallionError: whatever happened inside, in words without values.
    """
    started = time.monotonic()
    async with connect(address, side="warehouse", application=f"medallion load {target.where}") as warehouse:
        session = LoadSession(warehouse, target, run_id, started)
        await _lock(session)
        try:
            session.pass_failpoint("after_lock")
            session.batch_id = await _open(session, mode, path, resumes)
            session.pass_failpoint("after_load_opened")
            await _wait_for_workers(session)
            yield session
        except (Exception, asyncio.CancelledError) as problem:
            error = await in_spite_of_cancellation(_write_down(address, session, problem))
            if error is problem or isinstance(problem, asyncio.CancelledError):
                raise
            raise error from None  # the cause's own words may quote rows
        finally:
            if not warehouse.is_closed() and not warehouse.is_in_transaction():
                # A session that is gone has given its lock back, and must not hide how the load ended.
                with contextlib.suppress(*CONNECTION_LOST, asyncpg.OperatorInterventionError):
                    await table_locks.unlock_table(warehouse, target.source, target.table)


async def _lock(session: LoadSession) -> None:
    target = session.target
    until = time.monotonic() + settings().lock_wait_seconds
    while not await _try_lock(session):
        if time.monotonic() >= until:
            holder = await ledger.running_load(session.warehouse, target.source, target.table)
            held = f"batch {holder[0]}, running since {holder[1]:%Y-%m-%d %H:%M:%S} UTC, holds" if holder else "holds"
            raise LoadLocked(
                f"another run ({held} the table's lock)" if holder else "another run holds the table's lock",
                where=target.where,
                fix="wait for it to end; a run that died gives the lock back by itself",
                retryable=True,
            )
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _try_lock(session: LoadSession) -> bool:
    try:
        return await table_locks.lock_table(session.warehouse, session.target.source, session.target.table)
    except asyncpg.PostgresError as problem:  # it writes: the warehouse may have become a standby
        raise explain(problem, session.target.where) from None


async def _open(session: LoadSession, mode: str, path: str, resumes: bool) -> int:
    names = (session.target.source, session.target.table)
    if resumes:
        batch_id = await reads.reopen(session.warehouse, session.run_id, *names, settings().resume_hours)
        if batch_id is not None:
            return batch_id
    return await ledger.open_load(session.warehouse, session.run_id, *names, mode, path)


async def _wait_for_workers(session: LoadSession) -> None:
    """Let the workers of a load that died end: the server may not yet have noticed that nobody is there."""
    until = time.monotonic() + settings().lock_wait_seconds
    while not await table_locks.workers_ended(session.warehouse, session.target.source, session.target.table):
        if time.monotonic() >= until:
            raise LoadLocked(
                "workers of an earlier load of the table are still at work in the warehouse",
                where=session.target.where,
                fix="wait; if it lasts, end the sessions named `medallion load` in pg_stat_activity",
                retryable=True,
            )
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _write_down(address: DatabaseConnection, session: LoadSession, problem: BaseException) -> MedallionError:
    """Record the failure on a connection that works, and return the error to raise."""
    # A session that the warehouse ended while the source was read is found out only when the next bytes are due.
    side = "warehouse" if session.warehouse.is_closed() else session.side
    if not session.warehouse.is_closed() and session.warehouse.is_in_transaction():
        # A cancelled rollback: the locks on the ledger's row would keep the end from being written down.
        session.warehouse.terminate()
    if side == "warehouse" and isinstance(problem, asyncpg.InsufficientPrivilegeError):
        await note_refusal(problem, side, address)
    failure = diagnose(problem, session.target.where, side)
    if type(failure.error) is MedallionError:
        # Nobody foresaw it. Where it happened is kept, its words are not: they may quote rows.
        frames = "".join(traceback.format_tb(problem.__traceback__))
        _log.error("%s: unexpected %s (%s)\n%s", session.target.where, type(problem).__name__, failure.error_id, frames)
    failure.error.__dict__["error_id"] = failure.error_id

    async def write(connection: Connection[Record]) -> None:
        if side == "warehouse" and isinstance(problem, asyncpg.LockNotAvailableError):
            await _name_blockers(connection, session.target, failure.error)
        facts = failure.facts(session.run_id, session.batch_id)
        await ledger.fail_load(
            connection, session.batch_id, failure.status, failure.error_id, str(failure.error), session.rows_read
        )
        await ledger.record_error(connection, facts)
        if refused := failure.error.__dict__.get("changes"):
            names = (session.target.source, session.target.table)
            await schema_changes.record_refused(connection, *names, session.batch_id, refused)

    try:
        async with asyncio.timeout(settings().connect_timeout_seconds), connect(address, side="warehouse") as fresh:
            await write(fresh)
    except (MedallionError, asyncpg.PostgresError, *CONNECTION_LOST):
        # The warehouse itself is gone: the next load of the table closes this one's row, and the run's log has it.
        pass
    return failure.error


async def _name_blockers(connection: Connection[Record], target: Target, error: MedallionError) -> None:
    """Say who keeps the table of raw, as far as they are still there."""
    found = await in_the_way(connection, target.raw_schema, target.table, STOPS_CHANGES)
    if found:
        error.what += "; in use: " + "; ".join(map(str, found[:5]))
        error.fix += f"; if they do not end: {ending(found)}"


async def settle(address: DatabaseConnection, session: LoadSession) -> LoadCounts | None:
    """What became of a COMMIT whose answer was lost: the published counts, or None when it did not happen.

    The old session may still be at work, so its lock is waited for: the server frees it when that session has ended.
    """
    target = session.target
    async with connect(address, side="warehouse") as fresh:
        probe = LoadSession(fresh, target, session.run_id, session.started, session.batch_id)
        await _lock(probe)
        try:
            if await ledger.load_status(fresh, session.batch_id) != "published":
                return None
            return await ledger.load_counts(fresh, session.batch_id)
        finally:
            await table_locks.unlock_table(fresh, target.source, target.table)
