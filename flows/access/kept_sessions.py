"""Sessions that a run keeps from one table to the next.

    async with keeping_sessions():                      by a flow, around its loads
        ...
            async with connect(address, side="source", keep=True) as origin:      by each load
                ...

A login costs both ends a fork, an authentication and cold catalog caches: 30 ms of a core for the two sessions of a
load, of which the load of a small table itself takes as much. Only a session whose block ended well, outside a
transaction, is kept. Whoever opens one with `keep` leaves nothing in it: no lock, no setting, no temporary table.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import asyncpg

from flows.access.prepared import Session
from flows.access.sessions import leave_session
from flows.failures.diagnose import CONNECTION_LOST
from flows.values.connection import DatabaseConnection
from flows.values.correlation import application_name
from flows.values.identifiers import quote_literal
from flows.values.settings import settings

#: Between two tables of a run there are some 0.05 s. A run whose last table takes an hour must not occupy more
#: connections than that table needs.
_LINGER_SECONDS = 1.0
#: The server keeps in a session what it learned of each table it used, some 20 kB: 2,000 tables would be 40 MB.
_USES = 100


@dataclass(slots=True, eq=False)
class KeptSession:
    """An open session, what opened it, and how often it was used."""

    connection: Session
    accepted: DatabaseConnection
    uses: int = 1


class _Keeper:
    """The idle sessions of one run, by URL and side; for one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: dict[tuple[str, str], list[KeptSession]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._has_ended = False

    @property
    def is_open_here(self) -> bool:
        """False in threads that inherited the context: their event loops are others."""
        return asyncio.get_running_loop() is self._loop and not self._has_ended

    def pop(self, url: str, side: str) -> KeptSession | None:
        """An idle session, the one used last."""
        idle = self._idle.get((url, side))
        return idle.pop() if idle else None

    def push(self, side: str, session: KeptSession) -> None:
        """Keep it for a while."""
        idle, uses = self._idle.setdefault((session.accepted.url, side), []), session.uses
        idle.append(session)

        def end_lingering() -> None:
            if session in idle and session.uses == uses:
                idle.remove(session)
                self._close(session)

        self._loop.call_later(_LINGER_SECONDS, end_lingering)

    def _close(self, session: KeptSession) -> None:
        task = self._loop.create_task(leave_session(session.connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def end(self) -> None:
        """Close all of them."""
        self._has_ended = True
        for idle in self._idle.values():
            while idle:
                self._close(idle.pop())
        await asyncio.gather(*self._closing, return_exceptions=True)


_keeper: ContextVar[_Keeper | None] = ContextVar("medallion_kept_sessions", default=None)


@asynccontextmanager
async def keeping_sessions() -> AsyncIterator[None]:
    """Within this block, sessions opened with `keep` are used again."""
    keeper = _Keeper()
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)
        await keeper.end()


async def take_kept(address: DatabaseConnection, side: str, application: str) -> KeptSession | None:
    """An idle session of this run that still answers, renamed; None if there is none."""
    keeper = _keeper.get()
    if keeper is None or not keeper.is_open_here:
        return None
    while (session := keeper.pop(address.url, side)) is not None:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, *CONNECTION_LOST):
            async with asyncio.timeout(settings().connect_timeout_seconds):
                name = quote_literal(application_name(application))
                await session.connection.execute(f"set application_name = {name}")
            session.uses += 1
            session.connection.begin_use()
            return session
        session.connection.terminate()
    return None


def keep(session: KeptSession, side: str) -> bool:
    """Keep the session for the next load of this run; False: the caller closes it."""
    keeper, connection = _keeper.get(), session.connection
    if keeper is None or not keeper.is_open_here or session.uses >= _USES or connection.is_in_transaction():
        return False
    keeper.push(side, session)
    return True
