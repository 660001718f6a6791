"""One transform at a time: a lock of the warehouse, which the server frees on any death of its holder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import psycopg

from flows.settings import settings
from flows.spec.connection import DatabaseConnection
from flows.spec.errors import LoadLocked
from flows.spec.libpq import explain_libpq
from flows.state.advisory_locks import LOAD_LOCK_CLASS, NO_TABLE, WORKER_LOCK_CLASS

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_POLL_SECONDS = 0.5
# Shared for the statement, as in table_locks.lock_table: no run begins while schema ops is being upgraded.
_TRY = (
    f"select case when pg_try_advisory_xact_lock_shared({LOAD_LOCK_CLASS}, {NO_TABLE}) "
    f"then pg_try_advisory_lock({WORKER_LOCK_CLASS}, {NO_TABLE}) else false end"
)


@contextmanager
def transform_lock(address: DatabaseConnection, *, wait_seconds: float) -> Iterator[None]:
    """Hold the warehouse's transform lock.

    Two builds at once would trip over each other's temporary tables and could snapshot a row twice.

    Raises:
        LoadLocked: another transform held it all the while we waited.
        ConfigurationError: it refuses the login, or its certificate does not hold.
        WarehouseError: it does not answer.
    """
    try:
        connection = psycopg.connect(
            address.url,
            autocommit=True,
            application_name="medallion transform",
            connect_timeout=max(2, round(settings().connect_timeout_seconds)),
        )
    except psycopg.OperationalError as problem:
        raise explain_libpq(problem, where=address.safe_address) from None
    with connection:
        until = time.monotonic() + wait_seconds
        while not _try(connection):
            if time.monotonic() >= until:
                raise _busy("transform")
            time.sleep(_POLL_SECONDS)
        yield


@asynccontextmanager
async def transform_turn(connection: Connection[Record], *, wait_seconds: float, where: str) -> AsyncIterator[None]:
    """The same lock, held by a session that is open, for what must not happen while models are built.

    Raises:
        LoadLocked: another transform held it all the while we waited.
    """
    until = time.monotonic() + wait_seconds
    while not await connection.fetchval(_TRY):
        if time.monotonic() >= until:
            raise _busy(where)
        await asyncio.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(f"select pg_advisory_unlock({WORKER_LOCK_CLASS}, {NO_TABLE})")


def _busy(where: str) -> LoadLocked:
    return LoadLocked(
        "another transform is running, or schema ops is being upgraded",
        where=where,
        next_move="wait for it to end; one that died gives the lock back by itself",
        retryable=True,
    )


def _try(connection: psycopg.Connection) -> bool:
    row = connection.execute(_TRY).fetchone()
    return row is not None and bool(row[0])
