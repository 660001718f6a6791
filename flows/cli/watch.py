"""Run flows from the command line and show their progress. Imports Prefect: call `prepare` first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from blocks.server import explain_server
from flows.access import addresses
from flows.backfill import backfill as backfill_flow
from flows.cli import screens
from flows.declare.budget import Budget
from flows.declare.partition import Every, partitions
from flows.failures.diagnose import CONNECTION_LOST, diagnose
from flows.ingest import ingest
from flows.observe import progress
from flows.pipeline import pipeline, together
from flows.publish.budget import shared_budgets
from flows.reconcile import reconcile as reconcile_flow
from flows.state import ledger, overview, reconciliations
from flows.tasks.correlation import tagged_runs
from flows.transform import transform as transform_flow
from flows.values.errors import MedallionError
from flows.values.row_limit import LIMITED
from flows.verbs.backfill import count_partitions, dividing_column
from flows.verbs.find import find_table

_MARKS = {"done": "[green]✓[/]", "stopped": "[yellow]■[/]", "failed": "[bold red]✗[/]"}


def run(
    chosen: Mapping[str, list[str] | None],
    *,
    ingest_only: bool,
    full_refresh: bool,
    console: Console,
    budget: Budget | None = None,
) -> bool:
    """Run the pipeline, or only ingest, over the chosen sources; then show its loads. True if one stopped at a budget.

    Raises:
        MedallionError: what the flow raised, after the loads have been shown.
    """
    only_tables = any(tables is not None for tables in chosen.values())
    whole = not ingest_only and not only_tables

    def start() -> None:
        if whole:
            limits = _as_parameters(budget)
            pipeline(sources=list(chosen), full_refresh=full_refresh, **limits, return_state=True).result()
        else:
            with shared_budgets(("the run", budget)):
                asyncio.run(_ingest_each(chosen))

    with tagged_runs() as correlation_id:
        error = watched(start, console)
        loads = asyncio.run(_loads(correlation_id))
    if loads:
        console.print(screens.loads_table(loads, "Loads", console.width))
    noticed = _warn(loads, console)
    stopped = [load for load in loads if load["status"] == "stopped"]
    if error is None and loads and not noticed and not stopped and not screens.changed_rows(loads):
        console.print("[green]There was nothing new to load.[/]")
    if only_tables and not ingest_only:
        console.print("Only single tables were loaded, so gold was not built: run `medallion transform` to build it.")
    for load in stopped:
        said = escape(f"{load['source_system']}.{load['table_name']}: {load['error']}")
        console.print(f"[bold yellow]Stopped[/] {said}", highlight=False, soft_wrap=True)
    if error is not None:
        raise error
    return bool(stopped)


def _as_parameters(budget: Budget | None) -> dict[str, Any]:
    """The flow's parameters for a budget."""
    if budget is None:
        return {}
    size = None if budget.size is None else f"{budget.size} B"
    return {"max_rows": budget.rows, "max_bytes": size, "max_minutes": budget.minutes, "max_cost": budget.money}


def _warn(loads: list[dict[str, Any]], console: Console) -> bool:
    """Show the tables whose two ends do not hold the same; whether there are any."""
    if limited := sum(load["reconciliation"] == LIMITED for load in loads):
        console.print(
            f"[bold yellow]Warning[/] limited loads: {limited} of {len(loads)}. Raw and gold have a sample of these "
            "tables until a run without a limit reads them in full.",
            highlight=False,
            soft_wrap=True,
        )
    noticed = screens.noticed_loads(loads)
    for name, said in noticed:
        console.print(f"[bold yellow]Warning[/] {escape(f'{name}: {said}')}", highlight=False, soft_wrap=True)
    return bool(noticed)


def transform(*, select: str | None, full_refresh: bool, full: bool, console: Console) -> None:
    """Run the transform flow.

    Raises:
        MedallionError: what the flow raised.
    """
    with tagged_runs():
        error = watched(
            lambda: transform_flow(select=select, full_refresh=full_refresh, full=full, return_state=True).result(),
            console,
        )
    if error is not None:
        raise error


def release(*, accept_changes: bool, console: Console) -> None:
    """Run the release flow; then show what it changed in gold.

    Raises:
        MedallionError: what the flow raised.
    """
    from flows.release import release as release_flow

    facts: dict[str, Any] = {}

    def start() -> None:
        facts.update(release_flow(accept_changes=accept_changes, return_state=True).result())

    with tagged_runs():
        error = watched(start, console)
    if error is not None:
        raise error
    console.print(screens.release_table(facts))


def predict(*, console: Console) -> None:
    """Run the predict flow; then show the model version, its metrics and its weights.

    Raises:
        MedallionError: what the flow raised.
    """
    from flows.predict import predict as predict_flow  # imports numpy, which no other command needs

    facts: dict[str, Any] = {}

    def start() -> None:
        facts.update(predict_flow(return_state=True).result())

    with tagged_runs():
        error = watched(start, console)
    if error is not None:
        raise error
    console.print(screens.model_table(facts))


