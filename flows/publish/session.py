"""One load's session: the table's lock, its row in the ledger, and its recorded end."""

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
from flows.declare.ask import Ask
from flows.declare.source import Loadable
from flows.failures.cancellation import in_spite_of_cancellation
from flows.failures.diagnose import CONNECTION_LOST, diagnose, explain
from flows.failures.failpoints import pass_failpoint
from flows.failures.missing_grants import note_refusal
from flows.failures.sides import Sides
from flows.landing.table import Target
from flows.publish.strategy import strategy_of
from flows.quality.profile import Profiling
from flows.state import budgets, decisions, ledger, reads, schema_changes, table_locks
from flows.state.blockers import STOPS_CHANGES, ending, in_the_way
from flows.state.decisions import Origin
from flows.values import result_words
from flows.values.asking import waits
from flows.values.connection import DatabaseConnection
from flows.values.errors import BudgetReached, DecisionNeeded, LoadLocked, MedallionError
from flows.values.plan import LoadCounts, LoadPlan
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Progress = Callable[[str, int], None]
"""Called with the current step and the bytes so far."""

_LOCK_POLL_SECONDS = 0.25
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of one load. Plain values, so that it crosses processes as JSON.

    `stopped`: in words, that it stopped at a budget, so that the table is not complete. `requests`: those to an API.
    """

    source: str
    table: str
    batch_id: int
    strategy: str
    seconds: float
    counts: LoadCounts
    lower: str | None = None
    upper: str | None = None
    schema_changes: tuple[str, ...] = ()
    warning: str | None = None
    volume: str = "small"
    chunks: int = 1
    stopped: str | None = None
    requests: int = 0


@dataclass(slots=True)
class LoadSession(Sides):
    """A running load.

    `started` is a time of the monotonic clock, before waiting for the table's lock. `ask`: what a person is asked about
    in place of a refusal.
    `is_resumed`: the batch is that of an interrupted read. `is_stretch`: it commits many times.
    `profiling` is how its rows are profiled; None: they are not, because they say nothing of what a usual load brings.
    """

    warehouse: Connection[Record]
    target: Target
    run_id: int | None
    started: float
    batch_id: int = 0
    rows_read: int = 0
    side: str = "warehouse"
    is_resumed: bool = False
    is_stretch: bool = False
    ask: Ask | None = None
    profiling: Profiling | None = None

    def pass_failpoint(self, name: str) -> None:
        """Kill the process if a test configured this failpoint."""
        pass_failpoint(name, settings().failpoint)

    def result(
        self,
        plan: LoadPlan,
        counts: LoadCounts,
        table: Loadable,
        schema_changes: tuple[str, ...] = (),
        chunks: int = 1,
    ) -> LoadResult:
        """The result of the published load: `plan` as executed, in `chunks`."""
        noticed = result_words.warning(
            counts,
            self.target.where,
            plan.strategy,
            load=strategy_of(table),
            has_key=bool(table.keys),
            deletes=table.deletes,
        )
        return LoadResult(
            source=plan.source,
            table=plan.table,
            batch_id=self.batch_id,
            strategy=plan.strategy,
            seconds=time.monotonic() - self.started,
            counts=counts,
            lower=plan.lower,
            upper=plan.upper,
            schema_changes=schema_changes,
            warning="; ".join(part for part in (plan.warning, noticed) if part) or None,
            volume=plan.reading.volume,
            chunks=chunks,
        )


@asynccontextmanager
async def load_session(
    address: DatabaseConnection, target: Target, strategy: str, run_id: int | None, *, resumes: bool = False
) -> AsyncIterator[LoadSession]:
    """Lock the table, open its load in the ledger, and record its end.

    With `resumes`, a load with an interrupted read is resumed under its old batch id.

    Raises:
        LoadLocked: another run held the lock during the full wait.
        MedallionError: any failure inside, with a text without values.
    """
    started = time.monotonic()
    application = f"medallion load {target.where}"
    async with connect(address, side="warehouse", application=application, keep=True) as warehouse:
        session = LoadSession(warehouse, target, run_id, started)
        await _lock(session)
        try:
            session.pass_failpoint("after_lock")
            all_published = await _open(session, strategy, resumes)
            session.pass_failpoint("after_load_opened")
            if not all_published:
                await _wait_for_workers(session)
            yield session
        except (Exception, asyncio.CancelledError) as problem:
            error = await in_spite_of_cancellation(_write_down(address, session, problem))
            if error is problem or isinstance(problem, asyncio.CancelledError):
                raise
            raise error from None  # the cause's text may quote rows
        finally:
            if not warehouse.is_closed() and not warehouse.is_in_transaction():
                # A lost session has released its lock, and must not hide the result of the load.
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
                fix="wait until it ends; if a run dies, its lock is released automatically",
                retryable=True,
            )
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _try_lock(session: LoadSession) -> bool:
    try:
        return await table_locks.lock_table(session.warehouse, session.target.source, session.target.table)
    except asyncpg.PostgresError as problem:  # it writes: the warehouse may have become a standby
        raise explain(problem, session.target.where) from None


async def _open(session: LoadSession, strategy: str, resumes: bool) -> bool:
    """Open the load, or resume an interrupted one; whether nothing of an earlier one can be active."""
    warehouse, run_id, names = session.warehouse, session.run_id, (session.target.source, session.target.table)
    opened = await ledger.open_unless_unpublished(warehouse, run_id, *names, strategy)
    if opened is not None:
        session.batch_id = opened
        return True
    resumed = await reads.reopen(warehouse, run_id, *names, settings().resume_hours) if resumes else None
    session.is_resumed = resumed is not None
    session.batch_id = resumed or await ledger.open_load(warehouse, run_id, *names, strategy)
    return False


async def _wait_for_workers(session: LoadSession) -> None:
    """Wait until the workers of a dead load end: the server may not yet have noticed the lost connection."""
    until = time.monotonic() + settings().lock_wait_seconds
    while not await table_locks.workers_ended(session.warehouse, session.target.source, session.target.table):
        if time.monotonic() >= until:
            raise LoadLocked(
                "workers of an earlier load of the table are still active in the warehouse",
                where=session.target.where,
                fix="wait; if they do not end, terminate the sessions named `medallion load` in pg_stat_activity",
                retryable=True,
            )
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _write_down(address: DatabaseConnection, session: LoadSession, problem: BaseException) -> MedallionError:
    """Record the failure on a working connection, and return the error to raise."""
    # A session that the warehouse ended while the source was read is noticed only with the next bytes.
    side = "warehouse" if session.warehouse.is_closed() else session.side
    if not session.warehouse.is_closed() and session.warehouse.is_in_transaction():
        # A cancelled rollback: its locks on the ledger's row would prevent recording the end.
        session.warehouse.terminate()
    if side == "warehouse" and isinstance(problem, asyncpg.InsufficientPrivilegeError):
        await note_refusal(problem, side, address)
    failure = diagnose(problem, session.target.where, side)
    if type(failure.error) is MedallionError:
        # Unforeseen. The traceback is kept, the text is not: it may quote rows.
        frames = "".join(traceback.format_tb(problem.__traceback__))
        _log.error("%s: unexpected %s (%s)\n%s", session.target.where, type(problem).__name__, failure.error_id, frames)
    failure.error.__dict__["error_id"] = failure.error_id

    async def write(connection: Connection[Record]) -> None:
        if side == "warehouse" and isinstance(problem, asyncpg.LockNotAvailableError):
            await _name_blockers(connection, session.target, failure.error)
        if isinstance(failure.error, BudgetReached):
            await budgets.stop_load(connection, session.batch_id, failure.error.what, session.rows_read)
            return
        # The error before the load's end, whose alert tells it; the question before both, since they name its number.
        async with connection.transaction():
            await _ask(connection, session, failure.error)
            await ledger.record_error(connection, failure.facts(session.run_id, session.batch_id))
            await ledger.fail_load(
                connection, session.batch_id, failure.status, failure.error_id, str(failure.error), session.rows_read
            )
        if refused := failure.error.__dict__.get("changes"):
            names = (session.target.source, session.target.table)
            await schema_changes.record_refused(connection, *names, session.batch_id, refused)

    try:
        async with asyncio.timeout(settings().connect_timeout_seconds), connect(address, side="warehouse") as fresh:
            await write(fresh)
    except (MedallionError, asyncpg.PostgresError, *CONNECTION_LOST):
        # The warehouse is lost: the next load of the table closes this one's row, and the run's log has the error.
        pass
    return failure.error


async def _ask(connection: Connection[Record], session: LoadSession, error: MedallionError) -> None:
    """Store the error's question; or that a person's refusal is used up."""
    target = session.target
    if isinstance(error, DecisionNeeded) and session.ask is not None:
        origin = Origin(target.where, target.source, target.table, session.run_id, session.batch_id)
        question = error.__dict__["question"]
        number, is_new = await decisions.raise_question(connection, question, error.what, origin, session.ask)
        waits(error, number, is_new=is_new)
    elif (answer := error.__dict__.get("answer")) is not None:
        await decisions.use(connection, [answer], session.run_id, session.batch_id)


async def _name_blockers(connection: Connection[Record], target: Target, error: MedallionError) -> None:
    """Name the sessions that lock raw's table, if they still exist."""
    found = await in_the_way(connection, target.raw_schema, target.table, STOPS_CHANGES)
    if found:
        error.what += "; in use: " + "; ".join(map(str, found[:5]))
        error.fix += f"; if they do not end: {ending(found)}"


async def settle(address: DatabaseConnection, session: LoadSession) -> LoadCounts | None:
    """The outcome of a COMMIT whose answer was lost: the published counts, or None if it did not happen.

    The old session may still be active, so wait for its lock: the server releases it when that session has ended.
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
