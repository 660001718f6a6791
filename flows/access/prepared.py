"""Sessions that prepare what they are asked once more.

A statement with parameters costs two round trips and is parsed twice when it is not kept, of which a load of a small
table has fifty: most of its time. What a session was asked for one table and is asked for the next is therefore
prepared, and from then on costs one round trip and no parsing.

Poolers that give each transaction another server's session lose prepared statements. Such a pooler answers with a
process id of its own, since it is none of the server's sessions: behind one, nothing is prepared.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.access.commented import Commented
from flows.values.errors import FailureClass, MedallionError

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.prepared_stmt import PreparedStatement

#: More texts than a load has that do not name its table; what comes beyond is not prepared.
_KNOWN = 500
#: Statements that a session lost: this process is behind a pooler that answers like a server, and prepares no more.
_lost: list[str] = []


class Session(Commented):
    """A connection that prepares statements when a later use repeats them. A use is one load: see `begin_use`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._first_seen: dict[int, int] = {}
        self._statements: dict[str, PreparedStatement[Record]] = {}
        self._use = 1
        self._is_direct: bool | None = None
        # Never the name of another client's statement: then the worst of a pooler not recognized is an error.
        self._prefix = f"medallion_{secrets.token_hex(6)}"

    def begin_use(self) -> None:
        """What was asked before, and is asked again from now on, is worth preparing."""
        self._use += 1

    async def fetch(self, query: str, *args: object, **options: Any) -> Any:
        """See asyncpg."""
        if not options and (statement := await self._prepared(query)):
            return await self._run(statement, statement.fetch, args)
        return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: object, **options: Any) -> Any:
        """See asyncpg."""
        if not options and (statement := await self._prepared(query)):
            return await self._run(statement, statement.fetchrow, args)
        return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: object, **options: Any) -> Any:
        """See asyncpg."""
        if not options and (statement := await self._prepared(query)):
            return await self._run(statement, statement.fetchval, args)
        return await super().fetchval(query, *args, **options)

    async def execute(self, query: str, *args: object, **options: Any) -> str:
        """See asyncpg. Without parameters, it is one round trip anyway."""
        if args and not options and (statement := await self._prepared(query)):
            await self._run(statement, statement.fetch, args)
            return statement.get_statusmsg() or ""
        return await super().execute(query, *args, **options)

    async def _prepared(self, query: str) -> PreparedStatement[Record] | None:
        if statement := self._statements.get(query):
            return statement
        text = hash(query)
        if text not in self._first_seen:
            if len(self._first_seen) < _KNOWN:
                self._first_seen[text] = self._use
            return None
        if self._first_seen[text] == self._use or not await self._keeps_statements():
            return None
        name = f"{self._prefix}_{len(self._statements)}"
        self._statements[query] = await self.prepare(query, name=name)
        return self._statements[query]

    async def _keeps_statements(self) -> bool:
        if self._is_direct is None:
            self._is_direct = await super().fetchval("select pg_catalog.pg_backend_pid()") == self.get_server_pid()
        return self._is_direct and not _lost

    async def _run(
        self,
        statement: PreparedStatement[Record],
        run: Callable[..., Awaitable[Any]],
        args: tuple[object, ...],
    ) -> Any:
        try:
            return await run(*args)
        except asyncpg.InvalidSQLStatementNameError:
            _lost.append(statement.get_name())
        except asyncpg.InvalidCachedStatementError:
            pass  # a table has other columns now
        error = MedallionError(
            "a statement that the session had prepared can no longer be used",
            where=f"session {self.get_server_pid()}",
            fix="none needed: the next attempt prepares it again",
            retryable=True,
        )
        error.failure_class = FailureClass.TRANSIENT
        raise error
