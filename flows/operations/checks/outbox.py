"""The outbox moves: what is due is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flows.operations.alerts import Condition
from flows.operations.checks.names import OUTBOX_STUCK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: A message that a receiver refused has an alert of its own.
_OLDEST = """
select count(*) as waiting, min(since) as since from (
    select due_at as since from ops.alert_messages
    where sent_at is null and dropped_at is null and attempts = 0 and due_at < clock_timestamp() - $1::interval
    union all
    select happened_at from ops.alert_transitions
    where grouped_at is null and happened_at < clock_timestamp() - $1::interval
) as stuck
"""


async def outbox_moves(connection: Connection[Record], longest: timedelta = timedelta(minutes=5)) -> list[Condition]:
    """Messages and transitions that nobody has worked on for so long."""
    row = await connection.fetchrow(_OLDEST, longest)
    if row is None or not row["waiting"]:
        return []
    return [
        Condition(
            OUTBOX_STUCK,
            "outbox",
            "critical",
            f"{row['waiting']} messages wait, the oldest since {row['since']:%Y-%m-%d %H:%M} UTC",
            "read the log of `medallion watch`; `medallion alerts list` shows what nobody was told of",
        )
    ]
