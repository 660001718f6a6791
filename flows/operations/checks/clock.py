"""Clocks: of this machine, against itself, the warehouse and the Prefect server.

Schedules, late runs, freshness and lookbacks are reckoned by clocks: one that is wrong makes all of them wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.operations.alerts import Condition

if TYPE_CHECKING:
    from asyncpg import Connection, Record

TOLERANCE = timedelta(seconds=60)
#: A jump is an event. It is an alert for as long as what follows from it, such as late runs, needs an explanation.
_REMEMBERED = timedelta(minutes=15)


@dataclass(slots=True)
class Clocks:
    """Remembers the last look."""

    tolerance: timedelta = TOLERANCE
    _last: tuple[datetime, float] | None = field(default=None, init=False)
    _jump: tuple[float, str] | None = field(default=None, init=False)

    async def look(
        self, now: datetime, elapsed: float, connection: Connection[Record] | None, prefect: datetime | None
    ) -> list[Condition]:
        """`elapsed` is monotonic, in seconds; `prefect` the time at which the Prefect server answered."""
        found = self._jumped(now, elapsed)
        others = {"Prefect server": prefect}
        if connection is not None:
            others["warehouse"] = await connection.fetchval("select clock_timestamp()")
        for name, theirs in others.items():
            if theirs is not None and abs(theirs - now) > self.tolerance:
                ahead = "ahead of" if theirs > now else "behind"
                found.append(
                    Condition(
                        "clocks differ",
                        name,
                        "error",
                        f"the clock of the {name} is {_shown(theirs - now)} {ahead} that of the watch's machine",
                        "check NTP on both machines; runs start, and data counts as late, by these clocks",
                        cause="clock",
                    )
                )
        return found

    def _jumped(self, now: datetime, elapsed: float) -> list[Condition]:
        if self._last is not None:
            leap = (now - self._last[0]) - timedelta(seconds=elapsed - self._last[1])
            if abs(leap) > self.tolerance:
                way = "forward" if leap > timedelta() else "back"
                self._jump = (elapsed, f"it jumped {_shown(leap)} {way}, to {now:%Y-%m-%d %H:%M:%S} UTC")
        self._last = (now, elapsed)
        if self._jump is None or elapsed - self._jump[0] > _REMEMBERED.total_seconds():
            self._jump = None
            return []
        return [
            Condition(
                "clock jumped",
                "watch's machine",
                "error",
                f"{self._jump[1]}; or the machine was suspended",
                "check NTP; then look for late runs (`medallion status`) and for runs that started twice",
                cause="clock",
            )
        ]


def _shown(difference: timedelta) -> str:
    seconds = round(abs(difference).total_seconds())
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
