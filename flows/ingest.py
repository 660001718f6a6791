"""Flow ingest: plan → stage → check → publish, for every table of a source.

Tables fail independently: one that is refused or unreachable does not prevent the others from being loaded.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.access.kept_sessions import keeping_sessions
from flows.declare import Overwrite
from flows.declare.budget import Budget, chosen_budget
from flows.declare.source import Loadable, Source
from flows.failures.combined import by_cause, combined, distinct, named
from flows.failures.diagnose import Failure, diagnose
from flows.kinds.registry import kind_of
from flows.observe import sentry
from flows.observe.artifacts import LoadLine, loads_table_markdown
from flows.privacy.returned import erase_returned
from flows.publish.budget import shared_budgets
from flows.state import ledger
from flows.state.budgets import longest_unread_first
from flows.tasks import begin
from flows.tasks import lineage as lineage_events
from flows.tasks import tables as tasks_tables
from flows.tasks.budgets import stopped_at_budget
from flows.tasks.results import announce_differences, worst
from flows.tasks.runs import Run, table_run
from flows.tasks.schema_changes import announce_schema_changes
from flows.tasks.slots import shared_slots
from flows.tasks.suspending import hear_form, suspend_for
from flows.tasks.usage import used_by
from flows.values.errors import MedallionError
from flows.values.row_limit import row_limit
from flows.verbs.find import find_source


@flow(
    name="ingest",
    flow_run_name="ingest {source}",
    result_serializer="json",
    persist_result=True,
    validate_parameters=True,
)
async def ingest(
    source: str,
    tables: list[str] | None = None,
    max_rows: int | None = None,
    max_bytes: str | None = None,
    max_minutes: float | None = None,
    max_cost: float | None = None,
) -> list[dict[str, Any]]:
    """Load the source's tables, or the named ones, and return each load's facts.

    `max_…`: the budget of this run; a load that reaches it stops at a commit, and the next run goes on from there. The
    run then ends as completed, with the name "Stopped at budget".

    Raises:
        IngestFailed: a table could not be loaded; raised with all reasons after the others are done.
        DecisionNeeded: all that is missing is a person's decision. The run of a deployment is suspended instead.
    """
    begin.begin()
    budget = chosen_budget(max_rows, max_bytes, max_minutes, max_cost)
    heard = [subject.partition(".")[2] for subject in await hear_form()]
    try:
        return await _ingest(source, heard or tables, budget)
    except MedallionError as error:
        await suspend_for(error)
        raise


async def _ingest(source: str, tables: list[str] | None, budget: Budget | None) -> list[dict[str, Any]]:
    declared = find_source(source)
    chosen: list[Loadable] = [declared.table(name) for name in tables] if tables else list(declared.tables)
    of_all = [table.name for table in declared.tables]
    shared = shared_budgets(("the run", budget), (f"source {source}", declared.budget))
    async with table_run("ingest", source, where=f"source {source}", tables=of_all) as run:
        chosen = await _longest_unread_first(declared, chosen)
        windows = await _windows(declared, [table.name for table in chosen])
        lineage = lineage_events.lineage_run(f"ingest.{source}", begin.current_flow_run_id(), run.number)
        await lineage_events.tell("START", lineage)
        turns = asyncio.Semaphore(declared.max_parallel)
        ended = {table.name: asyncio.Event() for table in chosen}
        after = kind_of(declared).order(chosen)

        async def take_turn(table: Loadable) -> State[dict[str, Any]]:
            # Its parents have ended, whatever the result.
            if (first := after.get(table.name)) in ended:
                await ended[first].wait()
            try:
                async with turns:
                    await lineage_events.tell_load("START", lineage, declared, table.name)
                    # Prefect's overloads know return_state for functions, not for coroutines.
                    state: State[dict[str, Any]] = await tasks_tables.load(  # type: ignore[misc]
                        source, table.name, windows[table.name], run.number, return_state=True
                    )
                    await lineage_events.tell_load_ended(lineage, declared, table.name, state)
                    return state
            finally:
                ended[table.name].set()

        async with shared_slots(source, run.others), keeping_sessions():
            with shared:
                states = await asyncio.gather(*(take_turn(table) for table in chosen))
        outcome = await _gather(source, dict(zip((table.name for table in chosen), states, strict=True)))
        await lineage_events.tell("FAIL" if outcome.failures else "COMPLETE", lineage)
        await _close(run, source, outcome)
    return outcome.loads if not outcome.stopped else stopped_at_budget(outcome.loads)  # type: ignore[return-value]


async def _longest_unread_first(source: Source, chosen: list[Loadable]) -> list[Loadable]:
    """Tables that were not read to their end for longest come first: a budget leaves out none of them each time."""
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        seconds = await longest_unread_first(warehouse, source.name)
    return sorted(chosen, key=lambda table: -seconds.get(table.name, math.inf))


@dataclass(slots=True)
class _Outcome:
    loads: list[dict[str, Any]]
    failures: dict[str, Failure]

    @property
    def stopped(self) -> list[str]:
        """Tables whose load stopped at a budget, or was not begun for it."""
        return [load["table"] for load in self.loads if load["stopped"]]


async def _windows(source: Source, tables: list[str]) -> dict[str, str]:
    """For each table, the text of its window for run names."""
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        published = await ledger.published_tables(warehouse)
        cursors = await ledger.cursor_values(warehouse, source.name)
    windows, limit = {}, row_limit()
    for table in tables:
        cursor = cursors.get(table)
        load = source.table(table).load
        windows[table] = f"since {cursor}" if cursor else "whole"
        if limit is not None:
            windows[table] = f"limited to {limit} rows"
            continue
        if isinstance(load, Overwrite) and (source.name, table) in published:
            windows[table] = str(load)
    return windows


async def _gather(source: str, states: dict[str, State[dict[str, Any]]]) -> _Outcome:
    outcome = _Outcome([], {})
    for table, state in states.items():
        try:
            outcome.loads.append(await state.aresult())
        except Exception as problem:
            outcome.failures[table] = diagnose(problem, f"{source}.{table}")
    return outcome


async def _close(run: Run, source: str, outcome: _Outcome) -> None:
    # Before anything that may fail: an erased subject must not stay because an artifact could not be written.
    await _forget_again(source, outcome)
    failures = outcome.failures
    stopped = ["stopped"] if outcome.stopped else []
    status = worst([*(failure.status for failure in failures.values()), *stopped, "done"])
    # What failed before its load began has no row in ops.loads that would tell it.
    untold = next((failure for failure in failures.values() if not hasattr(failure.error, "error_id")), None)
    details: dict[str, Any] = {"tables": len(outcome.loads) + len(failures), "failed": sorted(failures)}
    if outcome.stopped:
        details["stopped_at_budget"] = sorted(outcome.stopped)
    run.used = [used_by(load) for load in outcome.loads]
    await run.end(status, details, untold)
    await acreate_markdown_artifact(
        key=f"loads-{source.replace('_', '-')}",
        markdown=loads_table_markdown(_lines(source, outcome), title=f"Loads of {source}"),
        description=f"Loads of the tables of {source}",
    )
    await announce_schema_changes(source)
    await announce_differences(outcome.loads)
    for error in distinct(failure.error for failure in failures.values()):
        sentry.capture(error)
    if failures:
        raise _failed(source, failures)


async def _forget_again(source: str, outcome: _Outcome) -> None:
    """Erase subjects again that these loads brought back from the source, before any model reads them."""
    returned = await erase_returned(source, [load["batch_id"] for load in outcome.loads])
    if returned:
        get_run_logger().warning(
            "%s: %d erased subjects reappeared and were erased again; erase them at the source",
            source,
            returned,
        )


def _lines(source: str, outcome: _Outcome) -> list[LoadLine]:
    counted = [name for name in LoadLine.__dataclass_fields__ if name.startswith("rows_")] + ["bytes"]
    lines = [
        LoadLine(
            source=load["source"],
            table=load["table"],
            strategy=load["strategy"],
            status="stopped" if load["stopped"] else "published",
            seconds=load["seconds"],
            reconciliation=load["counts"]["reconciliation"],
            note="; ".join(filter(None, [*load["schema_changes"], load["stopped"], load["warning"]])),
            **{name: load["counts"][name] for name in counted},
        )
        for load in outcome.loads
    ]
    causes = by_cause({table: failure.error for table, failure in outcome.failures.items()})
    return lines + [
        LoadLine(
            source=source,
            table=tables[0] if len(tables) == 1 else f"{len(tables)} tables: {named(tables)}",
            strategy="",
            status=outcome.failures[tables[0]].status,
            note=what,
        )
        for what, tables in causes.items()
    ]


def _failed(source: str, failures: dict[str, Failure]) -> MedallionError:
    if len(failures) == 1:
        return next(iter(failures.values())).error
    errors = {f"{source}.{table}": failure.error for table, failure in failures.items()}
    return combined(errors, f"{len(failures)} tables were not loaded", where=f"source {source}")
