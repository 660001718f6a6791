"""Dev builds: build edited models in the analyst's private schemas → test them → show their first rows.

Other models are read from the shared schemas, as the last full build left them. Without a name, all edited models are
built, plus those in between; with a name, that model plus edited upstream models and those in between.
"""

from __future__ import annotations

import difflib
import getpass
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.access import addresses
from flows.models import private_schemas
from flows.models.build_advice import Duplicates, RemovedColumn, duplicates, removed_columns
from flows.models.lineage import Lineage
from flows.models.manifest import Manifest, Relation
from flows.models.preview import Preview, preview_rows
from flows.models.private_schemas import PrivateSchema, prefix_for
from flows.models.project import DBT_PROJECT, BuiltNode, Invocation
from flows.models.shadow_build import ShadowBuild
from flows.models.state import fetch_state
from flows.values.errors import DeclarationError
from flows.values.settings import settings

# Number of models whose rows are shown if none was named.
_SHOWN_UNASKED = 3


@dataclass(frozen=True)
class Built:
    """One build: the status of each node, first rows of its models, and its duration.

    `removed` are columns that shared tables have and these lack; `duplicates` the models whose key repeats.
    """

    prefix: str
    invocation: Invocation
    previews: tuple[Preview, ...]
    seconds: float
    removed: tuple[RemovedColumn, ...] = ()
    duplicates: tuple[Duplicates, ...] = ()

    @property
    def nodes(self) -> tuple[BuiltNode, ...]:
        """The nodes that ran, without hooks of the project that did their work."""
        return tuple(node for node in self.invocation.nodes if node.kind != "operation" or not node.ok)


def analyst() -> str:
    """The owner of the private schemas: MEDALLION_DEV_NAME, else the account's name."""
    return settings().dev_name or getpass.getuser()


def selection_of(models: Sequence[str]) -> list[str]:
    """dbt's selection for the requested models. Spaces are unions, commas intersections.

    Edited upstream models are built too, plus those in between: otherwise a model would read tables without the edit.
    """
    if not models:
        return ["state:modified+,+state:modified"]
    return [part for model in models for part in (model, f"+{model},state:modified+")]


async def build(
    models: Sequence[str] = (),
    *,
    rows: int = 5,
    incremental: bool = False,
    personal: bool = False,
    project: Path = DBT_PROJECT,
) -> Built:
    """Build and test models in the analyst's schemas, and read their first rows.

    Incremental models are rebuilt unless `incremental`, so that the effect of an edit is visible in every row. Values
    of personal columns are hidden unless `personal`.

    Raises:
        ConfigurationError: there is no shared build yet, or no name for the schemas.
        DeclarationError: the model does not exist.
    """
    began = time.monotonic()
    shadow = ShadowBuild(prefix_for("dev", analyst()), await fetch_state(), project)
    selection = selection_of(models)
    chosen = shadow.selected(selection)
    if not chosen.problem:
        _refuse_unknown(shadow.manifest(), models)
    invocation = await shadow.build(selection, chosen, full_refresh=not incremental)
    if invocation.problem:
        return Built(shadow.prefix, invocation, (), time.monotonic() - began)
    previews = await _first_rows(shadow, invocation, models, rows, personal) if rows else ()
    manifest = shadow.manifest()
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        removed = await removed_columns(warehouse, invocation, manifest, shadow.state.manifest)
    repeated = duplicates(invocation, manifest, shadow.target / "duplicates")
    return Built(shadow.prefix, invocation, previews, time.monotonic() - began, removed, repeated)


async def private() -> list[PrivateSchema]:
    """The analyst's schemas."""
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        return await private_schemas.list_private(warehouse, prefix_for("dev", analyst()))


async def drop() -> list[str]:
    """Drop the analyst's schemas. Returns their names."""
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        return await private_schemas.drop_private(warehouse, prefix_for("dev", analyst()))


def _refuse_unknown(manifest: Manifest, models: Sequence[str]) -> None:
    """dbt treats a mistyped name as an empty selection. Other syntax is passed to dbt as a selection."""
    known = {relation.name for relation in manifest.relations.values() if relation.kind != "source"}
    known |= {name.partition(".v")[0] for name in known}
    for model in models:
        if re.fullmatch(r"\w+", model) and model not in known:
            near = difflib.get_close_matches(model, known, n=3)
            raise DeclarationError(
                f"model {model} does not exist",
                where="medallion dev build",
                fix=f"did you mean {' or '.join(near)}?" if near else "look up its name in dbt_project/models",
            )


async def _first_rows(
    shadow: ShadowBuild, invocation: Invocation, models: Sequence[str], rows: int, personal: bool
) -> tuple[Preview, ...]:
    manifest, shown = shadow.manifest(), []
    # Nodes that were not built are as the shared build compiled them.
    shared = {name: relation.compiled for name, relation in shadow.state.manifest.relations.items()}
    lineage = Lineage(manifest, shared | {node.unique_id: node.compiled for node in invocation.nodes})
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        for relation in _worth_showing(manifest, invocation, models):
            show = None if personal else lineage.impersonal(relation.unique_id)
            shown.append(await preview_rows(warehouse, relation.schema, relation.identifier, limit=rows, show=show))
    return tuple(shown)


def _worth_showing(manifest: Manifest, invocation: Invocation, models: Sequence[str]) -> list[Relation]:
    built = [
        manifest.relations[node.unique_id]
        for node in invocation.nodes
        if node.unique_id in manifest.relations and node.status == "success"
    ]
    if not models:
        return built[-_SHOWN_UNASKED:]
    return [relation for relation in built if relation.name in models or relation.name.partition(".")[0] in models]
