"""Story: an edited model → built in the analyst's own schemas, with its tests → its first rows.

What was not edited is read from the shared schemas, where the last whole build left it. Without a name everything
edited is built, and what lies between two edited models; with one, that model, and what of its ancestors was edited.
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
from flows.models.beside import Beside
from flows.models.lineage import Lineage
from flows.models.manifest import Manifest, Relation
from flows.models.preview import Preview, preview_rows
from flows.models.private_schemas import PrivateSchema, prefix_for
from flows.models.project import DBT_PROJECT, BuiltNode, Invocation
from flows.models.state import fetch_state
from flows.values.errors import DeclarationError
from flows.values.settings import settings

# Models whose rows are shown when nobody named one.
_SHOWN_UNASKED = 3


@dataclass(frozen=True)
class Built:
    """One build: what became of each node, first rows of the models it was about, and how long all of it took."""

    prefix: str
    invocation: Invocation
    previews: tuple[Preview, ...]
    seconds: float

    @property
    def nodes(self) -> tuple[BuiltNode, ...]:
        """The nodes that ran."""
        return self.invocation.nodes


def analyst() -> str:
    """Whose private schemas: MEDALLION_DEV_NAME, else the account's name."""
    return settings().dev_name or getpass.getuser()


def selection_of(models: Sequence[str]) -> list[str]:
    """dbt's selection for the models asked for. Spaces unite, commas intersect.

    Ancestors that were edited are built too, and what lies between: else a model would be computed from tables that
    know nothing of the edit.
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

    Incremental models are built anew unless `incremental`: what an edit does is to be seen in every row. Values of
    personal columns are withheld unless `personal`.

    Raises:
        ConfigurationError: there is no shared build yet, or no name for the schemas.
        DeclarationError: there is no model of that name.
    """
    began = time.monotonic()
    beside = Beside(prefix_for("dev", analyst()), await fetch_state(), project)
    selection = selection_of(models)
    chosen = beside.selected(selection)
    if not chosen.problem:
        _refuse_unknown(beside.manifest(), models)
    invocation = await beside.build(selection, chosen, full_refresh=not incremental)
    previews: tuple[Preview, ...] = ()
    if rows and not invocation.problem:
        previews = await _first_rows(beside, invocation, models, rows, personal)
    return Built(beside.prefix, invocation, previews, time.monotonic() - began)


async def private() -> list[PrivateSchema]:
    """The analyst's schemas."""
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        return await private_schemas.list_private(warehouse, prefix_for("dev", analyst()))


async def drop() -> list[str]:
    """Drop the analyst's schemas. Returns their names."""
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        return await private_schemas.drop_private(warehouse, prefix_for("dev", analyst()))


def _refuse_unknown(manifest: Manifest, models: Sequence[str]) -> None:
    """dbt takes a mistyped name for a selection of nothing. What is no plain name is a selection of dbt's own."""
    known = {relation.name for relation in manifest.relations.values() if relation.kind != "source"}
    known |= {name.partition(".v")[0] for name in known}
    for model in models:
        if re.fullmatch(r"\w+", model) and model not in known:
            near = difflib.get_close_matches(model, known, n=3)
            raise DeclarationError(
                f"there is no model {model}",
                where="medallion dev build",
                fix=f"did you mean {' or '.join(near)}?" if near else "look for its name in dbt_project/models",
            )


async def _first_rows(
    beside: Beside, invocation: Invocation, models: Sequence[str], rows: int, personal: bool
) -> tuple[Preview, ...]:
    manifest, shown = beside.manifest(), []
    # What was not built now is as the shared build compiled it.
    shared = {name: relation.compiled for name, relation in beside.state.manifest.relations.items()}
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
    asked = [relation for relation in built if relation.name in models or relation.name.partition(".")[0] in models]
    return asked or built[-_SHOWN_UNASKED:]
