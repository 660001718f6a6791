"""Story: gate raw → the whole project built beside the shared schemas → its tests and gate gold there → what it changes
for readers → the exchange.

Ordinary transforms build in place, table by table, and are judged afterwards. A release shows readers nothing before it
was judged, and all of it at once; what they had is kept for the way back.
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
from flows.models import colours, exchange
from flows.models.colours import NEXT
from flows.models.environment import PREFIX_VARIABLE
from flows.models.exchange import Exchanged
from flows.models.fingerprint import commit, fingerprint
from flows.models.manifest import Manifest
from flows.models.project import DBT_PROJECT
from flows.models.release_changes import GoldChange, gold_changes
from flows.models.state import SharedState, fetch_state
from flows.observe.progress import report
from flows.state import dbt_manifests, releases
from flows.tasks import begin
from flows.tasks.builds import build, target_of
from flows.tasks.gates import pass_gate
from flows.transform import forget_again, recorded
from flows.values.errors import ConfigurationError, DataRefused
from flows.values.settings import settings


@flow(name="release", flow_run_name="release", result_serializer="json", persist_result=True)
def release(accept_changes: bool = False) -> dict[str, Any]:
    """Build all models beside the shared ones, judge them, and give them to readers in one transaction.

    Transforms and predictions wait meanwhile; ingest does not. Returns the release's number, counts, and what changed
    in each table of gold.

    Raises:
        ConfigurationError: there is no whole build yet that it could take the place of.
        DataRefused: a gate is closed, a test failed, or readers would lose tables, columns or most rows of one and
            nobody said `accept_changes`. What was built stays under `next__` for a look.
        LoadLocked: a transform was running, or readers held tables, all the while we waited.
        WarehouseError: dbt could not build.
    """
    begin.begin()
    if os.environ.get(PREFIX_VARIABLE):
        raise ConfigurationError(
            "a release goes into the shared schemas",
            where=PREFIX_VARIABLE,
            fix="unset it",
        )
    return recorded("release", lambda run_id: _release(run_id, accept_changes), target_of(NEXT))


def _release(run_id: int, accept_changes: bool) -> dict[str, Any]:
    state = asyncio.run(fetch_state())
    models = fingerprint(DBT_PROJECT)
    forget_again()
    raw = pass_gate("raw", run_id)
    asyncio.run(_prepare(state))
    nodes = build(prefix=NEXT)
    built = Manifest.read((target_of(NEXT) / "manifest.json").read_bytes())
    gold = pass_gate("gold", run_id, schema_prefix=NEXT)
    changes = asyncio.run(_compare(state, built))
    _refuse(changes, accept_changes)
    told = {change.name: change.facts() for change in changes}
    release_id, exchanged = asyncio.run(_give_to_readers(run_id, state, built, models, told))
    report("exchange", "done", f"release {release_id}, readers stood still for {exchanged.seconds * 1000:.0f} ms")
    return {
        "nodes": len(nodes),
        "checks": len(raw) + len(gold),
        "models": models,
        "whole": True,
        "release": release_id,
        "still_seconds": exchanged.seconds,
        "changes": told,
    }


async def _prepare(state: SharedState) -> None:
    """Empty schemas beside the shared ones, with what raw does not tell any more."""
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        await colours.prepare(warehouse, colours.shared_schemas(state.manifest))
        await colours.copy_memory(warehouse, colours.memory(state.manifest), NEXT)


async def _compare(state: SharedState, built: Manifest) -> list[GoldChange]:
    began = time.monotonic()
    report("compare", "began")
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        changes = await gold_changes(warehouse, state.manifest, built)
    differing = sum(not change.difference.same for change in changes)
    report("compare", "done", f"{differing} of {len(changes)} tables of gold differ, {time.monotonic() - began:.1f} s")
    return changes


def _refuse(changes: Sequence[GoldChange], accept_changes: bool) -> None:
    problems = [f"{change.name} {problem}" for change in changes for problem in change.problems]
    if problems and not accept_changes:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataRefused(
            f"readers would lose what they have: {'; '.join(problems[:5])}{more}",
            where="release",
            fix="look at next__gold; keep a version of what readers need, or release with --accept-changes",
        )


async def _give_to_readers(
    run_id: int, state: SharedState, built: Manifest, models: str, changes: dict[str, Any]
) -> tuple[int, Exchanged]:
    report("exchange", "began")
    schemas = colours.shared_schemas(state.manifest)
    loader, transformer = addresses.warehouse(), addresses.warehouse("transformer")
    async with (
        addresses.connect(loader, side="warehouse") as ops,
        addresses.connect(transformer, side="warehouse", application="medallion release") as warehouse,
    ):
        before = await releases.models_in_force(ops)
        release_id = await releases.record_release(ops, run_id, models, commit(), state.run_id, changes)
        await colours.copy_grants(warehouse, schemas, NEXT)
        facts = {"release": release_id, "models": models, "run": run_id, "before": before, "before_run": state.run_id}
        exchanged = await exchange.release(
            warehouse,
            schemas,
            facts,
            wait_seconds=settings().lock_wait_seconds,
            pass_failpoint=lambda name: pass_failpoint(name, settings().failpoint),
        )
        for file in ("manifest.json", "run_results.json"):
            path = target_of(NEXT) / file
            path.write_text(colours.as_shared(path.read_text(encoding="utf-8"), built), encoding="utf-8")
        async with ops.transaction():
            await releases.mark_released(ops, release_id)
            await dbt_manifests.keep_manifest(ops, run_id, (target_of(NEXT) / "manifest.json").read_bytes())
        await colours.drop_under(warehouse, colours.DISCARDED)
    return release_id, exchanged
