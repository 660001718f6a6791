"""Flow follow: a source's changes as they happen, until it is cancelled or stopped by a signal.

Commits every half second or 50,000 changes, each with its position. Ordinary runs of the source can go on meanwhile:
whoever holds a table's lock loads it, and the other one continues behind.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.access.kept_sessions import keeping_sessions
from flows.failures.combined import combined, distinct
from flows.failures.diagnose import diagnose
from flows.kinds.registry import kind_of
from flows.observe import sentry
from flows.observe.progress import report
from flows.privacy.returned import erase_returned
from flows.publish.budget import shared_budgets
from flows.publish.following import Following, Progress
from flows.state import runs
from flows.state.table_locks import FOLLOWED
from flows.tasks import begin
from flows.tasks import tables as tasks_tables
from flows.tasks.budgets import stopped_at_budget
from flows.tasks.results import worst
from flows.tasks.runs import Run, table_run
from flows.tasks.slots import shared_slots
from flows.tasks.stopping import stops_at_a_commit
from flows.values.errors import BudgetReached
from flows.verbs.find import find_source


@flow(name="follow", flow_run_name="follow {source}", result_serializer="json", persist_result=True)
async def follow(
    source: str, tables: list[str] | None = None, minutes: float | None = None, until_caught_up: bool = False
) -> dict[str, Any]:
    """Load the changes of a source's tables, or of the named ones, as they happen; return what was done.

    `minutes`: end after so long. `until_caught_up`: end once everything is loaded that is committed at the start.

    Raises:
        DeclarationError: the source cannot be followed.
        LoadLocked: another run follows it.
        IngestFailed: tables do not follow; raised at the end, with all reasons.
        MedallionError: nothing can follow until a person has acted.
    """
    begin.begin()
    declared = find_source(source)
    kind = kind_of(declared)
    kind.refuse_follow(declared)
    chosen = [declared.table(name) for name in tables] if tables else list(declared.tables)
    began, where = time.monotonic(), f"source {source}"
    async with table_run("follow", source, where=where, tables=[FOLLOWED]) as run:
        following = Following(
            warehouse=addresses.warehouse(),
            address=kind.address(declared),
            source=declared,
            tables=chosen,
            run_id=run.number,
            load=_load(source, run),
            stretch_ended=_stretch_ended(source),
            tell=_tell(source),
            note=_note(run),
            until_caught_up=until_caught_up,
            seconds=None if minutes is None else minutes * 60,
        )
        stopped = None
        # A run that a signal stops has done what it was to do: its end is recorded before the signal takes effect.
        with stops_at_a_commit(following.stop):
            async with shared_slots(source, run.others), keeping_sessions():
                try:
                    with shared_budgets((where, declared.budget)):
                        await kind.follow(following)
                except BudgetReached as reached:
                    stopped = reached.what
            facts = await _close(run, following, stopped)
    facts["seconds"] = time.monotonic() - began
    return facts if stopped is None else stopped_at_budget(facts)  # type: ignore[return-value]


def _load(source: str, run: Run) -> Any:
    async def load(table: str) -> None:
        # Prefect's overloads know return_state for functions, not for coroutines.
        state = await tasks_tables.load(source, table, "to follow it", run.number, return_state=True)  # type: ignore[misc]
        await state.aresult()

    return load


def _stretch_ended(source: str) -> Any:
    async def ended(batches: list[int]) -> None:
        if returned := await erase_returned(source, batches):
            get_run_logger().warning(
                "%s: %d erased subjects reappeared and were erased again; erase them at the source", source, returned
            )

    return ended


def _tell(source: str) -> Any:
    def tell(text: str) -> None:
        get_run_logger().info("%s", text)
        report(f"follow {source}", "running", text)

    return tell


def _note(run: Run) -> Any:
    async def note(progress: Progress) -> None:
        async with addresses.connect(addresses.warehouse(), side="warehouse", keep=True) as warehouse:
            await runs.note_details(warehouse, run.number, _details(progress))

    return note


def _details(progress: Progress) -> dict[str, Any]:
    return {
        "commits": progress.commits,
        "changes": progress.changes,
        "lag": asdict(progress.lag),
        "failing": sorted(progress.failing),
    }


async def _close(run: Run, following: Following[Any], stopped: str | None) -> dict[str, Any]:
    progress = following.progress
    failures = {name: diagnose(error, f"{run.scope}.{name}") for name, error in progress.failing.items()}
    statuses = [*(failure.status for failure in failures.values()), *(["stopped"] if stopped else []), "done"]
    await run.end(worst(statuses), _details(progress))
    for problem in distinct(failure.error for failure in failures.values()):
        sentry.capture(problem)
    if len(failures) == 1:
        raise next(iter(failures.values())).error
    if failures:
        errors = {f"{run.scope}.{name}": failure.error for name, failure in failures.items()}
        raise combined(errors, f"{len(failures)} tables do not follow", where=f"source {run.scope}")
    return {**_details(progress), "stopped": stopped}
