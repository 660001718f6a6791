"""Story: what readers had before the last release → brought up to date in what raw does not tell → the exchange.

It asks nobody but the warehouse: no Prefect server, and no dbt.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.access import addresses
from flows.failures.failpoints import pass_failpoint
from flows.models import colours, exchange
from flows.models.colours import PREVIOUS, READERS_SCHEMA
from flows.models.exchange import Exchanged
from flows.models.manifest import Manifest
from flows.state import dbt_manifests, ledger, releases, runs
from flows.state.transform_lock import transform_lock
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What readers had, and what they have: numbers of releases, None for what was built in place before any."""

    withdrawn: int | None
    restored: int | None
    exchanged: Exchanged


def roll_back_models(by: str) -> RolledBack:
    """Give readers what they had before the last release. Done twice, it is as if it had not been done.

    Snapshots and scores of batches keep what they learned since the release.

    Raises:
        ConfigurationError: nothing is kept to go back to.
        LoadLocked: a transform was running, or readers held tables, all the while we waited.
    """
    asyncio.run(_ensure_operations())
    with transform_lock(addresses.warehouse(), wait_seconds=settings().lock_wait_seconds):
        return asyncio.run(_roll_back(by))


def drop_previous() -> list[str]:
    """Drop what is kept for the way back. Returns the schemas' shared names; none is no error."""

    async def drop() -> list[str]:
        async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
            await colours.drop_under(warehouse, colours.DISCARDED)
            return await colours.drop_under(warehouse, PREVIOUS)

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
        gone, kept = [await colours.label_of(warehouse, name) for name in (READERS_SCHEMA, PREVIOUS + READERS_SCHEMA)]
        if not await colours.schemas_under(warehouse, PREVIOUS):
            raise ConfigurationError(
                "nothing is kept to go back to",
                where=f"{PREVIOUS}{READERS_SCHEMA}",
                fix="a release keeps what was before it; else deploy the earlier code, run `medallion transform`",
            )
        await releases.settle(ops, gone.get("release"), kept.get("release"))
        await runs.close_dead_runs(ops, "rollback", "", [])
        run_id = await runs.open_run(ops, "rollback", "", None, None)
        try:
            exchanged = await _exchange(ops, warehouse)
        except Exception:
            await runs.close_run(ops, run_id, "failed")
            raise
        await _write_down(ops, run_id, gone, kept, by)
    return RolledBack(gone.get("release"), kept.get("release"), exchanged)


async def _exchange(ops: Connection[Record], warehouse: Connection[Record]) -> Exchanged:
    build = await dbt_manifests.newest_build(ops)
    if build is not None:
        now = Manifest.read(await dbt_manifests.read_manifest(ops, build.run_id))
        await colours.copy_memory(warehouse, colours.memory(now), PREVIOUS)
    return await exchange.roll_back(
        warehouse,
        wait_seconds=settings().lock_wait_seconds,
        pass_failpoint=lambda name: pass_failpoint(name, settings().failpoint),
    )


async def _write_down(
    ops: Connection[Record], run_id: int, gone: dict[str, Any], restored: dict[str, Any], by: str
) -> None:
    """The releases' ends, and the manifest of what is in force again: others compare with it and defer to it."""
    # Of a build in place, before any release, the release that took its place knows what it was.
    models = restored.get("models") or gone.get("before")
    built_by = restored.get("run") or gone.get("before_run")
    async with ops.transaction():
        if gone:
            await releases.mark_withdrawn(ops, int(gone["release"]), by)
        if restored:
            await releases.mark_released(ops, int(restored["release"]))
        if built_by is not None and await dbt_manifests.is_kept(ops, int(built_by)):
            await dbt_manifests.keep_manifest(ops, run_id, await dbt_manifests.read_manifest(ops, int(built_by)))
        details = {"models": models, "whole": True, "withdrawn": gone.get("release"), "by": by}
        await runs.close_run(ops, run_id, "done", None, details)
