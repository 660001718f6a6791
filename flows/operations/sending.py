"""From the outbox to the receivers: sent in order, with growing delays until accepted."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.operations.alerts import Condition, report
from flows.operations.channels import UNDELIVERED, Channel, NotAccepted
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_log = logging.getLogger(__name__)
#: Delays between attempts double from the first to the longest.
_FIRST_DELAY = timedelta(seconds=5)
_LONGEST_DELAY = timedelta(minutes=5)
#: Seconds. Libraries of services have limits for connections, and not all of them for answers.
_PATIENCE = 30.0
#: After so many attempts it is an alert of its own, for the other channels.
_ATTEMPTS_TOLERATED = 3


async def send_due(
    connection: Connection[Record], now: datetime, find: Callable[[str], Channel | None]
) -> tuple[int, int]:
    """Send what is due, in order; returns how many were sent, and how many not accepted."""
    sent, refused, stuck = 0, 0, dict[str, str]()
    waiting = await connection.fetch(
        "select message_id, incident_id, channel, severity, subject, body, facts, attempts "
        "from ops.alert_messages as m where sent_at is null and dropped_at is null and due_at <= $1 "
        # The beginning of an incident is sent before its end.
        "and not exists (select from ops.alert_messages as e where e.channel = m.channel "
        "and e.incident_id = m.incident_id and e.message_id < m.message_id "
        "and e.sent_at is null and e.dropped_at is null and e.due_at > $1) order by message_id",
        now,
    )
    behind = set[tuple[str, int | None]]()
    for row in waiting:
        name = row["channel"]
        if name in stuck or (name, row["incident_id"]) in behind:
            continue  # the receiver is away: what waits is sent in order when it is back
        try:
            channel = find(name)
            if channel is None:
                raise NotAccepted("the channel has no address")
            async with asyncio.timeout(_PATIENCE):
                await channel.send(
                    row["message_id"], row["severity"], row["subject"], row["body"], json.loads(row["facts"])
                )
        except (NotAccepted, MedallionError, TimeoutError) as failed:
            problem = NotAccepted("no answer in time") if isinstance(failed, TimeoutError) else failed
            refused += 1
            if row["incident_id"] is not None:
                behind.add((name, row["incident_id"]))
            if not (isinstance(problem, NotAccepted) and problem.lasting):
                stuck[name] = problem.what
            delay = min(_FIRST_DELAY * 2 ** min(row["attempts"], 10), _LONGEST_DELAY)
            await connection.execute(
                "update ops.alert_messages set attempts = attempts + 1, problem = $2, due_at = $3 "
                "where message_id = $1",
                row["message_id"],
                problem.what,
                now + delay,
            )
            _log.warning("channel %s did not accept message %s: %s", name, row["message_id"], problem.what)
            continue
        sent += 1
        await connection.execute(
            "update ops.alert_messages set attempts = attempts + 1, problem = null, sent_at = clock_timestamp() "
            "where message_id = $1",
            row["message_id"],
        )
    await _report_stuck(connection)
    return sent, refused


async def _report_stuck(connection: Connection[Record]) -> None:
    rows = await connection.fetch(
        "select channel, count(*) as waiting, (array_agg(problem order by message_id desc))[1] as problem "
        "from ops.alert_messages where sent_at is null and dropped_at is null and attempts >= $1 "
        "group by channel order by channel",
        _ATTEMPTS_TOLERATED,
    )
    found = [
        Condition(
            UNDELIVERED,
            f"channel {row['channel']}",
            "error",
            f"{row['problem']}; messages wait",
            "check the channel's address with `medallion alerts test`; they are sent when it accepts them",
        )
        for row in rows
    ]
    await report(connection, "outbox", found)
