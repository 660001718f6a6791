"""One load of one table, whatever its kind: lock, plan, stage, check, publish, acknowledge."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from flows.declare.source import Loadable, Source
from flows.kinds.registry import kind_of
from flows.landing.table import Target
from flows.observe.tracing import span
from flows.publish.budget import Spending
from flows.publish.identity import joined
from flows.publish.run import Loaded, LoadRun
from flows.publish.session import LoadResult, LoadSession, Progress, load_session
from flows.state import decisions, ledger
from flows.values.asking import Asking, asking
from flows.values.connection import DatabaseConnection
from flows.values.errors import BudgetReached
from flows.values.plan import LoadCounts, LoadPlan
from flows.values.row_limit import refuse_limit
from flows.verbs.approval import ask_of
from flows.verbs.profiling import profiling_of


async def load_table(
    warehouse: DatabaseConnection,
    address: Any,
    source: Source,
    table: Loadable,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
    run_chunk: Callable[[Any], Awaitable[Any]] | None = None,
) -> LoadResult:
    """Bring raw up to date with the source's table. `address` is what `Kind.address` returns for the source.

    `run_chunk` has a chunk of a large table staged elsewhere (None: in threads of this process).

    Raises:
        MedallionError: see `flows.values.errors`; what was committed before stays, and nothing partial is left.
    """
    kind = kind_of(source)
    target = Target(source.name, table.name, source.raw_schema)
    locked = load_session(warehouse, target, "planned", run_id, resumes=kind.resumes)
    under_way = _UnderWay(LoadPlan(source.name, table.name, "planned", ""))
    try:
        async with locked as session, contextlib.AsyncExitStack() as opened:
            under_way.session = session
            spending = Spending.of(source, table)
            spending.refuse_if_exhausted()
            opened.callback(spending.release)
            with session.reading():
                origin = await opened.enter_async_context(
                    kind.open(source, address, target.where, f"medallion read {target.where}")
                )
            if (ask := ask_of(source, table)) is not None:
                session.ask = ask
                answers = await decisions.answers(session.warehouse, target.where)
                opened.enter_context(asking(Asking(frozenset(ask.about), answers)))
            if not kind.heeds_limit:
                refuse_limit("this kind of source is read in full only", target.where)
            with session.reading() if kind.plan_fails_at == "source" else session.writing(), span("plan"):
                planned = await kind.plan(session.warehouse, origin, source, table)
            volume = planned.plan.reading.volume if kind.reads_in_chunks else None
            await ledger.note_strategy(session.warehouse, session.batch_id, planned.plan.strategy, volume)
            session.profiling = profiling_of(source, table)
            run = LoadRun(warehouse, session, origin, address, source, table, on_progress, run_chunk, spending)
            under_way.plan, under_way.run = planned.plan, run
            spending.expected = planned.plan.reading.rows or None
            with span("read", strategy=planned.plan.strategy, batch=session.batch_id):
                loaded = await kind.load(run, planned)
            with span("acknowledge"):
                await kind.acknowledge(run, planned, loaded)
            result = session.result(_noted(loaded, spending), loaded.counts, table, loaded.changes, loaded.chunks)
            return replace(result, requests=spending.requests)
    except BudgetReached as stop:
        return under_way.stopped(stop, table)


def _noted(loaded: Loaded, spending: Spending) -> LoadPlan:
    """The plan as carried out, with a word if more was read than a budget allows."""
    return replace(loaded.plan, warning=joined(loaded.plan.warning, spending.exceeded()))


@dataclass(slots=True)
class _UnderWay:
    """How far a load has come, for the result of one that stops at a budget."""

    plan: LoadPlan
    session: LoadSession | None = None
    run: LoadRun[Any, Any] | None = None

    def stopped(self, stop: BudgetReached, table: Loadable) -> LoadResult:
        """Its result: what was published stays, and nothing was compared."""
        assert self.session is not None  # only a load that has begun stops
        done = self.run.published if self.run is not None else LoadCounts()
        read = max(done.rows_read, self.run.spending.rows if self.run is not None else 0)
        counts = replace(done, rows_read=read, reconciliation="incomplete", source_rows=None, raw_rows=None)
        requests = self.run.spending.requests if self.run is not None else 0
        return replace(self.session.result(self.plan, counts, table), stopped=stop.what, requests=requests)
