"""One table's changes of a cut, committed with its position; and the ledger's row that counts a stretch of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import CONNECTION_LOST
from flows.kinds.changelog import position
from flows.kinds.changelog.applying import apply_changes, keys_before
from flows.kinds.changelog.changes import Changes
from flows.kinds.changelog.follow.tables import Followed
from flows.publish.evolution import record_held
from flows.publish.run import LoadRun
from flows.publish.session import LoadSession
from flows.state import ledger, stretches, table_locks
from flows.values.connection import DatabaseConnection
from flows.values.errors import LoadLocked
from flows.values.plan import LoadCounts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_POLL_SECONDS = 0.05
# Whoever holds the table's lock longer has a load of its own under way, and moves the position.
_WAIT_SECONDS = 1.0
_STORED = "select cursor_value from ops.cursors where source_system = $1 and table_name = $2"


class MovedOn(Exception):
    """The table is not where following left it: another load has published it, or its columns have changed."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Two connections for commits of one table at a time, and the addresses that they lead to.

    `origin` is for values that the log leaves out, which are rare.
    """

    source: Database
    warehouse: Connection[Record]
    origin: Connection[Record]
    warehouse_address: DatabaseConnection
    source_address: DatabaseConnection
    run_id: int | None


async def commit(ends: Ends, followed: Followed, changes: Changes) -> LoadCounts:
    """Publish the changes, and count them in the table's stretch.

    Raises:
        MovedOn: another load has published the table meanwhile.
        LoadLocked: another load holds the table's lock.
        MedallionError: as a load raises it; nothing was committed.
    """
    async with _locked(ends, followed):
        begins = not followed.batch_id
        if begins:
            followed.batch_id = await _open(ends, followed)
        try:
            return await _publish(ends, followed, changes)
        except Exception:
            if begins:
                batch_id, followed.batch_id = followed.batch_id, 0
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, *CONNECTION_LOST):
                    await stretches.discard(ends.warehouse, batch_id)
            raise


async def _publish(ends: Ends, followed: Followed, changes: Changes) -> LoadCounts:
    session = _session(ends, followed)
    run = LoadRun[Database, Table](
        ends.warehouse_address,
        session,
        ends.origin,
        ends.source_address,
        ends.source,
        followed.table,
        spending=followed.spending,
    )
    run.spending.admit(changes.rows, changes.bytes)
    if not followed.keys_known:
        followed.keys, followed.keys_known = await keys_before(run, followed.planned), True
    if followed.planned.batch.held:
        await record_held(session, followed.planned.batch.held)
    applied = await apply_changes(run, followed.planned, changes, followed.keys, (), followed.counts)
    followed.counts = applied.counts.after(followed.counts)
    followed.keys, followed.stored, followed.moved = applied.keys, changes.ends, time.monotonic()
    followed.changed = True
    return applied.counts


async def show(ends: Ends, followed: Followed) -> None:
    """Store how far a table without changes has come, in its position and in the ledger.

    Raises:
        MovedOn: another load has published the table meanwhile.
    """
    async with _locked(ends, followed):
        names = (followed.target.source, followed.target.table)
        if not followed.batch_id:
            counts, upper = await stretches.last_counts(ends.warehouse, *names), position.text(followed.stored)
            followed.batch_id = await _open(ends, followed)
            await ledger.publish_load(ends.warehouse, followed.batch_id, counts, (upper, upper))
        positions = (position.text(followed.stored), position.text(followed.reached))
        if not await stretches.move(ends.warehouse, *names, positions, followed.batch_id):
            raise MovedOn
    followed.stored, followed.moved = followed.reached, time.monotonic()


async def _open(ends: Ends, followed: Followed) -> int:
    followed.began, followed.counts = time.monotonic(), LoadCounts()
    names = (followed.target.source, followed.target.table)
    return await ledger.open_load(ends.warehouse, ends.run_id, *names, stretches.FOLLOW)


def _session(ends: Ends, followed: Followed) -> LoadSession:
    return LoadSession(
        ends.warehouse, followed.target, ends.run_id, time.monotonic(), followed.batch_id, is_stretch=True
    )


@contextlib.asynccontextmanager
async def _locked(ends: Ends, followed: Followed) -> AsyncIterator[None]:
    """The table's lock, for one commit: other loads of the table find it free between two."""
    warehouse, names = ends.warehouse, (followed.target.source, followed.target.table)
    until = time.monotonic() + _WAIT_SECONDS
    while not await table_locks.lock_table(warehouse, *names):
        if time.monotonic() >= until:
            raise LoadLocked(
                "another load holds the table's lock",
                where=followed.target.where,
                fix="none needed: the table follows again once that load has ended",
                retryable=True,
            )
        await asyncio.sleep(_POLL_SECONDS)
    try:
        session = _session(ends, followed)
        session.pass_failpoint("after_lock")
        if await warehouse.fetchval(_STORED, *names) != position.text(followed.stored):
            raise MovedOn
        yield
    finally:
        if not warehouse.is_closed() and not warehouse.is_in_transaction():
            with contextlib.suppress(asyncpg.InterfaceError, *CONNECTION_LOST):
                await table_locks.unlock_table(warehouse, *names)
