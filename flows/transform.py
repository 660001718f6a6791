"""Flow transform: gate raw → snapshots, silver, gold and their tests, by dbt → gate gold.

dbt runs once per process, through PrefectDbtRunner: every node is a task run with its own state and log.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.models.environment import PREFIX_VARIABLE
from flows.models.fingerprint import commit, fingerprint
from flows.models.manifest import with_compiled
from flows.models.project import DBT_PROJECT
from flows.models.shadow import PREVIOUS, READERS_SCHEMA, label_of
from flows.privacy.returned import erase_returned_since_last_build
from flows.state import dbt_manifests, releases
from flows.tasks import begin
from flows.tasks.builds import build
from flows.tasks.gates import pass_gate
from flows.tasks.runs import Run, model_run
from flows.tasks.selective import Transforming
from flows.values.errors import DataRefused
from flows.values.settings import settings


@flow(name="transform", flow_run_name="transform", result_serializer="json", persist_result=True)
def transform(select: str | None = None, full_refresh: bool = False, full: bool = False) -> dict[str, Any]:
    """Build what has changed in silver and gold, between the two gates. Returns counts of nodes and checks.

    `full` builds everything, `full_refresh` also from scratch. `select` is a dbt selection; then the gold gate is
    skipped. It waits for another transform of the same warehouse.

    Raises:
        DataRefused: a gate or a dbt test failed; or these models must not be built into the shared schemas, because
            they were withdrawn or need a release.
        LoadLocked: another transform was running during the full wait.
        WarehouseError: dbt could not build.
    """
    begin.begin()
    with model_run("transform", target=settings().home / "dbt") as run:
        in_place = _in_private if os.environ.get(PREFIX_VARIABLE) else _in_place
        run.details = facts = in_place(run, select, full_refresh, full)
    return facts


def _in_place(run: Run, select: str | None, full_refresh: bool, full: bool) -> dict[str, Any]:
    models = fingerprint(DBT_PROJECT)
    asyncio.run(_refuse_unreleased(models))
    # What was erased may not have reached the counters of written rows yet.
    everything = "erased subjects reappeared" if forget_again() else ""
    transforming = Transforming(run.number, "it was asked for" if full or full_refresh else everything)
    transforming.look()
    # After a selection, tables may rest on others that were not built again.
    code = {"models": models, "commit": commit()}
    as_of = {"as_of": transforming.as_of} if select is None else {}
    run.note(code | as_of)
    raw = transforming.pass_gate_raw()
    decision = transforming.decide()
    nodes = transforming.build(decision, select=select, full_refresh=full_refresh)
    facts: dict[str, Any] = {"nodes": len(nodes), "checks": len(raw), **code, **as_of}
    if select is not None:
        return facts
    if nodes:
        asyncio.run(_keep_manifest(run.number))
    gold = transforming.pass_gate_gold()
    counts = {"built": transforming.built, "unchanged": transforming.unchanged}
    return facts | counts | {"checks": len(raw) + len(gold), "full_build": True}


def _in_private(run: Run, select: str | None, full_refresh: bool, _: bool) -> dict[str, Any]:
    """Everything, into schemas with a prefix: nothing is recorded of them."""
    code = {"models": fingerprint(DBT_PROJECT), "commit": commit()}
    run.note(code)
    forget_again()
    raw = pass_gate("raw", run.number)
    nodes = build(select=select, full_refresh=full_refresh)
    gold = pass_gate("gold", run.number) if select is None else []
    return {"nodes": len(nodes), "checks": len(raw) + len(gold), **code}


def forget_again() -> bool:
    """Erase subjects that reappeared in raw before models read them: a snapshot would keep them forever.

    Returns whether there were any.
    """
    returned = asyncio.run(erase_returned_since_last_build())
    if returned:
        get_run_logger().warning(
            "%d erased subjects reappeared and were erased again; erase them at the source", returned
        )
    return bool(returned)


async def _refuse_unreleased(models: str) -> None:
    """Refuse to build models in place that were withdrawn or need a release."""
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
            fix="deploy the earlier code, or fix the models and run `medallion transform --release`",
        )
    if settings().models_by_release and had not in (None, models):
        raise DataRefused(
            "these models differ from those of readers, and this environment changes models only by a release",
            where="transform",
            fix="run `medallion transform --release`, which builds and checks them in shadow schemas",
        )


async def _keep_manifest(run_id: int) -> None:
    """Store the manifest of the build, for `medallion dev` and pull requests: with the compiled code of all models."""
    manifest = settings().home / "dbt" / "manifest.json"
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        text, former = manifest.read_bytes(), await dbt_manifests.newest_build(warehouse)
        if former is not None:
            text = with_compiled(text, await dbt_manifests.read_manifest(warehouse, former.run_id))
            manifest.write_bytes(text)
        await dbt_manifests.keep_manifest(warehouse, run_id, text)
