"""From the outbox to the receivers: sent in order, with growing delays until accepted."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.route import Route
from flows.operations.alerts import Condition, report
from flows.operations.channels import UNDELIVERED, Channel, NotAccepted, message_key
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_log = logging.getLogger(__name__)
#: Delays between attempts double from the first to the longest.
_FIRST_DELAY = timedelta(seconds=5)
_LONGEST_DELAY = timedelta(minutes=5)
#: A receiver that asks for a longer pause is asked again after this. No other delay is as long, so a later time
#: is that of a clock that was set back.
_LONGEST_PAUSE = timedelta(hours=1)
#: Seconds. Libraries of services have limits for connections, and not all of them for answers.
_PATIENCE = 30.0
#: Seconds after which no other message is begun: the next pass goes on. With _PATIENCE less than the watch gives a
#: pass, so that none is interrupted between a message and the note that it was sent.
_BUDGET = 25.0
#: Messages of a channel in one pass: more of them must not fill the memory.
_MOST = 500
#: After so many attempts it is an alert of its own, for the other channels.
_ATTEMPTS_TOLERATED = 3

# What is to be sent at once is due whatever the clock says, and so is an attempt that waits for longer than any does.
_IS_DUE = (
    "({m}.due_at <= $1 or ({m}.attempts = 0 and {m}.due_at <= {m}.written_at + '5 s'::interval) "
    f"or ({{m}}.attempts > 0 and {{m}}.due_at > $1 + '{_LONGEST_PAUSE.total_seconds():.0f} s'::interval))"
)
_WAITING = f"""
select * from (
    select message_id, incident_id, channel, severity, subject, body, facts, attempts, written_at,
        row_number() over (partition by channel order by message_id) as place
    from ops.alert_messages as m
    where sent_at is null and dropped_at is null and {_IS_DUE.format(m="m")} and not channel = any($2::text[])
        -- The beginning of an incident is sent before its end.
        and not exists (
            select from ops.alert_messages as e
            where e.channel = m.channel and e.incident_id = m.incident_id and e.message_id < m.message_id
                and e.sent_at is null and e.dropped_at is null and not {_IS_DUE.format(m="e")}
        )
) as waiting
where place <= {_MOST} order by message_id
"""


async def send_due(
    connection: Connection[Record],
    now: datetime,
    find: Callable[[str], Channel | None],
    pauses: dict[str, datetime] | None = None,
) -> tuple[int, int]:
    """Send what is due, in order; returns how many were sent, and how many not accepted.

    `pauses`: until when a receiver asked for no message; kept from pass to pass.
    """
    sent, refused, stuck, began = 0, 0, set[str](), time.monotonic()
    pauses = {} if pauses is None else pauses
    paused = [name for name, until in pauses.items() if now < until <= now + _LONGEST_PAUSE]
    behind = set[tuple[str, int | None]]()
    for row in await connection.fetch(_WAITING, now, paused):
        name = row["channel"]
        if time.monotonic() - began > _BUDGET:
            _log.warning("more messages are due than one pass sends; the next one goes on")
            break
        if name in stuck or (name, row["incident_id"]) in behind:
            continue  # the receiver is away: what waits is sent in order when it is back
        problem = await _send(row, find)
        if problem is None:
            sent += 1
            await connection.execute(
                "update ops.alert_messages set attempts = attempts + 1, problem = null, sent_at = clock_timestamp() "
                "where message_id = $1",
                row["message_id"],
            )
            continue
        refused += 1
        if row["incident_id"] is not None:
            behind.add((name, row["incident_id"]))
        delay = min(_FIRST_DELAY * 2 ** min(row["attempts"], 10), _LONGEST_DELAY)
        if not problem.lasting:
            stuck.add(name)
        if problem.after is not None:
            delay = max(delay, min(timedelta(seconds=problem.after), _LONGEST_PAUSE))
            pauses[name] = now + delay
        await connection.execute(
            "update ops.alert_messages set attempts = attempts + 1, problem = $2, due_at = $3 where message_id = $1",
            row["message_id"],
            problem.what,
            now + delay,
        )
        _log.warning("channel %s did not accept message %s: %s", name, row["message_id"], problem.what)
    await _report_stuck(connection)
    return sent, refused


async def _send(row: Record, find: Callable[[str], Channel | None]) -> NotAccepted | None:
    """Send a message; why it was not accepted, or None. Whatever goes wrong with one must not stop the others."""
    try:
        channel = find(row["channel"])
        if channel is None:
            return NotAccepted("the channel has no address")
        key, facts = message_key(row["message_id"], row["written_at"]), json.loads(row["facts"])
        async with asyncio.timeout(_PATIENCE):
            await channel.send(row["message_id"], key, row["severity"], row["subject"], row["body"], facts)
    except NotAccepted as problem:
        return problem
    except MedallionError as problem:
        return NotAccepted(problem.what)
    except TimeoutError:
        return NotAccepted("no answer in time")
    except Exception as problem:  # its text may have the address
        return NotAccepted(f"unexpected {type(problem).__name__}")
    return None


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


async def drop_withdrawn(connection: Connection[Record], routes: Sequence[Route], now: datetime) -> None:
    """Drop messages of channels that no route names any more, and that nobody accepts."""
    declared = {name for route in routes for name in (*route.channels, *route.escalate_to)}
    dropped = await connection.fetch(
        "update ops.alert_messages set dropped_at = $1 where sent_at is null and dropped_at is null "
        "and attempts >= 3 and not channel = any($2::text[]) returning channel",
        now,
        sorted(declared),
    )
    for name, count in Counter(row["channel"] for row in dropped).items():
        _log.warning("no route names the channel %s any more: %s messages were dropped", name, count)
