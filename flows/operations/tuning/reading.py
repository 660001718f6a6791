"""Read less: a cursor, or partitions, in place of the full table on each load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.declare import Replace
from flows.declare.source import Loadable, Source
from flows.kinds.answers import CursorCandidate, SourceFacts
from flows.operations.tuning.edits import table_edit
from flows.operations.tuning.evidence import LAG, ChangedRows, Recent, recent, rising
from flows.operations.tuning.history import ENOUGH, TableHistory
from flows.operations.tuning.recommendation import Recommendation, percent

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: A smaller table is read in less time than a person needs to read a recommendation.
SMALL_ROWS = 10_000
_UNCHANGED_AT_LEAST = 0.8
_CHANGED_ROWS, _CHANGED_LOADS = 20, 3
_MOST_MONTHS = 4
_OUTSIDE_AT_LEAST = 0.5


async def read_less(
    connection: Connection[Record], source: Source, table: Loadable, history: TableHistory, facts: SourceFacts
) -> Recommendation | None:
    """For a table that is read in full although little of it changes; None if nothing shows which rows do."""
    if not isinstance(table.load, Replace) or not table.keys or history.strategy != "replace":
        return None
    if not history.is_known or history.rows_read < SMALL_ROWS or history.unchanged_share < _UNCHANGED_AT_LEAST:
        return None
    if history.loads_with_bytes < ENOUGH:
        return None  # the source's statistics tell that nothing was written, and nothing is read
    changed = await rising(connection, source, table, facts.candidates)
    if changed is not None and changed.rows >= _CHANGED_ROWS and changed.loads >= _CHANGED_LOADS:
        candidate = _best(facts, changed, history)
        if candidate is not None:
            return _cursor(source, table, history, candidate, changed)
    if history.deleted:
        return None  # a deletion leaves no trace in raw of the partition that it was in
    found = await recent(connection, source, table, _MOST_MONTHS)
    if found is None or found.rows < _CHANGED_ROWS or found.loads < _CHANGED_LOADS:
        return None
    return _partition(source, table, history, found) if 1 - found.share >= _OUTSIDE_AT_LEAST else None


def _best(facts: SourceFacts, changed: ChangedRows, history: TableHistory) -> CursorCandidate | None:
    """A time that moved with each update; of rows that never change, a number that rises with each new one."""
    fitting = [each for each in facts.candidates if changed.contradicting.get(each.column) == 0]
    if history.updated:
        fitting = [each for each in fitting if not each.counts]
    elif history.deleted:
        return None
    else:
        # Without updates, times say nothing of whether an update would move them.
        fitting = [each for each in fitting if each.counts]
    return max(fitting, key=lambda each: (each.indexed, "trigger" in each.evidence), default=None)


def _cursor(
    source: Source, table: Loadable, history: TableHistory, candidate: CursorCandidate, changed: ChangedRows
) -> Recommendation:
    name = candidate.column
    arguments = (
        {"cursor": f'Sequence("{name}")', "load": "Append()"}
        if candidate.counts
        else {"cursor": f'Timestamp("{name}", lag="{LAG}")', "load": "Merge()", "deletes": "True"}
    )
    risk = (
        "a later update of a row would not be found: `medallion reconcile` shows such rows"
        if candidate.counts
        else f"rows written without changing {name} are not found: `medallion reconcile` shows them; deleted rows stay "
        "in raw, marked by _deleted_at"
    )
    if not candidate.indexed:
        risk += f"; without an index on {name} the source still scans the table"
    share = history.unchanged_share * history.loads_with_bytes / history.loads
    word = "number" if candidate.counts else "time"
    return Recommendation(
        "cursor",
        history.name,
        f"read only changed rows: declare {name} as the cursor",
        "declaration",
        table_edit(source.name, table.name, arguments),
        "declare load=Replace() again, without a cursor",
        history.seconds_a_day * share,
        f"{history.seconds_a_day:,.0f} s a day * {percent(share)} of what is read is unchanged; at most, because "
        "counting keys remains",
        "medium",
        risk,
        f"reads {history.rows_read:,.0f} rows, of which {history.rows_changed:,.0f} changed (p95 of {history.loads} "
        f"loads); {name} ({candidate.evidence or 'no default'}): of {changed.rows:,} rows changed by {changed.loads} "
        f"loads none has a {word} that the cursor would have missed",
        history.loads,
        "rows read per load",
        {"rows read per load": history.rows_changed},
        source=source.name,
        table=table.name,
    )


def _partition(source: Source, table: Loadable, history: TableHistory, found: Recent) -> Recommendation:
    share = (1 - found.share) * history.loads_with_bytes / history.loads
    load = f'Overwrite(by="{found.column}", every="month", last={found.months})'
    return Recommendation(
        "partition",
        history.name,
        f"read only the last {found.months} months by {found.column}",
        "declaration",
        table_edit(source.name, table.name, {"load": load}),
        "declare load=Replace() again",
        history.seconds_a_day * share,
        f"{history.seconds_a_day:,.0f} s a day * {percent(share)} of what is read is older",
        "medium",
        "changes of older rows are found by `medallion reconcile` or read by `medallion backfill` only",
        f"all {found.rows:,} rows changed by {found.loads} loads are of the last {found.months} months by "
        f"{found.column}, which have {percent(found.share)} of all rows; "
        f"no load of {history.loads} deleted rows",
        history.loads,
        "rows read per load",
        {"rows read per load": history.rows_read * found.share},
        source=source.name,
        table=table.name,
    )
