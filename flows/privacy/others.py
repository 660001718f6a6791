"""Transactions of others that may have read a subject before it was deleted, and write it afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_POLL_SECONDS = 0.1
# Every transaction holds the lock of its own virtual id; who may not see sessions of others sees these.
_OPEN = """
select l.virtualtransaction
from pg_locks as l
inner join pg_stat_activity as a on l.pid = a.pid
where l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.granted
    and a.datname = current_database() and l.pid <> pg_backend_pid()
"""


async def open_transactions(connection: Connection[Record], *, wait_seconds: float) -> tuple[int, int]:
    """Wait for the transactions that are open now, such as builds of `medallion dev build`, as `create index
    concurrently` does. Returns how many there were, and how many were still open after the wait."""
    until = time.monotonic() + wait_seconds
    opened = {row[0] for row in await connection.fetch(_OPEN)}
    began = len(opened)
    while opened and time.monotonic() < until:
        await asyncio.sleep(_POLL_SECONDS)
        opened &= {row[0] for row in await connection.fetch(_OPEN)}
    return began, len(opened)
