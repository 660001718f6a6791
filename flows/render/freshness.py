"""Freshness limits of raw tables.

Freshness is measured on `ops.loads`, not on the rows: an unchanged table keeps its old `_extracted_at` although it was
loaded. A load without changes is a load.
"""

from dataclasses import dataclass
from datetime import timedelta

from flows.declare.source import Source
from flows.render.cadence import longest_gap
from flows.values.identifiers import quote_literal

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Freshness:
    """Hours since the last published load until a warning, and until the gate fails."""

    warn_hours: int
    stop_hours: int


def freshness(source: Source) -> Freshness | None:
    """Three missed runs warn and ten fail the gate, but not before 36 hours and 7 days: a laptop that slept over a
    weekend is not an incident, and building on last night's rows beats not building. Unscheduled sources have none.
    """
    if source.schedule is None:
        return None
    hours = longest_gap(source.schedule, f"source {source.name}") / _HOUR
    return Freshness(warn_hours=max(36, round(3 * hours)), stop_hours=max(7 * 24, round(10 * hours)))


def last_load(source: str, table: str, expression: str = "max(finished_at)") -> str:
    """The query for the last published load of a table, on one line."""
    published = (
        f"from ops.loads where source_system = {quote_literal(source)} and table_name = {quote_literal(table)} "
        "and status = 'published'"
    )
    return (
        # A repair reloads single keys, and a replay rows of quarantine: neither makes the table fresh. Nor does a
        # limited load, unless raw has nothing else.
        f"select {expression} {published} and strategy not in ('repair', 'replay') "
        "and (strategy <> 'limited' or not exists "
        f"(select {published} and strategy not in ('repair', 'replay', 'limited')))"
    )
