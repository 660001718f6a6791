"""How long the loads of tables took, what they read, how they ended; by median, 95th percentile, trend and weekday."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Of fewer loads or builds nothing is claimed: "learning".
ENOUGH = 8
_HISTORY = Path(__file__).with_name("history.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class TableHistory:
    """The loads of one table. Seconds and rows are medians of comparable loads, `rows_changed` their 95th percentile;
    failed ones are counted apart.

    `first_third` and `last_third` are median seconds of the oldest and the newest third, `first_speed` and
    `last_speed` their bytes per second. `days` is the span of all.
    """

    source_system: str
    table_name: str
    strategy: str
    loads: int
    days: float
    median_seconds: float | None
    p95_seconds: float | None
    first_third: float | None
    last_third: float | None
    first_speed: float | None
    last_speed: float | None
    median_waited: float
    rows_read: float
    rows_changed: float
    bytes: float
    loads_with_bytes: int
    updated: int
    deleted: int
    by_weekday: Mapping[int, float]
    attempts: int
    failed: int
    failed_seconds: float
    failed_at_once: int
    failed_at_once_seconds: float
    last_seconds: float | None
    cpu_seconds: float | None
    memory_bytes: int | None

    @property
    def name(self) -> str:
        """`shop.baskets`."""
        return f"{self.source_system}.{self.table_name}"

    @property
    def is_known(self) -> bool:
        """Whether there are enough loads to claim something."""
        return self.loads >= ENOUGH

    @property
    def per_day(self) -> float:
        """Loads a day, over the days that the loads span; at least one day."""
        return self.loads / max(self.days, 1.0)

    @property
    def seconds_a_day(self) -> float:
        """What its loads take on a day."""
        return (self.median_seconds or 0.0) * self.per_day

    @property
    def unchanged_share(self) -> float:
        """The share of the rows read that was in raw already, also of the loads that found most changes."""
        return max(0.0, 1 - self.rows_changed / self.rows_read) if self.rows_read else 0.0


async def histories(
    connection: Connection[Record], since: datetime, source: str | None = None, table: str | None = None
) -> list[TableHistory]:
    """One per table with loads since then, those that took most time first."""
    rows = await connection.fetch(_HISTORY, since, source, table)
    found = []
    for row in rows:
        facts = dict(row)
        facts["by_weekday"] = {int(day): float(median) for day, median in json.loads(facts["by_weekday"]).items()}
        found.append(TableHistory(**facts))
    return found
