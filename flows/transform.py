"""Story: gate raw → snapshots, silver, gold and their tests, by dbt → gate gold.

dbt runs once per process, through PrefectDbtRunner: every node is a task run with its own state and log.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows import connections, lineage_events, tasks
from flows.dbt.colours import PREVIOUS, READERS_SCHEMA, label_of
from flows.dbt.environment import PREFIX_VARIABLE
from flows.dbt.fingerprint import fingerprint
from flows.dbt.project import DBT_PROJECT
from flows.dbt_build import build
from flows.erase import erase_returned_since_last_build
from flows.missing_grants import missing_grants
from flows.observe import sentry
from flows.observe.artifacts import CheckLine, checks_table_markdown
from flows.observe.logs import correlated
from flows.recovery.combined import combined
from flows.recovery.failures import diagnose
from flows.settings import settings
from flows.spec.errors import DataRefused, FailureClass, MedallionError, WarehouseError
from flows.spec.sqlstates import Answer, explain_answer
from flows.state import dbt_manifests, ledger, releases, runs
from flows.state.transform_lock import transform_lock
from flows.stopped import close_stopped_run


@flow(name="transform", flow_run_name="transform", result_serializer="json", persist_result=True)
def transform(select: str | None = None, full_refresh: bool = False) -> dict[str, Any]:
    """Build silver and gold from raw, between the two gates. Returns counts of nodes and checks.

    `select` is dbt's selection; the gold gate then is left out. Another transform of the same warehouse is waited for.

    Raises:
        DataRefused: a gate is closed, or a test of dbt's found data that breaks a rule; or these models may not be
            built into the shared schemas, because they were withdrawn or wait for a release.
        LoadLocked: another transform was running all the while we waited.
        WarehouseError: dbt could not build.
    """
    tasks.begin()
    return recorded("transform", lambda run_id: _in_place(run_id, select, full_refresh), settings().home / "dbt")


def _in_place(run_id: int, select: str | None, full_refresh: bool) -> dict[str, Any]:
    models = fingerprint(DBT_PROJECT)
    asyncio.run(_refuse_unreleased(models))
    forget_again()
    raw = pass_gate("raw", run_id)
    nodes = build(select=select, full_refresh=full_refresh)
    if select is None:
        asyncio.run(_keep_manifest(run_id))
    gold = pass_gate("gold", run_id) if select is None else []
    facts: dict[str, Any] = {"nodes": len(nodes), "checks": len(raw) + len(gold), "models": models}
    return facts | {"whole": True} if select is None and not os.environ.get(PREFIX_VARIABLE) else facts


def forget_again() -> None:
    """Whoever was erased and has come into raw since, goes before models see it: a snapshot would keep it for ever."""
    returned = asyncio.run(erase_returned_since_last_build())
    if returned:
        get_run_logger().warning(
            "%d people who were erased came back and were deleted again; have them erased at the source", returned
        )


def recorded(pipeline: str, work: Callable[[int], dict[str, Any]], target: Path) -> dict[str, Any]:
    """Do the work under the transform's lock, as a run in `ops.runs` and in lineage; `target` is dbt's folder for it.

    `work` is handed the run's number; what it returns is kept with the run.

    Raises:
        LoadLocked: another transform was running all the while we waited.
        MedallionError: what the work raised.
    """
    tasks.ensure_operations()
    with (
        correlated() as correlation_id,
        transform_lock(connections.warehouse(), wait_seconds=settings().lock_wait_seconds),
    ):
        run_id = asyncio.run(_open(pipeline, correlation_id))
        lineage = lineage_events.lineage_run(pipeline, tasks.current_flow_run_id(), run_id)
        asyncio.run(lineage_events.tell("START", lineage))
        began = time.time()
        try:
            facts = work(run_id)
        except Exception as problem:
            failure = diagnose(problem, pipeline)
            if type(failure.error) is MedallionError:
                # Nobody foresaw it. Where it happened is kept, its words are not: they may quote rows.
                frames = "".join(traceback.format_tb(problem.__traceback__))
                get_run_logger().error("unexpected %s (%s)\n%s", type(problem).__name__, failure.error_id, frames)
            sentry.capture(failure.error)
            asyncio.run(_close(run_id, failure.status, failure.facts(run_id, None)))
            asyncio.run(lineage_events.tell_build(lineage, target, since=began))
            asyncio.run(lineage_events.tell("FAIL", lineage, failure.error))
            raise failure.error from None
        except BaseException as stop:
            asyncio.run(close_stopped_run(run_id, stop, pipeline))
            asyncio.run(lineage_events.tell("ABORT", lineage))
            raise
        asyncio.run(_close(run_id, "done", None, facts))
        asyncio.run(lineage_events.tell_build(lineage, target, since=began))
        asyncio.run(lineage_events.tell("COMPLETE", lineage))
        return facts


async def _open(pipeline: str, correlation_id: str) -> int:
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        # We hold the lock: whatever says it is running is not.
        await runs.close_dead_runs(warehouse, pipeline, "", [])
        return await runs.open_run(warehouse, pipeline, "", tasks.current_flow_run_id(), correlation_id)


async def _refuse_unreleased(models: str) -> None:
    """Models that were withdrawn, or that wait for a release, are not built where readers look."""
    if os.environ.get(PREFIX_VARIABLE):
        return
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        in_force = (await label_of(warehouse, READERS_SCHEMA)).get("release")
        await releases.settle(
            warehouse, in_force, (await label_of(warehouse, PREVIOUS + READERS_SCHEMA)).get("release")
        )
        withdrawn = await releases.withdrawn(warehouse, models)
        had = await releases.models_in_force(warehouse)
    if withdrawn is not None:
        raise DataRefused(
            f"these models are release {withdrawn.release_id}, which {withdrawn.by} withdrew on "
            f"{withdrawn.at:%Y-%m-%d %H:%M} UTC",
            where="transform",
            next_move="deploy the earlier code, or mend the models and run `medallion transform --release`",
        )
    if settings().models_by_release and had not in (None, models):
        raise DataRefused(
            "these models differ from those that readers have, and here models change by a release",
            where="transform",
            next_move="run `medallion transform --release`, which builds and judges them beside gold",
        )


async def _close(run_id: int, status: str, failure: dict[str, Any] | None, facts: dict[str, Any] | None = None) -> None:
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        if failure is not None:
            await ledger.record_error(warehouse, failure)
        await runs.close_run(warehouse, run_id, status, failure["error_id"] if failure else None, facts)


async def _keep_manifest(run_id: int) -> None:
    """What was built, for those who build beside it: `medallion dev`, pull requests."""
    if os.environ.get(PREFIX_VARIABLE):
        return  # a build beside the shared one is nothing to stand on
    manifest = settings().home / "dbt" / "manifest.json"
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        await dbt_manifests.keep_manifest(warehouse, run_id, manifest.read_bytes())


def pass_gate(gate: Literal["raw", "gold"], run_id: int, schema_prefix: str = "") -> list[dict[str, Any]]:
    """Check, record, show, and stop where a check blocks.

    Raises:
        DataRefused: a check blocks. WarehouseError: what is to be checked could not be read.
    """
    results = tasks.check_gate(gate, schema_prefix)
    asyncio.run(_record_checks(run_id, gate, results))
    lines = [
        CheckLine(result["dataset"], result["check"], result["column"], result["outcome"], result["message"])
        for result in results
    ]
    create_markdown_artifact(
        key=f"gate-{gate}", markdown=checks_table_markdown(lines, gate=gate), description=f"Quality gate {gate}"
    )
    blocking = [result for result in results if result["blocks"]]
    if unanswered := {result["dataset"]: Answer(**result["answer"]) for result in blocking if result["answer"]}:
        raise _not_checked(gate, unanswered)
    if blocking:
        listed = "; ".join(
            f"{result['dataset']}: {result['check']} {result['outcome']}"
            + (f" ({result['message']})" if result["message"] else "")
            for result in blocking[:5]
        )
        more = f" and {len(blocking) - 5} more" if len(blocking) > 5 else ""
        raise DataRefused(
            f"{len(blocking)} of {len(results)} checks do not pass: {listed}{more}",
            where=f"gate {gate}",
            next_move=f"read the contract in soda/{gate} and the rows it names; mend the data at its source, run again",
        )
    return results


def _not_checked(gate: str, answers: dict[str, Answer]) -> MedallionError:
    """The warehouse kept the gate from looking: its own class and fix, since nothing is known about the data."""
    address = connections.warehouse("transformer")
    errors = {
        dataset: explain_answer(answer, dataset, role=address.user, grants=missing_grants(address, answer.message))
        for dataset, answer in answers.items()
    }
    for error in errors.values():
        if error.failure_class is FailureClass.TRANSIENT:
            error.next_move = "run `medallion transform` again; a deployment does so at its next run"
    what = f"{len(errors)} dataset{'s' if len(errors) > 1 else ''} could not be checked"
    return combined(errors, what, where=f"gate {gate}", kind=WarehouseError)


async def _record_checks(run_id: int, gate: str, results: list[dict[str, Any]]) -> None:
    rows = [
        (
            result["dataset"],
            result["check"],
            result["column"],
            result["outcome"],
            "" if result["measured"] is None else str(result["measured"]),
            result["message"],
        )
        for result in results
    ]
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        await ledger.record_checks(warehouse, run_id, gate, rows)
