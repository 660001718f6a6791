"""What came of applied changes: figures before and after, a verdict, and what did not help taken back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.declare.source import Source
from flows.operations.tuning.advise import opened, source_facts
from flows.operations.tuning.applying import AUTOMATIC, PAGES_LEFT, revert
from flows.operations.tuning.measuring import Figures, Verdict, measure, verdict
from flows.operations.tuning.models import newest_manifest
from flows.state.tunings import Tuning, find_tuning, mark_applied, record_verdict, tunings
from flows.values.errors import MedallionError, WarehouseError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: What can be taken back without an edit, and without another's connection.
_OURS = ("readers", "chunks", "warehouse-index")
_SECONDS = ("seconds per load", "seconds per run", "seconds per build")

# The first load of another strategy than before: with the edited declaration.
_FIRST_OTHER = """
select min(started_at) from ops.loads
where source_system = $1 and table_name = $2 and started_at >= $3 and strategy <> coalesce($4, '')
    and strategy not in ('initial', 'reload', 'backfill', 'repair', 'replay', 'limited') and status = 'published'
"""


async def evaluate(connection: Connection[Record], sources: Sequence[Source], now: datetime) -> list[Tuning]:
    """Bring every verdict up to date, and take back what is ours and did not help. Returns those taken back."""
    gone = []
    for tuning in await tunings(connection, unfinished=True):
        current = tuning
        if tuning.applied_at is None:
            if (since := await _in_effect_since(connection, sources, tuning, now)) is None:
                continue
            await mark_applied(connection, tuning.tuning_id, since)
            current = await find_tuning(connection, tuning.tuning_id) or tuning
        found = await _measure(connection, current, now)
        if found in ("no difference", "worse") and current.kind in _OURS and not current.keep:
            # What is locked now is dropped another time.
            with suppress(WarehouseError):
                await revert(connection, current, AUTOMATIC, f"{current.measure}: {found}")
                gone.append(current)
    return gone


async def notice_source_indexes(connection: Connection[Record], sources: Sequence[Source]) -> None:
    """Note which accepted indexes their owners have made meanwhile. A source that does not answer is left out."""
    declared = {source.name: source for source in sources}
    for tuning in await tunings(connection, unfinished=True):
        source = declared.get(tuning.source_system or "")
        if tuning.kind != "source-index" or tuning.applied_at is not None or source is None:
            continue
        with suppress(MedallionError):
            async with opened(source) as origin:
                facts = await source_facts(connection, origin, source, source.table(tuning.table_name or ""))
            if facts is not None and facts.scan is None:
                await mark_applied(connection, tuning.tuning_id)


async def _measure(connection: Connection[Record], tuning: Tuning, now: datetime) -> Verdict:
    """The verdict by its measure; and worse, whatever that says, if the seconds are."""
    assert tuning.applied_at is not None
    subject = (tuning.source_system, tuning.table_name, tuning.model)
    after: dict[str, Any] = {name: value for name, value in (tuning.after or {}).items() if name == "pages"}
    verdicts: dict[str, Verdict] = {}
    for what in tuning.before:
        if what != tuning.measure and what not in _SECONDS:
            continue
        figures = await measure(connection, what, subject, tuning.applied_at, now)
        after[what] = figures.values()
        verdicts[what] = verdict(Figures(**tuning.before[what]), figures)
    found = verdicts[tuning.measure]
    if found == "no difference" and _finds_rows_sooner(tuning):
        found = "helped"
    if found != "learning" and any(verdicts.get(what) == "worse" for what in _SECONDS):
        found = "worse"
    await record_verdict(connection, tuning.tuning_id, after, found)
    return found


def _finds_rows_sooner(tuning: Tuning) -> bool:
    """Of an index: whether the same rows were found in fewer pages, whatever else a load takes."""
    pages = (tuning.after or {}).get("pages")
    return pages is not None and bool(pages <= PAGES_LEFT * tuning.before["pages"])


async def _in_effect_since(
    connection: Connection[Record], sources: Sequence[Source], tuning: Tuning, now: datetime
) -> datetime | None:
    """Since when the declaration says what was recommended; None if it does not yet."""
    if tuning.kind in ("cursor", "partition"):
        since: datetime | None = await connection.fetchval(
            _FIRST_OTHER, tuning.source_system, tuning.table_name, tuning.accepted_at, tuning.before.get("strategy")
        )
        return since
    if tuning.kind == "incremental":
        manifest = await newest_manifest(connection)
        relations = manifest.relations.values() if manifest is not None else ()
        built = any(each.name == tuning.model and each.materialized == "incremental" for each in relations)
        return now if built else None
    declared = next((source for source in sources if source.name == tuning.source_system), None)
    if declared is None or tuning.kind not in ("parallel", "schedule"):
        return None
    word = str(declared.max_parallel) if tuning.kind == "parallel" else declared.schedule
    return now if word == tuning.expected.get("declared") else None
