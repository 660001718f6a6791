"""Sessions of the dashboard's role, which only reads: a few that are kept open, each statement bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.values.connection import DatabaseConnection

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Of the 12 that the role may open: a page never needs more than 3 at once, and there may be several dashboards.
_SESSIONS = 3
#: Nothing that a click starts may keep the warehouse busy for longer.
STATEMENT_SECONDS = 5
_BOUNDED = (
    "set default_transaction_read_only = on; "
    f"set statement_timeout = '{STATEMENT_SECONDS}s'; set lock_timeout = '2s'; set work_mem = '32MB'"
)


@dataclass(slots=True)
class Reader:
    """Opens sessions as the dashboard's role when they are first needed, and keeps them."""

    address: Callable[[], DatabaseConnection] = addresses.dashboard
    _idle: list[tuple[Connection[Record], AsyncExitStack]] = field(default_factory=list, init=False)
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SESSIONS), init=False)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection[Record]]:
        """A session for some reads.

        Raises:
            MedallionError: the warehouse cannot be reached.
        """
        async with self._free:
            connection, stack = await self._take()
            try:
                yield connection
            except BaseException:
                # Its state is not known: after a timeout of ours a statement may still run in it.
                connection.terminate()
                await stack.aclose()
                raise
            self._idle.append((connection, stack))

    async def _take(self) -> tuple[Connection[Record], AsyncExitStack]:
        while self._idle:
            connection, stack = self._idle.pop()
            if not connection.is_closed():
                return connection, stack
            await stack.aclose()
        stack = AsyncExitStack()
        connection = await stack.enter_async_context(
            addresses.connect(self.address(), side="warehouse", application="medallion dashboard")
        )
        await connection.execute(_BOUNDED)
        return connection, stack

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            _, stack = self._idle.pop()
            await stack.aclose()


@asynccontextmanager
async def bounded_loader() -> AsyncIterator[Connection[Record]]:
    """A session as the loader that reads, for what the dashboard's role may not: newest events are in raw."""
    async with addresses.connect(
        addresses.warehouse(), side="warehouse", application="medallion dashboard"
    ) as connection:
        await connection.execute(_BOUNDED)
        yield connection


@asynccontextmanager
async def operator() -> AsyncIterator[Connection[Record]]:
    """A session as the loader, for what an operator does: as the command line does it."""
    async with addresses.connect(
        addresses.warehouse(), side="warehouse", application="medallion dashboard"
    ) as connection:
        yield connection
