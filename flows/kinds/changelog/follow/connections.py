"""The connections of a run that follows a source: opened together, and all opened again once one is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare.database import Database
from flows.failures.diagnose import CONNECTION_LOST
from flows.kinds.changelog.follow.commits import Ends
from flows.publish.following import Following

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Tables that commit at the same time.
_COMMITTING = 4
_LOCKED_SECONDS = 2


@dataclass(slots=True)
class Connections:
    """`log` reads the log, and `origin` asks the source everything else. `warehouse` has the locks and the inboxes.

    Commits have connections of their own at both ends, see `committing`; `comparing` one at the warehouse.
    """

    following: Following[Database]
    warehouse: Connection[Record]
    comparing: Connection[Record]
    log: Connection[Record]
    origin: Connection[Record]
    stack: AsyncExitStack
    _idle: list[Ends] = field(default_factory=list)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_COMMITTING))

    def is_lost(self, problem: BaseException) -> bool:
        """Whether an end is gone, and not only one table in trouble."""
        return isinstance(problem, CONNECTION_LOST) or self.warehouse.is_closed() or self.origin.is_closed()

    @asynccontextmanager
    async def committing(self) -> AsyncIterator[Ends]:
        """Connections for the commit of one table; those of a commit that failed are not used again."""
        async with self._turns:
            ends = self._idle.pop() if self._idle else await self._open()
            try:
                yield ends
            except BaseException:
                for connection in (ends.warehouse, ends.origin):
                    connection.terminate()
                raise
            self._idle.append(ends)

    async def _open(self) -> Ends:
        following, where = self.following, f"source {self.following.source.name}"
        warehouse = await self.stack.enter_async_context(
            connect(following.warehouse, side="warehouse", application=f"medallion follow {following.source.name}")
        )
        # Whoever locks a raw table for longer is waited for by an ordinary load, and not by the other tables.
        await warehouse.execute(f"set lock_timeout = '{_LOCKED_SECONDS}s'")
        origin = await self.stack.enter_async_context(
            connect(following.address, side="source", application=f"medallion read {where}")
        )
        return Ends(following.source, warehouse, origin, following.warehouse, following.address, following.run_id)


@asynccontextmanager
async def connected(following: Following[Database]) -> AsyncIterator[Connections]:
    """Both ends, opened.

    Raises:
        MedallionError: one cannot be reached.
    """
    name, where = f"medallion follow {following.source.name}", f"medallion read source {following.source.name}"
    async with AsyncExitStack() as stack:

        async def opened(at_source: bool) -> Connection[Record]:
            side = (
                connect(following.address, side="source", application=where)
                if at_source
                else connect(following.warehouse, side="warehouse", application=name)
            )
            return await stack.enter_async_context(side)

        warehouse, comparing = await opened(False), await opened(False)
        log, origin = await opened(True), await opened(True)
        async with contextlib.AsyncExitStack() as commits:
            yield Connections(following, warehouse, comparing, log, origin, commits)
