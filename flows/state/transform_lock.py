"""One transform at a time: a lock in the warehouse, which the server releases on any death of its holder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

import psycopg

from flows.values.connection import DatabaseConnection
from flows.values.correlation import application_name
from flows.values.errors import LoadLocked
from flows.values.libpq import explain_libpq
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_POLL_SECONDS = 0.5
_TRY = "select ops.take_lock('transform')"
_HOLDER = "select taken_at, pid from ops.locks where name = 'transform' and ops.is_held(key, pid, account)"


@contextmanager
def transform_lock(address: DatabaseConnection, *, wait_seconds: float) -> Iterator[None]:
    """Hold the warehouse's transform lock. `address` is the loader's URL: only it may take locks of `ops.locks`.

    Two parallel builds would conflict on temporary tables and could snapshot a row twice.

    Raises:
        LoadLocked: another transform held it during the full wait.
        ConfigurationError: the login is refused, or the certificate is invalid.
        WarehouseError: the warehouse does not respond.
    """
    try:
        connection = psycopg.connect(
            address.url,
            autocommit=True,
            application_name=application_name("medallion transform"),
            connect_timeout=max(2, round(settings().connect_timeout_seconds)),
        )
    except psycopg.OperationalError as problem:
        raise explain_libpq(problem, where=address.safe_address) from None
    with connection:
        until = time.monotonic() + wait_seconds
        while not _try(connection):
            if time.monotonic() >= until:
                raise _busy("transform", connection.execute(_HOLDER).fetchone())
            time.sleep(_POLL_SECONDS)
        yield


@asynccontextmanager
async def transform_turn(connection: Connection[Record], *, wait_seconds: float, where: str) -> AsyncIterator[None]:
    """The same lock in an open session, for work that must not run while models are built.

    Raises:
        LoadLocked: another transform held it during the full wait.
    """
    until = time.monotonic() + wait_seconds
    while not await connection.fetchval(_TRY):
        if time.monotonic() >= until:
            holder = await connection.fetchrow(_HOLDER)
            raise _busy(where, tuple(holder) if holder is not None else None)
        await asyncio.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("select ops.release_lock('transform')")


def _busy(where: str, holder: tuple[Any, ...] | None) -> LoadLocked:
    return LoadLocked(
        f"another transform is running since {holder[0].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC (session {holder[1]})"
        if holder
        else "schema ops is being upgraded",
        where=where,
        fix="wait until it ends; if it dies, its lock is released automatically",
        retryable=True,
    )


def _try(connection: psycopg.Connection) -> bool:
    row = connection.execute(_TRY).fetchone()
    return row is not None and bool(row[0])
