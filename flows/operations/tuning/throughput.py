"""Read faster: more readers of one table, and chunks that a failed load resumes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.declare.source import Loadable, Source
from flows.kinds.answers import SourceFacts
from flows.operations.tuning.history import ENOUGH, TableHistory
from flows.operations.tuning.recommendation import Recommendation
from flows.values.settings import Settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_MOST_READERS = 8
#: Of the sessions that the source still accepts, more readers may take so many.
_SHARE_OF_FREE = 0.5
#: More readers that read this much more together are worth having.
_SCALES = 1.15
_LONG_SECONDS = 60.0
_FAILED_AT_LEAST = 3

# One row per read in chunks. How many read at once: their seconds, over those from the first to the last.
_READS = """
select
    sum(c.bytes)::double precision as bytes,
    sum(c.seconds) as seconds,
    greatest(
        extract(epoch from max(c.committed_at) - min(c.committed_at - c.seconds * interval '1 second')), 0.001
    )::double precision as took
from ops.chunks as c
inner join ops.reads as r using (batch_id)
inner join ops.loads as l using (batch_id)
where l.source_system = $1 and l.table_name = $2 and l.started_at >= $3 and l.status = 'published'
group by c.batch_id having count(*) >= 4
"""


@dataclass(frozen=True, slots=True)
class _Reads:
    """Reads with about so many readers at once: their number, medians of seconds and of bytes per second together."""

    readers: int
    count: int
    took: float
    speed: float


async def more_readers(
    connection: Connection[Record],
    source: Source,
    table: Loadable,
    history: TableHistory,
    facts: SourceFacts,
    since: datetime,
    limits: Settings,
) -> Recommendation | None:
    """For a table read in chunks; None if the source has no sessions left, or more readers were no faster before."""
    reads = _by_readers(await connection.fetch(_READS, source.name, table.name, since))
    most = max(reads, key=lambda each: each.count, default=None)
    if most is None or most.count < ENOUGH or facts.free_connections is None:
        return None
    slower = [each for each in reads if each.readers < most.readers and each.count >= ENOUGH]
    faster = [each for each in reads if each.readers > most.readers and each.count >= ENOUGH]
    if any(most.speed < _SCALES * each.speed for each in slower) or faster:
        return None
    wanted = min(2 * most.readers, _MOST_READERS, most.readers + int(facts.free_connections * _SHARE_OF_FREE))
    if wanted <= most.readers:
        return None
    settings: dict[str, float] = {"load_readers": wanted}
    if history.bytes < limits.large_load_mb * 1e6:
        settings["large_load_mb"] = max(0.0, history.bytes / 2e6)
    per_day = min(most.count, history.loads) / max(history.days, 1.0)
    each = most.speed / most.readers / 1e6
    return Recommendation(
        "readers",
        history.name,
        f"read with {wanted} connections in place of {most.readers}",
        "setting",
        ", ".join(f"{name}={value:g}" for name, value in settings.items()),
        "the settings of all tables",
        most.took * (1 - most.readers / wanted) * per_day,
        f"{most.took:,.1f} s of reading * (1 - {most.readers}/{wanted}) * {per_day:,.1f} loads a day; at most, if one "
        "more reader is as fast as the others",
        "low",
        "more sessions and more load at the source",
        f"{most.count} reads in chunks: one reader reads {each:,.1f} MB/s, {most.readers} together "
        f"{most.speed / 1e6:,.1f}; the source accepts {facts.free_connections} more sessions",
        most.count,
        "seconds per load",
        {"seconds per load": (history.median_seconds or 0) - most.took * (1 - most.readers / wanted)},
        settings=settings,
        source=source.name,
        table=table.name,
    )


def _by_readers(rows: list[Record]) -> list[_Reads]:
    groups: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        readers = max(1, round(row["seconds"] / row["took"]))
        groups.setdefault(readers, []).append((row["took"], row["bytes"] / row["took"]))
    return [
        _Reads(readers, len(group), _median([took for took, _ in group]), _median([speed for _, speed in group]))
        for readers, group in groups.items()
    ]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def chunks_to_resume(source: Source, table: Loadable, history: TableHistory, limits: Settings) -> Recommendation | None:
    """For a table of long loads that fail on the way and start over; None if it is read in chunks already."""
    lost, failed = history.failed_at_once_seconds, history.failed_at_once
    if failed < _FAILED_AT_LEAST or not history.is_known or not table.keys or history.strategy == "overwrite":
        return None
    if (history.median_seconds or 0) < _LONG_SECONDS or lost / failed < _LONG_SECONDS / 2:
        return None
    if history.bytes < 4 * limits.chunk_min_mb * 1e6:
        return None
    threshold = history.bytes / 4e6
    return Recommendation(
        "chunks",
        history.name,
        "read in chunks, so that a load that failed resumes",
        "setting",
        f"medium_load_mb={threshold:g}",
        "the settings of all tables",
        lost / 2 / max(history.days, 1.0),
        f"{lost:,.0f} s lost in {failed} failed loads, over {max(history.days, 1.0):,.1f} days; half of it, since on "
        "average half of the read is kept",
        "low",
        "each chunk is a commit, which costs some milliseconds",
        f"{failed} of {history.attempts} loads failed after {lost / failed:,.0f} s on average and read all again; "
        f"{history.bytes / 1e6:,.0f} MB a load",
        history.attempts,
        "seconds lost a day",
        {"seconds lost a day": lost / 2 / max(history.days, 1.0)},
        settings={"medium_load_mb": threshold},
        source=source.name,
        table=table.name,
    )
