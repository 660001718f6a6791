"""The slot: made, made again when it was lost, advanced to what is committed; and snapshots at a position."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import psycopg

from flows.kinds.changelog import position
from flows.kinds.changelog.capture import Capture, look, refuse_unready
from flows.kinds.changelog.inbox import LOG
from flows.state import table_locks
from flows.values.connection import DatabaseConnection
from flows.values.errors import SourceError, SourceUnavailable

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.declare.database import Database

# Creating a slot waits for every open transaction that has written. `statement_timeout` does not end the wait,
# `lock_timeout` does, and leaves no slot.
_WAIT_SECONDS = 30
_FAILOVER_SINCE = 170_000


async def ensure_slot(origin: Connection[Record], source: Database, where: str) -> tuple[Capture, str | None]:
    """The source's capture with a slot that can be read, and what had to be done for that. The log must be locked.

    A slot that was lost is made again; one that retains more than the declared limit is advanced to the end of the log.
    Positions before it are then gaps, which are closed by comparing.

    Raises:
        ConfigurationError: the source is not set up for capture.
        SourceError: the slot cannot be made.
    """
    capture = await look(origin, source)
    refuse_unready(capture, where)
    if capture.is_readable and capture.retained <= capture.log.limit:
        return capture, None
    slot = capture.names.slot
    if capture.is_readable:
        note = f"slot {slot} retained {capture.retained / 1e9:,.1f} GB, more than max_retained: it was advanced unread"
        await origin.fetchval(
            "select end_lsn::text from pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", slot
        )
        return await look(origin, source), note
    note = f"slot {slot} was lost ({capture.lost}) and made again" if capture.has_slot else f"slot {slot} was made"
    if capture.has_slot:
        await origin.fetchval("select pg_drop_replication_slot($1)", slot)
    await create_slot(origin, capture, where)
    return await look(origin, source), note


async def create_slot(origin: Connection[Record], capture: Capture, where: str) -> None:
    """Make the slot.

    Raises:
        SourceError: the server refuses it; or transactions that have written stay open.
    """
    more = ", failover => true" if capture.version >= _FAILOVER_SINCE and not capture.standby else ""
    try:
        async with origin.transaction():
            await origin.execute(f"set local lock_timeout = '{_WAIT_SECONDS}s'")
            await origin.fetchval(
                f"select slot_name::text from pg_create_logical_replication_slot($1, 'pgoutput'{more})",
                capture.names.slot,
            )
    except asyncpg.LockNotAvailableError:
        raise _open_transactions(where) from None
    except asyncpg.ConfigurationLimitExceededError:
        raise _too_many_slots(where) from None


def _open_transactions(where: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"the log cannot be read from a consistent position, because a transaction that has written has been open for "
        f"{_WAIT_SECONDS} s",
        where=where,
        fix="the load is retried automatically; end that transaction: pg_stat_activity and pg_prepared_xacts show it",
        retryable=True,
    )


def _too_many_slots(where: str) -> SourceError:
    return SourceError(
        "all replication slots of the source are in use",
        where=where,
        fix="raise max_replication_slots at the source, which needs a restart, or drop slots that nobody reads",
        retryable=True,
    )


async def advance(warehouse: Connection[Record], origin: Connection[Record], source: Database) -> None:
    """Advance the slot to what is committed for every table, unless another load reads the log: then its end does."""
    if not await table_locks.lock_table(warehouse, source.name, LOG):
        return
    try:
        await advance_locked(warehouse, origin, source)
    finally:
        await table_locks.unlock_table(warehouse, source.name, LOG)


async def advance_locked(warehouse: Connection[Record], origin: Connection[Record], source: Database) -> Capture:
    """Advance the slot to what is committed for every table. The log must be locked. Returns the capture before."""
    capture = await look(origin, source)
    reached = await position.positions(warehouse, source.name, [table.name for table in source.tables])
    at = [value for value in reached.values() if value is not None]
    if not at or len(at) < len(reached):
        return capture  # a snapshot is being read, which needs what follows it
    if capture.is_readable and capture.confirmed is not None and min(at) > capture.confirmed:
        with contextlib.suppress(asyncpg.ObjectInUseError):
            await origin.fetchval(
                "select end_lsn::text from pg_replication_slot_advance($1, $2::text::pg_lsn)",
                capture.names.slot,
                position.text(min(at)),
            )
    return capture


@dataclass(slots=True)
class Exporter:
    """Exports a snapshot of the source at a position of its log, by a slot that ends with the session.

    The server takes both at once, so that every transaction is either in the snapshot or in the log behind `position`.
    """

    address: DatabaseConnection
    where: str
    position: int = 0
    _session: psycopg.Connection | None = field(default=None, repr=False)

    async def snapshot(self) -> str:
        """The snapshot's name; it can be joined until `close`."""
        try:
            return await asyncio.to_thread(self._export)
        except psycopg.errors.LockNotAvailable:
            raise _open_transactions(self.where) from None
        except psycopg.errors.ConfigurationLimitExceeded:
            raise _too_many_slots(self.where) from None
        except psycopg.errors.InsufficientPrivilege:
            raise SourceError(
                "the role that reads the source has no REPLICATION attribute",
                where=self.where,
                fix="run `medallion capture setup`, which shows what needs an administrator",
            ) from None
        except psycopg.OperationalError:
            raise SourceUnavailable(
                "no replication connection to the source could be opened",
                where=self.where,
                fix="the load is retried automatically; if it repeats, check max_wal_senders and pg_hba.conf at the "
                "source, and that no pooler is between",
                retryable=True,
            ) from None

    def _export(self) -> str:
        # A replication connection: only its command exports the snapshot, and asyncpg cannot read the answer.
        self._session = psycopg.connect(self.address.url, replication="database", autocommit=True)
        self._run(f"set lock_timeout = '{_WAIT_SECONDS}s'")
        name = f"medallion_tmp_{secrets.token_hex(6)}"
        found = self._run(f'CREATE_REPLICATION_SLOT "{name}" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT')
        point, snapshot = found.get_value(0, 1), found.get_value(0, 2)
        assert point is not None  # the command's columns, by the protocol
        assert snapshot is not None
        self.position = position.number(point.decode())
        return snapshot.decode()

    def _run(self, command: str) -> psycopg.pq.abc.PGresult:
        assert self._session is not None  # opened by the caller
        result = self._session.pgconn.exec_(command.encode())
        if result.status not in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK):
            raise psycopg.errors.error_from_result(result)
        return result

    async def close(self) -> None:
        """End the session, its slot and the snapshot."""
        if self._session is not None:
            await asyncio.to_thread(self._session.close)
            self._session = None


@asynccontextmanager
async def exporting(address: DatabaseConnection, where: str) -> AsyncIterator[Exporter]:
    """An exporter for one read."""
    exporter = Exporter(address, where)
    try:
        yield exporter
    finally:
        await exporter.close()
