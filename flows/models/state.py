"""The state of the last full build: its manifest in a folder, as dbt's --state expects it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows.access import addresses
from flows.models.manifest import Manifest
from flows.state import dbt_manifests
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

_FORGET_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class SharedState:
    """The newest full build of the shared schemas. `changed` are raw tables that changed since it began."""

    folder: Path
    run_id: int | None
    started_at: datetime | None
    changed: tuple[str, ...]
    manifest: Manifest


async def fetch_state(address: DatabaseConnection | None = None) -> SharedState:
    """The manifest of the newest full build, fetched once per build and cached under `.medallion/dbt/state`.

    It is read as the transformer unless another role's connection URL is given.

    Raises:
        ConfigurationError: no full build has stored its manifest yet.
    """
    address = address or addresses.warehouse("transformer")
    async with addresses.connect(address, side="warehouse") as warehouse:
        build = await dbt_manifests.newest_build(warehouse)
        if build is None:
            raise ConfigurationError(
                "there is no full build to compare with or to defer to",
                where="ops.dbt_manifests",
                fix="run `medallion transform` once; it stores its state",
            )
        # Run numbers start at 1 in each warehouse: the start time distinguishes builds of two warehouses.
        folder = settings().home / "dbt" / "state" / f"{build.run_id}-{build.started_at:%Y%m%dT%H%M%S%f}"
        file = folder / "manifest.json"
        if not file.is_file():
            text = await dbt_manifests.read_manifest(warehouse, build.run_id)
            folder.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            partial.write_bytes(text)
            partial.replace(file)
            _forget_others(folder)
        changed = await dbt_manifests.tables_changed_since(warehouse, build.started_at)
    return SharedState(folder, build.run_id, build.started_at, tuple(changed), Manifest.read(file.read_bytes()))


def state_in(folder: Path) -> SharedState:
    """An external state, such as a CI artifact: the folder with its manifest.json.

    Raises:
        ConfigurationError: it does not exist.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        raise ConfigurationError(
            "the folder has no manifest.json", where=str(folder), fix="name the folder that contains it"
        )
    return SharedState(folder.resolve(), None, None, (), Manifest.read(file.read_bytes()))


def _forget_others(kept: Path) -> None:
    """Remove states older than some weeks; newer ones may be in use by a running build."""
    for folder in kept.parent.iterdir():
        if folder != kept and folder.is_dir() and time.time() - folder.stat().st_mtime > _FORGET_SECONDS:
            for file in folder.iterdir():
                file.unlink(missing_ok=True)
            folder.rmdir()
