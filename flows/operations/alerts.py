"""Alerts in `ops.alerts`: what is wrong, since when, and whether somebody has taken it up.

A row is raised and resolved by triggers of the tables it is about (flows/state/schema.sql), or reported by a check with
`report`. It never contains values of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.values.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Alert:
    """One problem, from its beginning to its end.

    `status` is firing, acknowledged, silenced or resolved. `once`: it tells of an event, which has no end.
    `flapping`: it fired too often to be sent each time.
    `failure_class` is that of its error, and `correlation_id` that of its run, if it has one.
    """

    alert_id: int
    name: str
    subject: str
    cause: str
    severity: str
    status: str
    source_system: str | None
    table_name: str | None
    what: str
    fix: str
    error_id: str | None
    once: bool
    times: int
    fired_at: datetime
    last_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    incident_id: int | None
    flapping: bool = False
    failure_class: str | None = None
    correlation_id: str | None = None

    @property
    def about(self) -> str:
        """`load failed shop.baskets`: what patterns of routes and silences are compared with."""
        return f"{self.name} {self.subject}"


_JOINED = ("failure_class", "correlation_id")
#: The columns of `ops.alerts as a` that an `Alert` has.
COLUMNS = ", ".join(f"a.{name}" for name in Alert.__dataclass_fields__ if name not in _JOINED)
_FROM = (
    f"select {COLUMNS}, e.failure_class, r.correlation_id from ops.alerts as a "
    "left join ops.errors as e on e.error_id = a.error_id left join ops.runs as r on r.run_id = a.run_id"
)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of an alert's status: when, by whom, why."""

    alert_id: int
    transition: str
    happened_at: datetime
    by_whom: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A problem that a check finds. Fields as those of an alert; without `cause`, it has one of its own."""

    name: str
    subject: str
    severity: str
    what: str
    fix: str
    source: str | None = None
    table: str | None = None
    cause: str | None = None


async def report(
    connection: Connection[Record], check: str, found: Sequence[Condition], *, resolves: bool = True
) -> None:
    """Raise what a check has found; with `resolves`, resolve what it had found before and does not find any more."""
    async with connection.transaction():
        for each in found:
            await connection.execute(
                "select ops.fire_alert(jsonb_populate_record(null::ops.alerts, jsonb_build_object("
                "'name', $1::text, 'subject', $2::text, 'severity', $3::text, 'what', $4::text, 'fix', $5::text, "
                "'source_system', $6::text, 'table_name', $7::text, 'cause', $8::text, 'reported_by', $9::text)))",
                each.name,
                each.subject,
                each.severity,
                each.what,
                each.fix,
                each.source,
                each.table,
                each.cause or f"{each.subject}: {each.name}",
                check,
            )
        if not resolves:
            return
        ended = await connection.fetch(
            "select name, subject from ops.alerts where reported_by = $1 and resolved_at is null "
            "and (name, subject) not in (select * from unnest($2::text[], $3::text[]))",
            check,
            [each.name for each in found],
            [each.subject for each in found],
        )
        for row in ended:
            await connection.execute(
                "select ops.resolve_alerts(array[$1::text], $2, 'it is over')", row["name"], row["subject"]
            )


async def open_alerts(connection: Connection[Record]) -> list[Alert]:
    """All that are not resolved, the most severe first."""
    rank = "array_position(array['critical', 'error', 'warning', 'info'], a.severity)"
    records = await connection.fetch(f"{_FROM} where a.resolved_at is null order by {rank}, a.fired_at, a.alert_id")
    return [Alert(**dict(record)) for record in records]


async def ended_alerts(connection: Connection[Record], since: timedelta) -> list[Alert]:
    """Those resolved within that time, the newest first."""
    records = await connection.fetch(
        f"{_FROM} where a.resolved_at > clock_timestamp() - $1::interval order by a.resolved_at desc", since
    )
    return [Alert(**dict(record)) for record in records]


async def alerts_of(connection: Connection[Record], alert_ids: Iterable[int]) -> list[Alert]:
    """Alerts by id; unknown ids are left out."""
    ids = [alert_id for alert_id in alert_ids if abs(alert_id) < 2**63]
    records = await connection.fetch(f"{_FROM} where a.alert_id = any($1::bigint[]) order by 1", ids)
    return [Alert(**dict(record)) for record in records]


async def alerts_of_incidents(connection: Connection[Record], incident_ids: Iterable[int]) -> list[Alert]:
    """All alerts that ever belonged to these incidents."""
    records = await connection.fetch(f"{_FROM} where a.incident_id = any($1::bigint[]) order by 1", [*incident_ids])
    return [Alert(**dict(record)) for record in records]


async def transitions_of(connection: Connection[Record], alert_id: int) -> list[Transition]:
    """An alert's history, the oldest first."""
    records = await connection.fetch(
        "select alert_id, transition, happened_at, by_whom, note from ops.alert_transitions where alert_id = $1 "
        "order by transition_id",
        alert_id,
    )
    return [Transition(**dict(record)) for record in records]


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of an incident: to whom, and what became of it."""

    channel: str
    about: str
    written_at: datetime
    outcome: str


async def messages_of(connection: Connection[Record], incident_id: int | None) -> list[Sent]:
    """The messages of an incident, the oldest first."""
    records = await connection.fetch(
        "select channel, about, written_at, case when sent_at is not null then 'sent' "
        "when dropped_at is not null then 'not needed any more' "
        "when attempts > 0 then format('waits after %s attempts: %s', attempts, problem) "
        "else format('waits until %s UTC', to_char(due_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) end as outcome "
        "from ops.alert_messages where incident_id = $1 order by message_id",
        incident_id,
    )
    return [Sent(**dict(record)) for record in records]


async def acknowledge(connection: Connection[Record], alert_ids: Sequence[int], by: str, note: str | None) -> list[int]:
    """Acknowledge alerts, and with each those of its incident; returns the ids of those that were firing.

    Raises:
        ConfigurationError: an alert does not exist, or is over.
    """
    async with connection.transaction():
        known = {alert.alert_id: alert for alert in await alerts_of(connection, alert_ids)}
        for alert_id in alert_ids:
            if alert_id not in known or known[alert_id].status == "resolved":
                raise unknown(alert_id, "is over" if alert_id in known else "does not exist")
        rows = await connection.fetch(
            "with taken_up as (update ops.alerts as a set status = 'acknowledged' where a.status = 'firing' "
            "and (a.alert_id = any($1::bigint[]) or a.incident_id in "
            "(select i.incident_id from ops.alerts as i where i.alert_id = any($1::bigint[]))) returning a.alert_id), "
            "told as (insert into ops.alert_transitions (alert_id, transition, by_whom, note) "
            "select alert_id, 'acknowledged', $2, $3 from taken_up) select alert_id from taken_up order by 1",
            [*alert_ids],
            by,
            note,
        )
        await connection.execute(
            "update ops.incidents set acknowledged_at = clock_timestamp(), acknowledged_by = $2 "
            "where acknowledged_at is null and incident_id in "
            "(select incident_id from ops.alerts where alert_id = any($1::bigint[]))",
            [*alert_ids],
            by,
        )
    return [row["alert_id"] for row in rows]


def unknown(number: int, what: str) -> ConfigurationError:
    """The error about an id that cannot be used."""
    error = ConfigurationError(
        f"{number} {what}", where="alerts", fix="`medallion alerts list` shows the ids of open alerts and silences"
    )
    error.exit_code = 2
    return error


async def need_no_message(connection: Connection[Record], alerts: Sequence[Alert]) -> None:
    """Their transitions until now need no message of their own."""
    await connection.execute(
        "update ops.alert_transitions set grouped_at = clock_timestamp() "
        "where grouped_at is null and alert_id = any($1::bigint[])",
        [alert.alert_id for alert in alerts],
    )


async def end_events(connection: Connection[Record], alerts: Sequence[Alert]) -> None:
    """Events are over once they were told."""
    await connection.execute(
        "update ops.alerts set status = 'resolved', resolved_at = clock_timestamp(), resolution = 'told' "
        "where once and resolved_at is null and alert_id = any($1::bigint[])",
        [alert.alert_id for alert in alerts],
    )
