"""Questions that nobody answered in time become refusals, which ends their alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.operations.alerts import Condition

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def decisions_expire(connection: Connection[Record]) -> list[Condition]:
    """Nothing is wrong in itself: the next load that is refused asks again."""
    await connection.execute("select ops.expire_decisions()")
    return []
