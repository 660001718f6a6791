"""Whether each table received about as many rows as it usually does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.source import Source
from flows.operations.alerts import Condition
from flows.operations.anomalies import Anomaly, record
from flows.operations.checks.anomalies import cause
from flows.operations.volumes import Volume, holidays_of, unusual, volumes
from flows.sources import SOURCES

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_NAME = "volume unusual"
#: How many days back the day before the last one is looked for: tables are not loaded every day.
_DAYS_BACK = 4


async def volume_unusual(
    connection: Connection[Record], now: datetime, sources: Iterable[Source] = SOURCES
) -> list[Condition]:
    """Tables that received too few or too many rows on the last complete day, UTC.

    One such day is information. The second in a row of a table is a warning, which the default route sends.
    """
    last = now.astimezone(UTC).date() - timedelta(days=1)
    found = unusual(await volumes(connection, last, _DAYS_BACK, holidays_of(sources, last, _DAYS_BACK)), last)
    await record(connection, [_kept(volume, again=again) for volume, again in found])
    return [
        Condition(
            _NAME,
            volume.table,
            "warning" if again else "info",
            f"{volume.rows:,} rows on {volume.day:%Y-%m-%d}, which is {volume.state}: usual on that weekday are "
            f"{volume.lowest:,} to {volume.highest:,}" + (", and so was the day before" if again else ""),
            "compare with the source: is a part of it missing, or twice? If it is right, "
            f"`medallion anomalies accept {volume.table} --reason …`",
            source=volume.source_system,
            table=volume.table_name,
            cause=cause(volume.table),
        )
        for volume, again in found
    ]


def _kept(volume: Volume, *, again: bool) -> Anomaly:
    return Anomaly(
        volume.source_system,
        volume.table_name,
        volume.day,
        "",
        "volume",
        volume.state,
        volume.rows,
        volume.usual or 0,
        volume.lowest or 0,
        volume.highest or 0,
        volume.known,
        again,
    )
