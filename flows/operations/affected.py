"""What readers of gold see of a problem: by the lineage of the newest full build."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from flows.models.manifest import Manifest, Relation
from flows.state import dbt_manifests

if TYPE_CHECKING:
    from asyncpg import Connection, Record


class Dependencies:
    """What is built from what, as `shop.baskets` for tables of sources and `gold.dim_store` for models."""

    def __init__(self, manifest: Manifest | None) -> None:
        self._manifest = manifest

    @cached_property
    def _upstream(self) -> dict[str, frozenset[str]]:
        if self._manifest is None:
            return {}
        return {
            relation.address: frozenset(
                _table(parent) if parent.kind == "source" else parent.address
                for parent in self._manifest.ancestors(unique_id)
            )
            for unique_id, relation in self._manifest.relations.items()
            if relation.kind != "source"
        }

    @cached_property
    def _gold(self) -> dict[str, list[str]]:
        """The relations of gold that are built from each subject, sorted."""
        readers: dict[str, set[str]] = defaultdict(set)
        for model, parents in self._upstream.items():
            if model.startswith("gold."):
                readers[model].add(model)
                for parent in parents:
                    readers[parent].add(model)
        return {subject: sorted(models) for subject, models in readers.items()}

    def upstream(self, subject: str) -> frozenset[str]:
        """All that a model is built from. `models` are all of them."""
        if subject in ("transform", "models"):
            return frozenset().union(*self._upstream.values()) if self._upstream else frozenset()
        return self._upstream.get(subject, frozenset())

    def readers(self, subjects: Iterable[str]) -> list[str]:
        """The relations of gold that are built from any of these, sorted."""
        found: set[str] = set()
        for subject in subjects:
            name = subject.removeprefix("raw_")
            found.update(self._gold.get(name, ()))
            if name.startswith("source "):
                prefix = f"{name.removeprefix('source ')}."
                found.update(*(models for table, models in self._gold.items() if table.startswith(prefix)))
        return sorted(found)


def _table(relation: Relation) -> str:
    return f"{relation.schema.removeprefix('raw_')}.{relation.identifier}"


async def read_dependencies(connection: Connection[Record]) -> Dependencies:
    """Those of the newest full build; none before the first."""
    newest = await dbt_manifests.newest_build(connection)
    if newest is None:
        return Dependencies(None)
    return Dependencies(Manifest.read(await dbt_manifests.read_manifest(connection, newest.run_id)))
