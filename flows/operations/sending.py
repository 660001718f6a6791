"""From the outbox to the receivers: sent in order, with growing delays until accepted."""

from __future__ import annotations

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
#: After so many attempts it is an alert of its own, for the other channels.
_ATTEMPTS_TOLERATED = 3


async def send_due(
    connection: Connection[Record], now: datetime, find: Callable[[str], Channel | None]
) -> tuple[int, int]:
    """Send what is due, in order; returns how many were sent, and how many not accepted."""
    sent, refused, stuck = 0, 0, dict[str, str]()
    waiting = await connection.fetch(
        "select message_id, channel, severity, subject, body, facts, attempts from ops.alert_messages "
        "where sent_at is null and dropped_at is null and due_at <= $1 order by message_id",
        now,
    )
    for row in waiting:
        name = row["channel"]
        if name in stuck:
            continue  # the receiver is away: what waits is sent in order when it is back
        try:
            channel = find(name)
            if channel is None:
                raise NotAccepted("the channel has no address")
            await channel.send(
                row["message_id"], row["severity"], row["subject"], row["body"], json.loads(row["facts"])
            )
        except (NotAccepted, MedallionError) as problem:
            refused += 1
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
