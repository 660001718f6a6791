"""Figures before and after a change: medians of comparable loads, runs or builds, by weekday."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from flows.operations.tuning.history import ENOUGH

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Verdict = Literal["learning", "helped", "no difference", "worse"]
#: What changes less than this makes no difference.
_MATTERS = 0.1
#: The standard deviation of a normal distribution, from the median absolute deviation.
_DEVIATION = 1.4826

_WHOLE = """
from ops.loads where source_system = $1 and ($2::text is null or table_name = $2) and $3::text is null
and started_at >= $4 and started_at < $5
and strategy not in ('initial', 'reload', 'backfill', 'repair', 'replay', 'limited')
"""
_PUBLISHED = f"{_WHOLE} and status = 'published' and reconciliation is distinct from 'incomplete'"
_SECONDS = "extract(epoch from finished_at - started_at)::float8"
_DAY = "(started_at at time zone 'UTC')::date"
#: Weekday and value, by the name of what is measured. Nothing is read by a replace that found nothing written.
_SAMPLES = {
    "rows read per load": (
        f"select extract(isodow from started_at at time zone 'UTC')::integer, "
        f"case when coalesce(bytes, 0) = 0 then 0 else rows_read end::float8 {_PUBLISHED}"
    ),
    "seconds per load": f"select extract(isodow from started_at at time zone 'UTC')::integer, {_SECONDS} {_PUBLISHED}",
    "seconds lost a day": (
        f"select extract(isodow from {_DAY})::integer, "
        f"coalesce(sum({_SECONDS}) filter (where status = 'failed'), 0) {_WHOLE} and finished_at is not null "
        f"group by {_DAY}"
    ),
    "seconds per run": (
        f"select extract(isodow from started_at at time zone 'UTC')::integer, {_SECONDS} from ops.runs "
        "where pipeline = 'ingest' and scope = $1 and status = 'done' and $2::text is null and $3::text is null "
        "and started_at >= $4 and started_at < $5"
    ),
    "seconds per build": (
        "select extract(isodow from day)::integer, seconds / times from ops.usage_days where kind = 'model' "
        "and $1::text is null and $2::text is null and name = $3 and times > 0 "
        "and day >= ($4::timestamptz at time zone 'UTC')::date and day < ($5::timestamptz at time zone 'UTC')::date"
    ),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of `runs` loads, runs or builds: median, median absolute deviation, median of each weekday (1: Monday)."""

    runs: int = 0
    median: float = 0.0
    deviation: float = 0.0
    by_weekday: Mapping[str, float] | None = None

    @classmethod
    def of(cls, samples: Sequence[tuple[int, float]]) -> Figures:
        """Of (weekday, value)."""
        if not samples:
            return cls()
        values = [value for _, value in samples]
        days = {day: [value for each, value in samples if each == day] for day, _ in samples}
        middles = {day: median(of_day) for day, of_day in days.items()}
        # Deviations from the day's own median: that Mondays are slow is no noise.
        deviation = median(abs(value - middles[day]) for day, value in samples)
        return cls(
            len(values), median(values), deviation, {str(day): middle for day, middle in sorted(middles.items())}
        )

    def values(self) -> dict[str, Any]:
        """For ops.tunings."""
        return asdict(self)


async def measure(
    connection: Connection[Record],
    what: str,
    subject: tuple[str | None, str | None, str | None],
    since: datetime,
    until: datetime,
) -> Figures:
    """The figures of a (source, table, model) in a period; `what` is the measure of a recommendation."""
    rows = await connection.fetch(_SAMPLES[what], *subject, since, until)
    return Figures.of([(row[0], row[1]) for row in rows if row[1] is not None])


def on_common_weekdays(before: Figures, after: Figures) -> tuple[float, float]:
    """What to compare: the mean of the medians of weekdays that both have; of none, the medians of all."""
    earlier, later = before.by_weekday or {}, after.by_weekday or {}
    common = earlier.keys() & later.keys()
    if not common:
        return before.median, after.median
    return sum(earlier[day] for day in common) / len(common), sum(later[day] for day in common) / len(common)


def verdict(before: Figures, after: Figures, *, enough: int = ENOUGH) -> Verdict:
    """Less is better. A difference counts if it is a tenth, and more than what differs from one to the next anyway."""
    if before.runs < enough or after.runs < enough:
        return "learning"
    then, now = on_common_weekdays(before, after)
    matters = max(_MATTERS * then, _DEVIATION * before.deviation)
    if now < then - matters:
        return "helped"
    return "worse" if now > then + matters else "no difference"
