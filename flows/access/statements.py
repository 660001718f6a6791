"""Sessions that make a span of each statement."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from flows.access.prepared import Session
from flows.observe import tracing
from flows.observe.statements import operation, summary, template
from flows.values.connection import DatabaseConnection

Answer = TypeVar("Answer")


def place_of(address: DatabaseConnection) -> dict[str, str | int | None]:
    """The server and database of a connection URL, as attributes of spans."""
    parts = urlsplit(address.url)
    with suppress(ValueError):
        return {
            "medallion.connection": address.name,
            "db.namespace": unquote(parts.path.lstrip("/")) or None,
            "server.address": parts.hostname,
            "server.port": parts.port or 5432,
        }
    return {"medallion.connection": address.name}  # several servers


class RunSession(Session):
    """A session of a run; each method is that of its base."""

    #: What its spans say about the server: set once it is open.
    place: Mapping[str, str | int | None]

    async def _told(self, query: str, answer: Awaitable[Answer]) -> Answer:
        """Await the answer to a statement, as a span."""
        if not tracing.is_on():
            return await answer
        began, problem = tracing.now(), None
        try:
            return await answer
        except BaseException as failed:
            problem = failed
            raise
        finally:
            self._span(query, began, problem)

    def _span(self, query: str, began: int, problem: BaseException | None) -> None:
        bare = template(query)
        facts = {
            "db.system.name": "postgresql",
            "db.operation.name": operation(bare),
            "db.query.text": bare,
            "db.response.status_code": getattr(problem, "sqlstate", None),
            **getattr(self, "place", {}),
        }
        tracing.finished(summary(bare), began, tracing.now(), facts, problem)

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """See asyncpg."""
        return await self._told(query, super().execute(query, *args, **options))

    async def executemany(self, command: str, args: Any, **options: Any) -> None:
        """See asyncpg."""
        await self._told(command, super().executemany(command, args, **options))

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        return await self._told(query, super().fetch(query, *args, **options))

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        return await self._told(query, super().fetchval(query, *args, **options))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        return await self._told(query, super().fetchrow(query, *args, **options))

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> str:
        """See asyncpg."""
        answer = super().copy_from_query(query, *args, **options)
        return await self._told(f"copy ({query}) to stdout", answer)

    async def copy_to_table(self, table_name: str, **options: Any) -> str:
        """See asyncpg."""
        named = ".".join(filter(None, (options.get("schema_name"), table_name)))
        return await self._told(f"copy {named} from stdin", super().copy_to_table(table_name, **options))
