"""Wait less: more tables of a source in parallel, or a start when nothing else runs."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING

from flows.declare.source import Source
from flows.operations.tuning.edits import source_edit
from flows.operations.tuning.history import ENOUGH
from flows.operations.tuning.recommendation import Recommendation
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_MOST_PARALLEL = 16
#: Runs beside others take at least so many times as long as alone, before another start is recommended.
_SLOWER = 1.5
#: A run counts as beside others from this share of its time on.
_BESIDE = 0.5
#: Of other runs, those that began earlier than this before a run are not looked at: a flow ends after two hours.
_LONGEST = 7_200.0

_RUNS = """
select
    r.run_id,
    r.pipeline,
    r.scope,
    r.started_at,
    extract(epoch from r.started_at)::double precision as began,
    extract(epoch from r.finished_at)::double precision as ended,
    coalesce(l.loads, '{}') as loads
from ops.runs as r
left join lateral (
    select
        array_agg(extract(epoch from l.finished_at - l.started_at)::double precision order by l.started_at) as loads
    from ops.loads as l
    where l.run_id = r.run_id and l.finished_at is not null
) as l on r.pipeline = 'ingest'
where r.started_at >= $1 and r.status = 'done' and r.finished_at is not null
order by r.started_at
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that ended well. `loads`: the seconds of its loads, in the order in which they began."""

    pipeline: str
    scope: str
    started_at: datetime
    began: float
    ended: float
    loads: Sequence[float]

    @property
    def seconds(self) -> float:
        """Its whole time."""
        return self.ended - self.began


async def runs_since(connection: Connection[Record], since: datetime) -> list[Run]:
    """All runs of all pipelines that ended well, by their start."""
    rows = await connection.fetch(_RUNS, since)
    return [Run(*list(row.values())[1:]) for row in rows]


def more_parallel(source: Source, runs: Sequence[Run], free_connections: int | None) -> Recommendation | None:
    """For a source whose tables wait for each other; None if one long table decides how long a run takes."""
    own = [run for run in _ingests(source, runs) if len(run.loads) > source.max_parallel]
    if len(own) < ENOUGH:
        return None
    tables = round(median(len(run.loads) for run in own))
    wanted = min(2 * source.max_parallel, tables, _MOST_PARALLEL)
    if wanted <= source.max_parallel or (free_connections is not None and free_connections < 2 * wanted):
        return None
    now, then = (median(_scheduled(run.loads, each) for run in own) for each in (source.max_parallel, wanted))
    measured, per_day = median(run.seconds for run in own), _per_day(own)
    # Where the arithmetic does not come near what runs take, something else decides it.
    if not 0.5 * measured <= now <= 1.5 * measured:
        return None
    return Recommendation(
        "parallel",
        source.name,
        f"load {wanted} tables in parallel in place of {source.max_parallel}",
        "declaration",
        _parallel_edit(source, wanted),
        f"declare max_parallel={source.max_parallel} again",
        (now - then) * per_day,
        f"the loads of each run, {wanted} in place of {source.max_parallel} at a time: {then:,.1f} s in place of "
        f"{now:,.1f} s (median) * {per_day:,.1f} runs a day; at most, if loads do not slow each other down",
        "low",
        "more sessions and more load at the source and the warehouse",
        f"{len(own)} runs of {tables} tables took {measured:,.1f} s (median), their longest load "
        f"{median(max(run.loads) for run in own):,.1f} s",
        len(own),
        "seconds per run",
        {"seconds per run": measured - (now - then), "declared": str(wanted)},
        source=source.name,
    )


def _parallel_edit(source: Source, wanted: int) -> str:
    edit = source_edit(source.name, {"max_parallel": str(wanted)})
    if settings().warehouse_parallel >= wanted:
        return edit
    return f"{edit}\n# and MEDALLION_WAREHOUSE_PARALLEL={wanted}, then `medallion register`"


def _scheduled(loads: Iterable[float], at_once: int) -> float:
    """How long loads take, so many at once, each begun when one before it ends."""
    busy: list[float] = []
    for seconds in loads:
        heapq.heappush(busy, seconds if len(busy) < at_once else heapq.heappop(busy) + seconds)
    return max(busy, default=0.0)


def off_peak(source: Source, runs: Sequence[Run]) -> Recommendation | None:
    """For a source whose runs take longer beside others; None unless both kinds of runs were measured."""
    own = _ingests(source, runs)
    fields = (source.schedule or "").split()
    if len(fields) != 5 or not fields[0].isdigit():
        return None
    mine = {id(run) for run in own}
    others = [run for run in runs if id(run) not in mine]
    starts = [run.began for run in others]
    beside = [run for run in own if _overlap(run, others, starts) >= _BESIDE * run.seconds]
    together = {id(run) for run in beside}
    alone = [run for run in own if id(run) not in together]
    if len(beside) < ENOUGH or len(alone) < ENOUGH:
        return None
    slow, fast = median(run.seconds for run in beside), median(run.seconds for run in alone)
    if slow < _SLOWER * fast:
        return None
    minute = _quietest_minute(others, fast)
    per_day = _per_day(own) * len(beside) / len(own)
    schedule = " ".join([str(minute), *fields[1:]])
    return Recommendation(
        "schedule",
        source.name,
        f"start at minute {minute}, when least else runs",
        "declaration",
        source_edit(source.name, {"schedule": f'"{schedule}"'}),
        f'declare schedule="{source.schedule}" again',
        (slow - fast) * per_day,
        f"{slow:,.1f} s beside other runs, {fast:,.1f} s alone (medians) * {per_day:,.1f} such runs a day",
        "low",
        "tables are fresh at another minute: compare with the deadlines that are declared",
        f"{len(beside)} runs beside others, {len(alone)} alone",
        len(own),
        "seconds per run",
        {"seconds per run": fast, "declared": schedule},
        source=source.name,
    )


def _ingests(source: Source, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.pipeline == "ingest" and run.scope == source.name]


def _per_day(runs: Sequence[Run]) -> float:
    return len(runs) / max((runs[-1].began - runs[0].began) / 86_400, 1.0)


def _overlap(run: Run, others: Sequence[Run], starts: Sequence[float]) -> float:
    """For how many seconds of the run another one ran; `others` are in the order of their starts."""
    first, last = bisect_left(starts, run.began - _LONGEST), bisect_right(starts, run.ended)
    covered, end = 0.0, run.began
    for other in others[first:last]:
        begin = max(other.began, end)
        if (until := min(other.ended, run.ended)) > begin:
            covered, end = covered + until - begin, until
    return covered


def _quietest_minute(others: Sequence[Run], seconds: float) -> int:
    """The minute of an hour from which on least else runs for so long."""
    busy: dict[int, float] = defaultdict(float)
    for run in others:
        for minute in range(int(run.began // 60), int(run.ended // 60) + 1):
            busy[minute % 60] += min(run.ended, minute * 60 + 60) - max(run.began, minute * 60)
    length = max(1, min(60, round(seconds / 60 + 0.5)))
    return min(range(60), key=lambda start: sum(busy[(start + each) % 60] for each in range(length)))
