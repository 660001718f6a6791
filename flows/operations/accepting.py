"""Accepts a change of a table's data, and ends its alerts at once instead of with the next check."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from flows.operations.anomalies import Accepted, accept
from flows.operations.checks.anomalies import open_columns

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def accept_change(
    connection: Connection[Record], table: str, column: str | None, reason: str, by: str, *, since: date | None = None
) -> Accepted:
    """As `accept`; alerts of the table that have no other reason are resolved.

    Raises:
        ConfigurationError: there is no unusual day that could be accepted.
    """
    async with connection.transaction():
        accepted = await accept(connection, table, column, reason, by, since=since)
        over = ["columns unusual"] if not await open_columns(connection, datetime.now(UTC), table) else []
        if column is None:
            over += ["volume unusual", "arrival unusual"]
        await connection.execute("select ops.resolve_alerts($1, $2, $3)", over, table, f"accepted by {by}: {reason}")
    return accepted
