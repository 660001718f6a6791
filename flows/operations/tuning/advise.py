"""`medallion tune`: reads history and both ends, and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.declare.source import Loadable, Source
from flows.failures.diagnose import diagnose
from flows.kinds.answers import SourceFacts
from flows.kinds.registry import kind_of
from flows.operations.tuning.concurrency import Run, more_parallel, off_peak, runs_since
from flows.operations.tuning.findings import Finding, findings
from flows.operations.tuning.history import TableHistory, histories
from flows.operations.tuning.indexes import raw_index, source_index
from flows.operations.tuning.models import builds, findings_of_models, incremental
from flows.operations.tuning.reading import read_less
from flows.operations.tuning.recommendation import LEAST_GAIN, Recommendation, ranked
from flows.operations.tuning.throughput import chunks_to_resume, more_readers
from flows.state import ledger
from flows.state.tunings import SETTINGS, tuned, tunings
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The read-only session at a source, and every question there.
_APPLICATION = "medallion tune"


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at: one source, one of its tables, one model, or everything."""

    source: str | None = None
    table: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What was found in the period, and what would help. `unasked`: sources that did not answer, and why."""

    since: datetime
    until: datetime
    findings: Sequence[Finding]
    recommendations: Sequence[Recommendation]
    unasked: Sequence[str] = field(default_factory=tuple)


async def advise(
    connection: Connection[Record],
    sources: Sequence[Source],
    until: datetime,
    days: int,
    scope: Scope = Scope(),
    least: float = LEAST_GAIN,
) -> Advice:
    """Findings and recommendations from the `days` days before `until`.

    What was accepted and not taken back is not recommended again. A source that does not answer costs only what rests
    on it.
    """
    since = until - timedelta(days=days)
    found: list[Finding] = []
    advice: list[Recommendation] = []
    unasked: list[str] = []
    if scope.model is None:
        tables = await histories(connection, since, scope.source, scope.table)
        runs = await runs_since(connection, since) if scope.table is None else []
        declared = {source.name: source for source in sources}
        found += findings([each for each in tables if _is_declared(declared, each)])
        for source in sources:
            if scope.source in (None, source.name):
                known = [each for each in tables if each.source_system == source.name]
                of_source, problem = await _of_source(connection, source, known, runs, since)
                advice += of_source
                unasked += [] if problem is None else [problem]
    if scope.source is None:
        models = await builds(connection, since, scope.model)
        found += findings_of_models(models)
        advice += await incremental(connection, models, since)
    accepted = {each.recommendation for each in await tunings(connection, unfinished=True)}
    return Advice(
        since,
        until,
        sorted(found, key=lambda each: -each.seconds_a_day),
        ranked((each for each in advice if each.id not in accepted), least),
        unasked,
    )


def _is_declared(sources: dict[str, Source], history: TableHistory) -> bool:
    source = sources.get(history.source_system)
    return source is not None and any(table.name == history.table_name for table in source.tables)


async def _of_source(
    connection: Connection[Record], source: Source, known: list[TableHistory], runs: list[Run], since: datetime
) -> tuple[list[Recommendation], str | None]:
    found: list[Recommendation] = []
    declared = {table.name: table for table in source.tables}
    of_tables = [(declared[each.table_name], each) for each in known if each.table_name in declared]
    for table, history in of_tables:
        if (index := await _in_time(raw_index(connection, source, table, history))) is not None:
            found.append(index)
    if (later := off_peak(source, runs)) is not None:
        found.append(later)
    facts: list[Recommendation] = []
    free: int | None = None
    problem = None
    if kind_of(source).has_facts and any(history.is_known for _, history in of_tables):
        try:
            facts, free = await _with_facts(connection, source, of_tables, since)
        except Exception as raised:
            if connection.is_closed():
                raise diagnose(raised, "warehouse", "warehouse").error from None
            problem = f"{source.name}: {diagnose(raised, f'source {source.name}', 'source').error.what}"
    if problem is None and (parallel := more_parallel(source, runs, free)) is not None:
        found.append(parallel)
    return [*found, *facts], problem


async def _with_facts(
    connection: Connection[Record], source: Source, tables: Sequence[tuple[Loadable, TableHistory]], since: datetime
) -> tuple[list[Recommendation], int | None]:
    """What rests on the source's catalogue, and how many more sessions it accepts."""
    found: list[Recommendation] = []
    free: int | None = None
    async with opened(source) as origin:
        for table, history in tables:
            if (facts := await source_facts(connection, origin, source, table)) is not None:
                free = facts.free_connections
                found += await _of_table(connection, source, table, history, facts, since)
    return found, free


async def _of_table(
    connection: Connection[Record],
    source: Source,
    table: Loadable,
    history: TableHistory,
    facts: SourceFacts,
    since: datetime,
) -> list[Recommendation]:
    own = [row["settings"] for row in await connection.fetch(SETTINGS, source.name, table.name)]
    limits = tuned(settings(), own)
    found = (
        await _in_time(read_less(connection, source, table, history, facts)),
        source_index(source, table, history, facts),
        await more_readers(connection, source, table, history, facts, since, limits),
        chunks_to_resume(source, table, history, limits),
    )
    return [each for each in found if each is not None]


async def _in_time(asked: Awaitable[Recommendation | None]) -> Recommendation | None:
    """None if raw is too large to be looked at within the limit of a statement."""
    try:
        return await asked
    except asyncpg.QueryCanceledError:
        return None


async def source_facts(
    connection: Connection[Record], origin: Any, source: Source, table: Loadable
) -> SourceFacts | None:
    """What the source says about the table, for its stored cursor."""
    state = await ledger.read_cursor(connection, source.name, table.name)
    return await kind_of(source).source_facts(origin, table, state.value)


@asynccontextmanager
async def opened(source: Source) -> AsyncIterator[Any]:
    """The source, read-only."""
    kind = kind_of(source)
    async with kind.open(source, kind.address(source), f"source {source.name}", _APPLICATION) as origin:
        yield origin
