"""One transform at a time: a lock of the warehouse, which the server frees on any death of its holder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from flows.settings import settings
from flows.spec.connection import DatabaseConnection
from flows.spec.errors import LoadLocked
from flows.spec.libpq import explain_libpq

# Beside the class of the tables' locks, see ledger.
_TRANSFORM_LOCK_CLASS = 20_170_102
_POLL_SECONDS = 0.5


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
                raise LoadLocked(
                    "another transform is running",
                    where="transform",
                    next_move="wait for it to end; one that died gives the lock back by itself",
                    retryable=True,
                )
            time.sleep(_POLL_SECONDS)
        yield


def _try(connection: psycopg.Connection) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s, 0)", [_TRANSFORM_LOCK_CLASS]).fetchone()
    return row is not None and bool(row[0])
