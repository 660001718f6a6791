"""Tables and models that break what they promise.

    late                loaded, built, or its newest event longer ago than promised: a warning, at twice that an error
    deadline missed     nothing ended in time for the last deadline: an error, or critical if declared so
    freshness unknown   a promise cannot be checked: a warning

What is late because of something else joins the incident of that: see flows/operations/grouping.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flows.declare.route import SEVERITIES
from flows.operations.alerts import Condition
from flows.operations.freshness import LATE, MISSED, UNKNOWN, Clocks, Reading
from flows.operations.promise_states import record_states

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The name of the check, for `flows.operations.alerts.report`.
NAME = "freshness"
_CLOCKS = Clocks()
#: The alert of each state that breaks a promise.
ALERTS = {LATE: "late", MISSED: "deadline missed", UNKNOWN: "freshness unknown"}


async def late(
    connection: Connection[Record],
    now: datetime | None = None,
    *,
    active: Collection[str] | None = None,
    clocks: Clocks = _CLOCKS,
) -> list[Condition]:
    """What is late now, tables before the models built from them; what was found is recorded for attainment.

    `now` is the warehouse's clock unless another is given: by it the ends of loads were written. `active` names the
    sources whose schedule is active here, and not paused; None: all that have one.
    """
    moment: datetime = now or await connection.fetchval("select clock_timestamp()")
    found: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    readings = await clocks.read(connection, moment, active)
    await record_states(connection, readings, moment)
    for reading in readings:
        if reading.state in ALERTS:
            found[ALERTS[reading.state], reading.subject].append(reading)
    return [_condition(name, readings, moment) for (name, _), readings in found.items()]


def _condition(name: str, readings: list[Reading], now: datetime) -> Condition:
    """One per table or model and name: two clocks that are late are one alert, as severe as the worse."""
    first = readings[0]
    owner = next((f"; its owner is {one.owner}" for one in readings if one.owner is not None), "")
    return Condition(
        name,
        first.subject,
        max((_severity(one, now) for one in readings), key=SEVERITIES.index),
        "; ".join(_what(one) for one in readings),
        "; ".join(dict.fromkeys(_fix(one) for one in readings)) + owner,
        source=first.source,
        table=first.table,
        # All tables of a source that are late, or miss their deadlines, are one incident.
        cause=f"{first.source or 'models'}: {name}",
    )


def _severity(reading: Reading, now: datetime) -> str:
    if reading.state == MISSED:
        return "critical" if reading.critical else "error"
    if reading.late_since is None or reading.within is None:
        return "warning"
    return "error" if now - reading.late_since > reading.within else "warning"


def _what(reading: Reading) -> str:
    if reading.problem is not None:
        return reading.problem
    since = _utc(reading.at or reading.known_since)
    if reading.state == MISSED:
        done = "load" if reading.source else "full build"
        ended = f"the last one ended at {since}" if reading.at else "there was none yet"
        return f"no {done} for the deadline {_local(reading)}: {ended}"
    match reading.clock, reading.at:
        case "load", None:
            return f"never loaded; expected since {since}, promised within {reading.promised}"
        case "load", _:
            return f"not loaded since {since}, promised within {reading.promised}"
        case "event", _:
            return f"its newest event is of {since}, promised within {reading.promised}"
        case "pipeline", _ if reading.source:
            return f"rows that changed at {since} are not in gold, promised within {reading.promised}"
        case "pipeline", None:
            return f"never built; expected since {since}, promised within {reading.promised}"
        case _:
            return f"not built since {since}, promised within {reading.promised}"


def _fix(reading: Reading) -> str:
    if reading.problem is not None:
        return reading.fix
    if reading.clock == "event":
        return "loads succeed, but the source has nothing newer: ask its owner"
    if reading.source is None or reading.clock == "pipeline":
        return "`medallion status` shows why builds fail or do not begin; then `medallion transform`"
    return f"`medallion status` shows why loads fail or do not begin; then `medallion run {reading.subject}`"


def _utc(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _local(reading: Reading) -> str:
    assert reading.expected is not None  # only of missed deadlines
    assert reading.deadline is not None
    zone = reading.deadline.zone
    return f"{reading.expected.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"
