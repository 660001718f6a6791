"""Flow reconcile: compare every table with its source by content; with `repair`, reload what differs.

Tables fail independently. The run fails if differences remain, so that they are noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State

from flows.declare.source import Source
from flows.failures.combined import combined, distinct
from flows.failures.diagnose import Failure, diagnose
from flows.observe import sentry
from flows.observe.reconciliations import reconciliations_markdown
from flows.tasks import begin
from flows.tasks import tables as tasks_tables
from flows.tasks.runs import Run, table_run
from flows.tasks.slots import shared_slots
from flows.values.errors import DataRefused, MedallionError
from flows.verbs.find import choose, find_source


@flow(name="reconcile", flow_run_name="reconcile", result_serializer="json", persist_result=True)
async def reconcile(sources: list[str] | None = None, repair: bool = False) -> list[dict[str, Any]]:
    """Compare the named sources or tables (`shop`, `shop.baskets`; default: all); return each table's facts.

    Raises:
        DataRefused: differences remain; after every table was compared.
        MedallionError: a table could not be compared.
    """
    begin.begin()
    chosen = choose(sources)
    async with table_run("reconcile", " ".join(sources or []), where="reconcile") as run:
        of_sources = await asyncio.gather(
            *(_of_source(find_source(name), tables, repair, run) for name, tables in chosen.items())
        )
        results, failures = await _gather({name: state for states in of_sources for name, state in states.items()})
        await _close(run, results, failures)
    return results


async def _of_source(
    source: Source, tables: list[str] | None, repair: bool, run: Run
) -> dict[str, State[dict[str, Any]]]:
    turns = asyncio.Semaphore(source.max_parallel)

    async def take_turn(table: str) -> State[dict[str, Any]]:
        async with turns:
            # Prefect's overloads know return_state for functions, not for coroutines.
            state: State[dict[str, Any]] = await tasks_tables.reconcile(  # type: ignore[misc]
                source.name, table, repair, run.number, return_state=True
            )
            return state

    names = [table.name for table in source.tables if tables is None or table.name in tables]
    async with shared_slots(source.name, run.others):
        states = await asyncio.gather(*(take_turn(name) for name in names))
    return {f"{source.name}.{name}": state for name, state in zip(names, states, strict=True)}


async def _gather(states: Mapping[str, State[dict[str, Any]]]) -> tuple[list[dict[str, Any]], dict[str, Failure]]:
    results, failures = [], {}
    for name, state in states.items():
        try:
            results.append(await state.aresult())
        except Exception as problem:
            failures[name] = diagnose(problem, name)
    return results, failures


async def _close(run: Run, results: list[dict[str, Any]], failures: dict[str, Failure]) -> None:
    """Record the run's end, show it, and raise differences and failures."""
    differing = [f"{result['source']}.{result['table']}" for result in results if result["result"] == "different"]
    failed = any(failure.status == "failed" for failure in failures.values())
    status = "failed" if failed else "refused" if failures or differing else "done"
    await run.end(status, {"tables": len(results) + len(failures), "different": differing, "failed": sorted(failures)})
    await acreate_markdown_artifact(
        key="reconciliation",
        markdown=reconciliations_markdown(results, {name: failure.error.what for name, failure in failures.items()}),
        description="Rows at the source and in raw, and how they differ",
    )
    for problem in distinct(failure.error for failure in failures.values()):
        sentry.capture(problem)
    error = _error(differing, failures)
    if error is not None:
        raise error


def _error(differing: list[str], failures: Mapping[str, Failure]) -> MedallionError | None:
    if len(failures) == 1 and not differing:
        return next(iter(failures.values())).error
    if failures:
        also = f"; {', '.join(differing)} differ from their source" if differing else ""
        errors = {name: failure.error for name, failure in failures.items()}
        return combined(errors, f"{len(failures)} tables were not compared", where="reconcile", also=also)
    if differing:
        return DataRefused(
            f"raw differs from its source in {', '.join(differing)}",
            where="reconcile",
            fix=f"`medallion recover {' '.join(differing)}` shows what it would read again, and does it; "
            "ops.reconciliations lists some of them",
        )
    return None
