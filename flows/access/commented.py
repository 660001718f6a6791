"""Statements that say which run they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from flows.values.correlation import comment

if TYPE_CHECKING:
    from asyncpg import Record

    _Connection = asyncpg.Connection[Record]
else:
    _Connection = asyncpg.Connection

# Shorter ones (begin, set, show) last no time, so that nobody looks for whose they are.
_LONG = 100


def commented(query: str, *, kept: bool = False) -> str:
    """The statement behind a comment with the correlation id, if it is long enough that somebody may see it run.

    In front, because `pg_stat_activity` cuts off the end. One that is `kept` by the session has no span in it: the same
    text runs under others later. Sessions are kept within a run.
    """
    return query if len(query) < _LONG else comment(traced=not kept) + query


class Commented(_Connection):
    """asyncpg's connection; each method is that of its base."""

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """See asyncpg."""
        return await super().execute(commented(query), *args, **options)

    async def executemany(self, command: str, args: Any, **options: Any) -> None:
        """See asyncpg."""
        await super().executemany(commented(command), args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        return await super().fetch(commented(query), *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        return await super().fetchval(commented(query), *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        return await super().fetchrow(commented(query), *args, **options)

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> str:
        """See asyncpg."""
        return await super().copy_from_query(commented(query), *args, **options)

    def cursor(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        return super().cursor(commented(query), *args, **options)

    async def prepare(self, query: str, **options: Any) -> Any:
        """See asyncpg."""
        return await super().prepare(commented(query, kept=True), **options)
