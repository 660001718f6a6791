"""Alerts that flap: they fire and resolve again and again, and each change would be a message.

The fourth time within an hour (MEDALLION_ALERT_FLAPPING_SECONDS) that one is sent, its message says that it flaps.
From then on it joins that incident without a message, and the incident stays open until the alert has not fired for as
long; the last message counts. Only a higher severity is sent meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.route import SEVERITIES
from flows.operations.alerts import Alert
from flows.operations.messages import worst
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Three may be attempts to fix it, whose results somebody waits for.
TIMES = 4

_BEFORE = """
select
    a.alert_id,
    count(*) filter (where p.incident_id is not null and p.fired_at > $2) as sent,
    max(p.incident_id) filter (where p.flapping and i.closed_at is null) as incident_id
from ops.alerts as a
inner join ops.alerts as p on p.name = a.name and p.subject = a.subject and p.alert_id < a.alert_id
left join ops.incidents as i on i.incident_id = p.incident_id
where a.alert_id = any($1::bigint[]) and not a.once and (p.fired_at > $2 or i.closed_at is null)
group by a.alert_id
"""


def window() -> timedelta:
    """The time in which an alert that fires `TIMES` times flaps, and after which without firing it is over."""
    return timedelta(seconds=settings().alert_flapping_seconds)


def spelled(time: timedelta) -> str:
    """`an hour`, or `20 minutes`, `90 seconds`."""
    seconds = time.total_seconds()
    if seconds == timedelta(hours=1).total_seconds():
        return "an hour"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 and seconds % 60 == 0 else f"{seconds:.0f} seconds"


async def mark_flapping(
    connection: Connection[Record], alerts: Sequence[Alert], now: datetime
) -> dict[int, int | None]:
    """Those of the alerts that flap, by id, each with the open incident that has said so already, or None."""
    ids = [alert.alert_id for alert in alerts]
    found = {
        row["alert_id"]: row["incident_id"]
        for row in await connection.fetch(_BEFORE, ids, now - window())
        if row["incident_id"] is not None or row["sent"] >= TIMES - 1
    }
    await connection.execute("update ops.alerts set flapping = true where alert_id = any($1::bigint[])", [*found])
    return found


def begins(alerts: Sequence[Alert], flapping: Mapping[int, int | None]) -> str | None:
    """The note of the message that says that alerts flap; None if none does."""
    names = [alert.about for alert in alerts if alert.alert_id in flapping]
    if not names:
        return None
    time = spelled(window())
    return (
        f"It flaps: it fired {TIMES} times within {time} ({', '.join(names)}). The next message about it follows when "
        f"it has not fired for {time}, or gets worse"
    )


def ends(alerts: Sequence[Alert]) -> str | None:
    """The note of the message that it is over: how often it fired, and from when to when."""
    if not any(alert.flapping for alert in alerts):
        return None
    fired = [alert.fired_at.astimezone(UTC) for alert in alerts]
    return f"It flapped: it fired {len(fired)} times from {min(fired):%H:%M} to {max(fired):%H:%M} UTC"


def each_once(alerts: Sequence[Alert]) -> list[Alert]:
    """The last of each name and subject, since the first of them."""
    last: dict[tuple[str, str], Alert] = {}
    for alert in sorted(alerts, key=lambda each: each.alert_id):
        first = last.get((alert.name, alert.subject), alert)
        last[alert.name, alert.subject] = replace(alert, fired_at=first.fired_at)
    return [*last.values()]


async def told_of_changes(
    connection: Connection[Record], incident_id: int, alerts: Sequence[Alert], now: datetime
) -> list[Alert]:
    """Those whose change of the cause is sent: not the fourth within the window, unless it is worse.

    An alert that fires all the time, for causes that alternate, flaps as well.
    """
    rows = await connection.fetch(
        "select alert_id from ops.alert_transitions where alert_id = any($1::bigint[]) and transition = 'changed' "
        "and happened_at > $2 group by alert_id having count(*) >= $3",
        [alert.alert_id for alert in alerts],
        now - window(),
        TIMES,
    )
    often = {row["alert_id"] for row in rows}
    if await is_worse(connection, incident_id, alerts):
        return [*alerts]
    return [alert for alert in alerts if alert.alert_id not in often]


async def is_worse(connection: Connection[Record], incident_id: int, alerts: Sequence[Alert]) -> bool:
    """Whether the alerts are more severe than all that was sent of the incident."""
    rows = await connection.fetch(
        "select distinct severity from ops.alert_messages where incident_id = $1", incident_id
    )
    known = max((SEVERITIES.index(row["severity"]) for row in rows), default=-1)
    return SEVERITIES.index(worst(alerts)) > known