def reconcile(sources: list[str] | None, *, repair: bool, console: Console) -> None:
    """Run the reconcile flow over the named sources or tables; then show the results.

    Raises:
        MedallionError: differences remain, or a table could not be compared; after the table has been shown.
    """
    with tagged_runs() as correlation_id:
        error = watched(lambda: asyncio.run(reconcile_flow(sources, repair)), console)
        compared = asyncio.run(_comparisons(correlation_id))
    console.print(screens.reconciliations_table(compared))
    if error is not None:
        raise error


@dataclass(frozen=True, slots=True)
class Backfill:
    """The days of one table to backfill: `first` to `last`, in partitions of `every` by the column `by`.

    `restart` also loads partitions that an earlier backfill has finished.
    """

    table: str
    first: date
    last: date
    every: Every
    by: str | None = None
    restart: bool = False


def backfill(wanted: Backfill, *, only_plan: bool, console: Console) -> None:
    """Run the backfill flow, or show what it would load; then show the loads of its partitions.

    Raises:
        MedallionError: what the flow raised, after the loads have been shown.
    """
    source, declared = find_table(wanted.table)
    column = dividing_column(source, declared, wanted.by)
    parts = partitions(wanted.first, wanted.last, wanted.every)
    if only_plan:
        with console.status("counting rows at the source and in raw"):
            counted, indexed = asyncio.run(count_partitions(source, declared, column, parts))
        console.print(screens.partitions_table(counted))
        if not indexed:
            console.print(
                f"[yellow]No index at the source starts with {column}: each partition scans the full table.[/]"
            )
        return

    def start() -> None:
        asyncio.run(backfill_flow(wanted.table, wanted.first, wanted.last, wanted.every, wanted.by, wanted.restart))

    with tagged_runs() as correlation_id:
        error = watched(start, console)
        ran = asyncio.run(_loads(correlation_id))
    if ran:
        console.print(screens.loads_table(ran, f"Backfill of {wanted.table}", console.width))
        _warn(ran, console)
    if error is not None:
        raise error


async def _comparisons(correlation_id: str) -> list[dict[str, Any]]:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        return await reconciliations.last_of(warehouse, correlation_id)


async def _ingest_each(chosen: Mapping[str, list[str] | None]) -> None:
    states = await asyncio.gather(*(ingest(source, tables, return_state=True) for source, tables in chosen.items()))
    errors: dict[str, MedallionError] = {}
    for source, state in zip(chosen, states, strict=True):
        try:
            await state.aresult()
        except Exception as problem:
            errors[source] = diagnose(problem, f"source {source}").error
    if errors:
        raise together(errors)


def watched(start: Callable[[], object], console: Console) -> MedallionError | None:
    """Run it, showing each step as it ends. Returns the error it ended with, if any."""
    began = time.monotonic()
    with console.status("starting") as spinner:
        silence = progress.listen(_Teller(console, spinner))
        try:
            start()
        except Exception as problem:
            return explained(problem)
        finally:
            silence()
    console.print(f"[dim]{time.monotonic() - began:.1f} s[/]")
    return None


def explained(problem: Exception) -> MedallionError:
    """A flow's exception as the error that the command line shows."""
    if isinstance(problem, MedallionError):
        return problem
    return explain_server(problem) or diagnose(problem, "run").error


class _Teller:
    """Shows steps on the console: finished ones as lines, running ones next to the spinner."""

    def __init__(self, console: Console, spinner: Status) -> None:
        self._console, self._spinner = console, spinner
        self._under_way: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    def __call__(self, step: progress.Step) -> None:
        if step.state in _MARKS:
            self._under_way.pop(step.name, None)
            text = self._once(step) if step.state == "failed" else step.text
            self._console.print(f"  {_MARKS[step.state]} {step.name:<28} [dim]{text}[/]", highlight=False)
        else:
            self._under_way[step.name] = step.text
        names = [f"{name} {text}".strip() for name, text in self._under_way.items()]
        self._spinner.update(", ".join(names[:3]) + (" …" if len(names) > 3 else ""))

    def _once(self, step: progress.Step) -> str:
        """The error; if an earlier step failed with the same error, only a reference to it."""
        first = self._failed.setdefault(step.text.replace(step.name, ""), step.name)
        return step.text if first == step.name else f"as {first}"


async def _loads(correlation_id: str) -> list[dict[str, Any]]:
    """The run's loads; none if the run ended before it reached the warehouse or its ledger."""
    try:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            return await overview.loads_of(warehouse, correlation_id)
    except (MedallionError, asyncpg.PostgresError, *CONNECTION_LOST):
        return []
