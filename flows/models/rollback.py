"""Rollback of models: the previous release → update what cannot be rebuilt from raw → swap.

It needs only the warehouse: no Prefect server, and no dbt.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.access import addresses
from flows.failures.failpoints import pass_failpoint
from flows.models import shadow, swap
from flows.models.manifest import Manifest
from flows.models.shadow import PREVIOUS, READERS_SCHEMA
from flows.models.swap import Swapped
from flows.state import dbt_manifests, ledger, releases, runs
from flows.state.transform_lock import transform_lock
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The withdrawn and the restored release: their numbers, None for tables built in place before any release."""

    withdrawn: int | None
    restored: int | None
    swapped: Swapped


def roll_back_models(by: str) -> RolledBack:
    """Restore the models before the last release. A second rollback rolls forward again.

    Snapshots and scores of batches keep what they stored since the release.

    Raises:
        ConfigurationError: there is no previous release.
        LoadLocked: a transform was running, or readers locked tables, during the full wait.
    """
    asyncio.run(_ensure_operations())
    with transform_lock(addresses.warehouse(), wait_seconds=settings().lock_wait_seconds):
        return asyncio.run(_roll_back(by))


def drop_previous() -> list[str]:
    """Drop the previous release. Returns the schemas' shared names; none is not an error."""

    async def drop() -> list[str]:
        async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
            await shadow.drop_under(warehouse, shadow.DISCARDED)
            return await shadow.drop_under(warehouse, PREVIOUS)

    with transform_lock(addresses.warehouse(), wait_seconds=settings().lock_wait_seconds):
        return asyncio.run(drop())


async def _ensure_operations() -> None:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as ops:
        await ledger.ensure_schema(ops)


async def _roll_back(by: str) -> RolledBack:
    loader, transformer = addresses.warehouse(), addresses.warehouse("transformer")
    async with (
        addresses.connect(loader, side="warehouse") as ops,
        addresses.connect(transformer, side="warehouse", application="medallion rollback") as warehouse,
    ):
        gone, kept = [await shadow.label_of(warehouse, name) for name in (READERS_SCHEMA, PREVIOUS + READERS_SCHEMA)]
        if not await shadow.schemas_under(warehouse, PREVIOUS):
            raise ConfigurationError(
                "there is no previous release to roll back to",
                where=f"{PREVIOUS}{READERS_SCHEMA}",
                fix="only a release keeps its predecessor; else deploy the earlier code and run `medallion transform`",
            )
        await releases.settle(ops, gone.get("release"), kept.get("release"))
        await runs.close_dead_runs(ops, "rollback", "", [])
        run_id = await runs.open_run(ops, "rollback", "", None, None)
        try:
            swapped = await _swap(ops, warehouse)
        except Exception:
            await runs.close_run(ops, run_id, "failed")
            raise
        await _write_down(ops, run_id, gone, kept, by)
    return RolledBack(gone.get("release"), kept.get("release"), swapped)


async def _swap(ops: Connection[Record], warehouse: Connection[Record]) -> Swapped:
    build = await dbt_manifests.newest_build(ops)
    if build is not None:
        now = Manifest.read(await dbt_manifests.read_manifest(ops, build.run_id))
        await shadow.copy_memory(warehouse, shadow.memory(now), PREVIOUS)
    return await swap.roll_back(
        warehouse,
        wait_seconds=settings().lock_wait_seconds,
        pass_failpoint=lambda name: pass_failpoint(name, settings().failpoint),
    )


async def _write_down(
    ops: Connection[Record], run_id: int, gone: dict[str, Any], restored: dict[str, Any], by: str
) -> None:
    """Record the withdrawal, and the manifest that is current again: others compare with it and defer to it."""
    # For a build in place before any release, the release that replaced it knows its run.
    models = restored.get("models") or gone.get("before")
    built_by = restored.get("run") or gone.get("before_run")
    async with ops.transaction():
        if gone:
            await releases.mark_withdrawn(ops, int(gone["release"]), by)
        if restored:
            await releases.mark_released(ops, int(restored["release"]))
        if built_by is not None and await dbt_manifests.is_kept(ops, int(built_by)):
            await dbt_manifests.keep_manifest(ops, run_id, await dbt_manifests.read_manifest(ops, int(built_by)))
        details = {"models": models, "full_build": True, "withdrawn": gone.get("release"), "by": by}
        await runs.close_run(ops, run_id, "done", None, details)
