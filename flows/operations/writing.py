"""From transitions of alerts to messages: incidents open, grow, are acknowledged, escalate, and are over."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.duration import parse_duration
from flows.declare.route import Route
from flows.operations.affected import Dependencies, read_dependencies
from flows.operations.alerts import Alert, alerts_of, alerts_of_incidents, end_events, need_no_message
from flows.operations.channels import UNDELIVERED
from flows.operations.flapping import begins, each_once, ends, is_worse, mark_flapping, told_of_changes, window
from flows.operations.grouping import group, together
from flows.operations.messages import Message, compose, title, worst
from flows.operations.sending import drop_withdrawn
from flows.operations.silences import end_silences, hold_back

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_LINEAGE_KEPT = timedelta(minutes=10)
#: More new incidents than this in one pass are one: whoever receives a hundred messages reads none.
_MOST_AT_ONCE = 10


#: Since when a channel knows of an incident, and whether by an escalation. Before, it waits for quiet hours to end.
_TOLD = """
select incident_id, channel, about = 'escalated' as escalated,
    min(case when sent_at is not null then sent_at when attempts > 0 then written_at else due_at end) as told_at
from ops.alert_messages where incident_id = any($1::bigint[]) and dropped_at is null group by 1, 2, 3
"""


@dataclass(slots=True)
class Writer:
    """Writes messages into the outbox, except for channels in `without_address`."""

    routes: Sequence[Route]
    settle: timedelta
    without_address: frozenset[str] = frozenset()
    _dependencies: tuple[datetime, Dependencies] | None = field(default=None, init=False)

    async def write(self, connection: Connection[Record], now: datetime) -> int:
        """Write the messages of what has changed, in one transaction; returns how many."""
        async with connection.transaction():
            # Less than PostgreSQL takes to find a deadlock: it is never the load that has to give way.
            await connection.execute("set local lock_timeout = '500ms'")
            written = 0
            for word in await end_silences(connection, now):
                due = self._due(word.severity, now, lambda _: True)
                written += await self._put_to(connection, None, word, due)
            await drop_withdrawn(connection, self.routes, now)
            written += await self._open(connection, now)
            written += await self._tell_changes(connection, now)
            written += await self._escalate(connection, now)
        return written

    async def _open(self, connection: Connection[Record], now: datetime) -> int:
        """New alerts become incidents, or join one."""
        rows = await connection.fetch(
            "select a.alert_id, max(t.happened_at) as happened_at, bool_or(t.transition = 'fired again') as again "
            "from ops.alert_transitions as t "
            "inner join ops.alerts as a on a.alert_id = t.alert_id "
            "where t.grouped_at is null and t.transition in ('fired', 'fired again') and a.incident_id is null "
            "group by a.alert_id"
        )
        # What a silence covered has been firing all the time.
        since = {row["alert_id"]: row["happened_at"] - self.settle * row["again"] for row in rows}
        alerts = await alerts_of(connection, since)
        over = [alert for alert in alerts if alert.status == "resolved" and not alert.once]
        await need_no_message(connection, over)  # nothing was sent of its beginning, so nothing is of its end
        # Either way: a clock that was set back must not hold alerts back until it is that late again.
        ready = [alert for alert in alerts if alert not in over and abs(now - since[alert.alert_id]) >= self.settle]
        ready = await hold_back(connection, ready, now)
        if not ready:
            return 0
        flapping = await mark_flapping(connection, ready, now)
        written = await self._join(connection, [each for each in ready if flapping.get(each.alert_id)], flapping, now)
        ready = [each for each in ready if not flapping.get(each.alert_id)]
        present: dict[int, list[Alert]] = defaultdict(list)
        open_ids = await connection.fetch("select incident_id from ops.incidents where closed_at is null")
        for alert in await alerts_of_incidents(connection, [row["incident_id"] for row in open_ids]):
            if alert.incident_id is not None:  # also what is over: others may still follow from it
                present[alert.incident_id].append(alert)
        dependencies = await self._lineage(connection, now)
        for each in together(group(ready, present, dependencies.upstream), _MOST_AT_ONCE):
            incident_id, about = each.incident_id, "grew"
            if incident_id is None:
                about = "opened"
                incident_id = await connection.fetchval(
                    "insert into ops.incidents (severity, title, opened_at) values ($1, $2, $3) returning incident_id",
                    worst(each.alerts),
                    title(each.alerts)[:500],
                    now,
                )
            await connection.execute(
                "update ops.alerts set incident_id = $1 where alert_id = any($2::bigint[])",
                incident_id,
                [alert.alert_id for alert in each.alerts],
            )
            readers = dependencies.readers(alert.subject for alert in each.alerts)
            if all(alert.alert_id in flapping for alert in each.alerts):
                about = "flapping"
            note = begins(each.alerts, flapping)
            message = compose(about, incident_id, each.alerts, readers=readers, note=note, now=now)
            written += await self._put(connection, incident_id, message, each.alerts, now)
            await need_no_message(connection, each.alerts)
            await end_events(connection, each.alerts)
        return written + await self._close(connection, now)

    async def _join(
        self, connection: Connection[Record], alerts: Sequence[Alert], to: Mapping[int, int | None], now: datetime
    ) -> int:
        """Alerts that flap, and of which somebody was told so: without a message, unless they are worse."""
        written = 0
        for alert in alerts:
            incident_id = to[alert.alert_id]
            assert incident_id is not None
            await connection.execute(
                "update ops.alerts set incident_id = $1 where alert_id = $2", incident_id, alert.alert_id
            )
            if await is_worse(connection, incident_id, [alert]):
                message = compose("changed", incident_id, [alert], now=now)
                written += await self._put(connection, incident_id, message, [alert], now)
        await need_no_message(connection, alerts)
        return written

    async def _tell_changes(self, connection: Connection[Record], now: datetime) -> int:
        """What happened to alerts that somebody was told of: another cause, acknowledged, over."""
        rows = await connection.fetch(
            "select t.transition_id, t.alert_id, t.transition, t.by_whom, t.note, a.incident_id "
            "from ops.alert_transitions as t inner join ops.alerts as a on a.alert_id = t.alert_id "
            "where t.grouped_at is null "
            "and (a.incident_id is not null or t.transition not in ('fired', 'fired again')) "
            "order by t.transition_id"
        )
        events: dict[tuple[int, str], list[Record]] = defaultdict(list)
        done = []
        for row in rows:
            if row["incident_id"] is None and row["transition"] != "resolved":
                continue  # told with its beginning
            done.append(row["transition_id"])
            if row["incident_id"] is not None and row["transition"] in ("changed", "acknowledged"):
                events[row["incident_id"], row["transition"]].append(row)
        await connection.execute(
            "update ops.alert_transitions set grouped_at = $2 where transition_id = any($1::bigint[])", done, now
        )
        written = 0
        for (incident_id, about), happened in events.items():
            alerts = await alerts_of(connection, {row["alert_id"] for row in happened})
            quiet = ("resolved", "silenced") if about == "changed" else ("resolved",)
            alerts = [alert for alert in alerts if alert.status not in quiet]
            if about == "changed":
                alerts = await told_of_changes(connection, incident_id, alerts, now)
            if not alerts:
                continue
            by, note = happened[-1]["by_whom"], happened[-1]["note"]
            told = f"by {by}" + (f": {note}" if note else "") if about == "acknowledged" else None
            message = compose(about, incident_id, alerts, note=told, now=now)
            written += await self._put(connection, incident_id, message, alerts, now)
        return written + await self._close(connection, now)

    async def _close(self, connection: Connection[Record], now: datetime) -> int:
        """Incidents whose alerts are all over."""
        closed = await connection.fetch(
            "update ops.incidents as i set closed_at = $1 where closed_at is null and not exists "
            "(select from ops.alerts as a where a.incident_id = i.incident_id "
            "and (a.resolved_at is null or (a.flapping and a.fired_at > $2))) returning incident_id",
            now,
            now - window(),
        )
        written = 0
        for row in closed:
            incident_id = row["incident_id"]
            alerts = await alerts_of_incidents(connection, [incident_id])
            if all(alert.once for alert in alerts):
                continue  # an event has no end
            # Who was not told of the beginning, in quiet hours, is not told of the end.
            await connection.execute(
                "update ops.alert_messages set dropped_at = $2 where incident_id = $1 and sent_at is null "
                "and due_at > $2 and attempts = 0",
                incident_id,
                now,
            )
            told = await connection.fetch(
                "select distinct channel from ops.alert_messages where incident_id = $1 and dropped_at is null",
                incident_id,
            )
            message = compose("resolved", incident_id, each_once(alerts), note=ends(alerts), now=now)
            written += await self._put_to(connection, incident_id, message, {each["channel"]: now for each in told})
        return written

    async def _escalate(self, connection: Connection[Record], now: datetime) -> int:
        """Each route counts from when its channels were told, and each channel is told once."""
        routes = [route for route in self.routes if route.escalate_after is not None]
        rows = await connection.fetch(
            "select incident_id, opened_at from ops.incidents where closed_at is null and acknowledged_at is null"
        )
        if not routes or not rows:
            return 0
        firing: dict[int | None, list[Alert]] = defaultdict(list)
        for alert in await alerts_of_incidents(connection, [row["incident_id"] for row in rows]):
            if alert.status == "firing":
                firing[alert.incident_id].append(alert)
        told: dict[tuple[int, str], datetime] = {}
        escalated: dict[int, set[str]] = defaultdict(set)
        for each in await connection.fetch(_TOLD, [row["incident_id"] for row in rows]):
            if each["escalated"]:
                escalated[each["incident_id"]].add(each["channel"])
            else:
                told[each["incident_id"], each["channel"]] = each["told_at"]
        written = 0
        for row in rows:
            incident_id, alerts = row["incident_id"], firing[row["incident_id"]]
            about, severity = [alert.about for alert in alerts], worst(alerts)
            names: set[str] = set()
            for route in routes:
                since = min((told.get((incident_id, name), now) for name in route.channels), default=now)
                if not any((incident_id, name) in told for name in route.channels):
                    since = row["opened_at"]  # its channels have no address
                waited = now - since >= parse_duration(route.escalate_after or "", "route")
                if waited and alerts and route.takes(severity, about) and _when(route, severity, now) <= now:
                    names.update(route.escalate_to)
            if names := names - escalated[incident_id]:
                await connection.execute(
                    "update ops.incidents set escalated_at = $2 where incident_id = $1", incident_id, now
                )
                message = compose("escalated", incident_id, alerts, now=now)
                written += await self._put_to(connection, incident_id, message, dict.fromkeys(sorted(names), now))
        return written

    def _due(self, severity: str, now: datetime, takes: Callable[[Route], bool]) -> dict[str, datetime]:
        """When a message is due at the channels of these routes."""
        due: dict[str, datetime] = {}
        for route in self.routes:
            if takes(route):
                when = _when(route, severity, now)
                for name in route.channels:
                    due[name] = min(due.get(name, when), when)
        return due

    async def _put(
        self, connection: Connection[Record], incident_id: int, message: Message, alerts: Sequence[Alert], now: datetime
    ) -> int:
        about = [alert.about for alert in alerts]
        due = self._due(message.severity, now, lambda route: route.takes(message.severity, about))
        # That a channel does not accept messages is sent to the others.
        for alert in alerts:
            if alert.name == UNDELIVERED:
                due.pop(alert.subject.removeprefix("channel "), None)
        return await self._put_to(connection, incident_id, message, due)

    async def _put_to(
        self, connection: Connection[Record], incident_id: int | None, message: Message, due: Mapping[str, datetime]
    ) -> int:
        written = 0
        for name, when in due.items():
            if name in self.without_address:
                continue
            written += 1
            # What waits for the end of quiet hours is sent before: nobody hears of a change before the beginning.
            await connection.execute(
                "update ops.alert_messages set due_at = $3 where incident_id = $1 and channel = $2 and due_at > $3 "
                "and sent_at is null and dropped_at is null and attempts = 0",
                incident_id,
                name,
                when,
            )
            await connection.execute(
                "insert into ops.alert_messages (incident_id, channel, about, severity, subject, body, facts, due_at) "
                "values ($1, $2, $3, $4, $5, $6, $7, $8)",
                incident_id,
                name,
                message.about,
                message.severity,
                message.subject,
                message.body,
                json.dumps(message.facts),
                when,
            )
        return written

    async def _lineage(self, connection: Connection[Record], now: datetime) -> Dependencies:
        if self._dependencies is None or now - self._dependencies[0] > _LINEAGE_KEPT:
            self._dependencies = (now, await read_dependencies(connection))
        return self._dependencies[1]


def _when(route: Route, severity: str, now: datetime) -> datetime:
    """When a message of that severity may be sent on a route."""
    return now if route.quiet is None or severity == "critical" else route.quiet.over_at(now)
