"""Shadow builds: edited models are built in schemas with a prefix, all others are read from the shared schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.models.manifest import Manifest
from flows.models.private_schemas import open_private
from flows.models.project import DBT_PROJECT, Invocation, run_dbt
from flows.models.state import SharedState
from flows.values.connection import DatabaseConnection
from flows.values.identifiers import qualified
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True)
class ShadowBuild:
    """The target of a shadow build, and its shared build."""

    prefix: str
    state: SharedState
    project: Path = DBT_PROJECT
    address: DatabaseConnection = field(default_factory=lambda: addresses.warehouse("transformer"), repr=False)

    @property
    def target(self) -> Path:
        """dbt's folder for it. One per prefix, because dbt reparses when the prefix changes."""
        return settings().home / "dbt" / self.prefix.rstrip("_")

    @cached_property
    def _project_name(self) -> str:
        return str(self.state.manifest.content["metadata"]["project_name"])

    def selected(self, selection: Sequence[str]) -> Invocation:
        """Unique ids of the selection, including tests, in `listed`; or dbt's problem with the project."""
        found = self._dbt("list", "--select", *selection, "--output", "json", "--output-keys", "unique_id")
        return Invocation(
            listed=tuple(json.loads(line)["unique_id"] for line in found.listed if line.startswith("{")),
            problem=found.problem,
        )

    async def build(self, selection: Sequence[str], chosen: Invocation, *, full_refresh: bool = False) -> Invocation:
        """Build the selection with its tests and unit tests. Returns the nodes that ran, or the problem.

        `chosen` is the result of `selected` for the same selection.

        Snapshots of the selection start from a copy of the shared one, as in production: rebuilt they would have no
        history, and downstream models would look wrong.
        """
        if chosen.problem or not chosen.listed:
            return chosen
        async with addresses.connect(self.address, side="warehouse") as warehouse:
            await open_private(warehouse, self._schemas_of(chosen.listed))
            await self._copy_snapshots(warehouse, [name for name in chosen.listed if name.startswith("snapshot.")])
        arguments = ["build", "--select", *selection, "--defer", "--favor-state", "--store-failures"]
        arguments += ["--full-refresh"] if full_refresh else []
        return self._dbt(*arguments, "--threads", str(settings().dbt_threads))

    def manifest(self) -> Manifest:
        """The manifest of the last call."""
        return Manifest.read((self.target / "manifest.json").read_bytes())

    def _dbt(self, *arguments: str) -> Invocation:
        return run_dbt(
            [*arguments, "--state", str(self.state.folder)],
            url=self.address.url,
            target=self.target,
            prefix=self.prefix,
            project=self.project,
        )

    def _schemas_of(self, unique_ids: Sequence[str]) -> list[str]:
        """The schemas that dbt will write these nodes into. Unit tests have none."""
        nodes = self.manifest().content["nodes"]
        return sorted({str(nodes[unique_id]["schema"]) for unique_id in unique_ids if unique_id in nodes})

    async def _copy_snapshots(self, warehouse: Connection[Record], unique_ids: Sequence[str]) -> None:
        shared = [self.state.manifest.relations[name] for name in unique_ids if name in self.state.manifest.relations]
        for snapshot in shared:
            schema = f"{self.prefix}{snapshot.schema}"
            copy, original = qualified(schema, snapshot.identifier), qualified(snapshot.schema, snapshot.identifier)
            async with warehouse.transaction():
                await warehouse.execute(f"drop table if exists {copy}")
                await warehouse.execute(f"create table {copy} (like {original} including all)")
                await warehouse.execute(f"insert into {copy} select * from {original}")
