"""Silences: what is known is not sent, for a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flows.operations.alerts import Alert, end_events, need_no_message, open_alerts, unknown
from flows.operations.messages import Message

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def silence(connection: Connection[Record], pattern: str, lasting: timedelta, reason: str, by: str) -> datetime:
    """Send nothing of alerts whose `name subject` matches the pattern, until the returned time."""
    async with connection.transaction():
        row = await connection.fetchrow(
            "insert into ops.silences (pattern, until, reason, created_by) "
            "values ($1, clock_timestamp() + $2::interval, $3, $4) returning silence_id, until",
            pattern,
            lasting,
            reason,
            by,
        )
        assert row is not None
        open_now = await open_alerts(connection)
        await _mark(connection, [alert for alert in open_now if fnmatchcase(alert.about, pattern)], row, by, reason)
    until: datetime = row["until"]
    return until


async def _mark(connection: Connection[Record], alerts: Sequence[Alert], row: Record, by: str, reason: str) -> None:
    """Alerts as silenced. Who received its beginning receives its end."""
    await connection.execute(
        "with marked as (update ops.alerts set status = 'silenced', silence_id = $2 where alert_id = any($1::bigint[]) "
        "and status in ('firing', 'acknowledged') and not once returning alert_id) "
        "insert into ops.alert_transitions (alert_id, transition, by_whom, note, grouped_at) "
        "select alert_id, 'silenced', $3, $4, clock_timestamp() from marked",
        [alert.alert_id for alert in alerts],
        row["silence_id"],
        by,
        reason,
    )


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence: no message of alerts whose `name subject` matches the pattern."""

    silence_id: int
    pattern: str
    until: datetime
    reason: str
    created_by: str


async def silences(connection: Connection[Record]) -> list[Silence]:
    """Those whose end was not yet told."""
    records = await connection.fetch(
        "select silence_id, pattern, until, reason, created_by from ops.silences where ended_at is null order by 1"
    )
    return [Silence(**dict(record)) for record in records]


async def end_silence(connection: Connection[Record], silence_id: int) -> None:
    """End a silence now.

    Raises:
        ConfigurationError: there is none of that id.
    """
    if abs(silence_id) >= 2**63:
        raise unknown(silence_id, "is not an active silence")
    status = await connection.execute(
        "update ops.silences set until = least(until, clock_timestamp()) where silence_id = $1 and ended_at is null",
        silence_id,
    )
    if status == "UPDATE 0":
        raise unknown(silence_id, "is not an active silence")


async def hold_back(connection: Connection[Record], alerts: Sequence[Alert], now: datetime) -> list[Alert]:
    """The alerts that no silence covers; the others are marked as silenced."""
    rows = await connection.fetch(
        "select silence_id, pattern, created_by, reason from ops.silences where until > $1 and ended_at is null",
        now,
    )
    left = []
    for alert in alerts:
        row = next((row for row in rows if fnmatchcase(alert.about, row["pattern"])), None)
        if row is None:
            left.append(alert)
            continue
        await need_no_message(connection, [alert])
        if alert.once:
            await end_events(connection, [alert])
        else:
            await _mark(connection, [alert], row, row["created_by"], row["reason"])
    return left


async def end_silences(connection: Connection[Record], now: datetime) -> list[Message]:
    """A silence ends with a word: alerts that still fire do so again, else it is said that none does."""
    words = []
    for row in await connection.fetch(
        "update ops.silences set ended_at = $1 where until <= $1 and ended_at is null "
        "returning silence_id, pattern, created_by",
        now,
    ):
        again = await connection.fetch(
            "with back as (update ops.alerts as a set silence_id = null, status = case when exists (select "
            "from ops.alert_transitions as t where t.alert_id = a.alert_id and t.transition = 'acknowledged') "
            "then 'acknowledged' else 'firing' end where silence_id = $1 and status = 'silenced' returning alert_id) "
            # Not `now`: it has been firing all the time, and need not settle once more.
            "insert into ops.alert_transitions (alert_id, transition, note) "
            "select alert_id, 'fired again', 'the silence ended' from back returning alert_id",
            row["silence_id"],
        )
        still = f"{len(again)} alerts are still firing" if again else "none of its alerts is firing"
        text = f"the silence of {row['pattern']!r} by {row['created_by']} has ended: {still}"
        words.append(Message("silence ended", "info", text, text, {"event": "silence ended", "firing": len(again)}))
    return words
