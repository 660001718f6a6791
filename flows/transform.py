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
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.failures.diagnose import diagnose
from flows.models.colours import PREVIOUS, READERS_SCHEMA, label_of
from flows.models.environment import PREFIX_VARIABLE
from flows.models.fingerprint import fingerprint
from flows.models.project import DBT_PROJECT
from flows.observe import sentry
from flows.observe.logs import correlated
from flows.privacy.erase import erase_returned_since_last_build
from flows.state import dbt_manifests, ledger, releases, runs
from flows.state.transform_lock import transform_lock
from flows.tasks import begin
from flows.tasks import lineage as lineage_events
from flows.tasks.builds import build
from flows.tasks.gates import pass_gate
from flows.tasks.stopped import close_stopped_run
from flows.values.errors import DataRefused, MedallionError
from flows.values.settings import settings


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
    begin.begin()
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
    begin.ensure_operations()
    with (
        correlated() as correlation_id,
        transform_lock(addresses.warehouse(), wait_seconds=settings().lock_wait_seconds),
    ):
        run_id = asyncio.run(_open(pipeline, correlation_id))
        lineage = lineage_events.lineage_run(pipeline, begin.current_flow_run_id(), run_id)
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
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        # We hold the lock: whatever says it is running is not.
        await runs.close_dead_runs(warehouse, pipeline, "", [])
        return await runs.open_run(warehouse, pipeline, "", begin.current_flow_run_id(), correlation_id)


async def _refuse_unreleased(models: str) -> None:
    """Models that were withdrawn, or that wait for a release, are not built where readers look."""
    if os.environ.get(PREFIX_VARIABLE):
        return
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
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
            fix="deploy the earlier code, or mend the models and run `medallion transform --release`",
        )
    if settings().models_by_release and had not in (None, models):
        raise DataRefused(
            "these models differ from those that readers have, and here models change by a release",
            where="transform",
            fix="run `medallion transform --release`, which builds and judges them beside gold",
        )


async def _close(run_id: int, status: str, failure: dict[str, Any] | None, facts: dict[str, Any] | None = None) -> None:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        if failure is not None:
            await ledger.record_error(warehouse, failure)
        await runs.close_run(warehouse, run_id, status, failure["error_id"] if failure else None, facts)


async def _keep_manifest(run_id: int) -> None:
    """What was built, for those who build beside it: `medallion dev`, pull requests."""
    if os.environ.get(PREFIX_VARIABLE):
        return  # a build beside the shared one is nothing to stand on
    manifest = settings().home / "dbt" / "manifest.json"
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await dbt_manifests.keep_manifest(warehouse, run_id, manifest.read_bytes())
