"""Flow release: gate raw → build the full project in shadow schemas → its tests and gate gold there → compare with
gold → swap.

Ordinary transforms build in place, table by table, and are checked afterwards. Readers see a release only after its
checks, and completely; the previous release is kept for a rollback.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.access import addresses
from flows.failures.failpoints import pass_failpoint
from flows.models import shadow, swap
from flows.models.environment import PREFIX_VARIABLE
from flows.models.fingerprint import commit, fingerprint
from flows.models.manifest import Manifest
from flows.models.project import DBT_PROJECT
from flows.models.release_changes import GoldChange, gold_changes, question_about
from flows.models.shadow import NEXT
from flows.models.state import SharedState, fetch_state
from flows.models.swap import Swapped
from flows.observe.progress import report
from flows.state import dbt_manifests, decisions, releases
from flows.state.decisions import Origin
from flows.tasks import begin
from flows.tasks.builds import build, target_of
from flows.tasks.gates import pass_gate
from flows.tasks.runs import Run, model_run
from flows.tasks.suspending import hear_form, suspend_for
from flows.transform import forget_again
from flows.values.errors import ConfigurationError, DataRefused, MedallionError
from flows.values.settings import settings
from flows.verbs.approval import require


@flow(name="release", flow_run_name="release", result_serializer="json", persist_result=True)
def release(accept_changes: bool = False) -> dict[str, Any]:
    """Build all models in shadow schemas, check them, and swap them in one transaction.

    Transforms and predictions wait meanwhile; ingest does not. Returns the release's number, counts, and the changes
    per table of gold.

    Raises:
        ConfigurationError: there is no full build yet to replace.
        DecisionNeeded: releases need an approval in this environment, and nobody has accepted exactly this one.
        DataRefused: a gate or test failed, a person refused it, or readers would lose tables, columns or most rows of
            one without `accept_changes`. The build is kept under `next__` for inspection.
        LoadLocked: a transform was running, or readers locked tables, during the full wait.
        WarehouseError: dbt could not build.
    """
    begin.begin()
    if os.environ.get(PREFIX_VARIABLE):
        raise ConfigurationError(
            "a release needs the shared schemas",
            where=PREFIX_VARIABLE,
            fix="unset it",
        )
    asyncio.run(hear_form())
    try:
        with model_run("release", target=target_of(NEXT)) as run:
            run.details = facts = _release(run, accept_changes)
    except MedallionError as error:
        asyncio.run(suspend_for(error))
        raise
    return facts


def _release(run: Run, accept_changes: bool) -> dict[str, Any]:
    state = asyncio.run(fetch_state())
    run_id, models = run.number, fingerprint(DBT_PROJECT)
    run.note({"models": models, "commit": commit()})
    forget_again()
    raw = pass_gate("raw", run_id)
    asyncio.run(_prepare(state))
    nodes = build(prefix=NEXT)
    built = Manifest.read((target_of(NEXT) / "manifest.json").read_bytes())
    gold = pass_gate("gold", run_id, schema_prefix=NEXT)
    changes = asyncio.run(_compare(state, built))
    _refuse(changes, accept_changes)
    question, what = question_about(models, changes)
    approved = asyncio.run(require("release", question, what, Origin("release", run_id=run_id)))
    told = {change.name: change.facts() for change in changes}
    release_id, swapped = asyncio.run(_give_to_readers(run_id, state, built, models, told))
    if approved is not None:
        asyncio.run(_use(approved, run_id))
    report("swap", "done", f"release {release_id}, readers were blocked for {swapped.seconds * 1000:.0f} ms")
    return {
        "nodes": len(nodes),
        "checks": len(raw) + len(gold),
        "models": models,
        "commit": commit(),
        "full_build": True,
        "release": release_id,
        "still_seconds": swapped.seconds,
        "changes": told,
    }


async def _prepare(state: SharedState) -> None:
    """Create shadow schemas, with the rows that cannot be rebuilt from raw."""
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        await shadow.prepare(warehouse, shadow.shared_schemas(state.manifest))
        await shadow.copy_memory(warehouse, shadow.memory(state.manifest), NEXT)


async def _compare(state: SharedState, built: Manifest) -> list[GoldChange]:
    began = time.monotonic()
    report("compare", "began")
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        changes = await gold_changes(warehouse, state.manifest, built)
    differing = sum(not change.difference.same for change in changes)
    report("compare", "done", f"{differing} of {len(changes)} gold tables differ, {time.monotonic() - began:.1f} s")
    return changes


def _refuse(changes: Sequence[GoldChange], accept_changes: bool) -> None:
    problems = [f"{change.name} {problem}" for change in changes for problem in change.problems]
    if problems and not accept_changes:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataRefused(
            f"readers would lose data: {'; '.join(problems[:5])}{more}",
            where="release",
            fix="check next__gold; keep a version of what readers need, or release with --accept-changes",
        )


async def _use(decision: int, run_id: int) -> None:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as ops, ops.transaction():
        await decisions.use(ops, [decision], run_id)


async def _give_to_readers(
    run_id: int, state: SharedState, built: Manifest, models: str, changes: dict[str, Any]
) -> tuple[int, Swapped]:
    report("swap", "began")
    schemas = shadow.shared_schemas(state.manifest)
    loader, transformer = addresses.warehouse(), addresses.warehouse("transformer")
    async with (
        addresses.connect(loader, side="warehouse") as ops,
        addresses.connect(transformer, side="warehouse", application="medallion release") as warehouse,
    ):
        before = await releases.models_in_force(ops)
        release_id = await releases.record_release(ops, run_id, models, commit(), state.run_id, changes)
        facts = {"release": release_id, "models": models, "run": run_id, "before": before, "before_run": state.run_id}
        swapped = await swap.release(
            warehouse,
            schemas,
            facts,
            wait_seconds=settings().lock_wait_seconds,
            pass_failpoint=lambda name: pass_failpoint(name, settings().failpoint),
        )
        for file in ("manifest.json", "run_results.json"):
            path = target_of(NEXT) / file
            path.write_text(shadow.as_shared(path.read_text(encoding="utf-8"), built), encoding="utf-8")
        async with ops.transaction():
            await releases.mark_released(ops, release_id)
            await dbt_manifests.keep_manifest(ops, run_id, (target_of(NEXT) / "manifest.json").read_bytes())
        await shadow.drop_under(warehouse, shadow.DISCARDED)
    return release_id, swapped
