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
from flows.state.advisory_locks import LOAD_LOCK_CLASS, NO_TABLE, WORKER_LOCK_CLASS

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
                    "another transform is running, or schema ops is being upgraded",
                    where="transform",
                    next_move="wait for it to end; one that died gives the lock back by itself",
                    retryable=True,
                )
            time.sleep(_POLL_SECONDS)
        yield


def _try(connection: psycopg.Connection) -> bool:
    # Shared for this statement, as in ledger.lock_table: no run begins while schema ops is being upgraded.
    row = connection.execute(
        "select case when pg_try_advisory_xact_lock_shared(%s, %s) then pg_try_advisory_lock(%s, %s) else false end",
        [LOAD_LOCK_CLASS, NO_TABLE, WORKER_LOCK_CLASS, NO_TABLE],
    ).fetchone()
    return row is not None and bool(row[0])
