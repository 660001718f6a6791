"""New models: a name and a model to read → SQL and properties file that build unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.access import addresses
from flows.models.lineage import Lineage
from flows.models.project import DBT_PROJECT
from flows.models.relation_columns import relation_columns
from flows.models.scaffold import Layer, NewModel, scaffold
from flows.models.state import fetch_state
from flows.values.errors import DeclarationError
from flows.values.settings import PROJECT_ROOT


async def new_model(
    name: str,
    layer: Layer,
    origin: str,
    by: Sequence[str] = (),
    *,
    project: Path = DBT_PROJECT,
    checks: Path = PROJECT_ROOT / "soda/gold_checks",
) -> list[Path]:
    """Write the files of a new model. Returns their paths.

    Raises:
        DeclarationError: the name is taken, or the model to read is not suitable.
        ConfigurationError: there is no shared build yet, which has the columns.
    """
    manifest = (await fetch_state()).manifest
    found = [
        relation for relation in manifest.relations.values() if origin in {relation.name, *_unversioned(relation.name)}
    ]
    if not found:
        raise DeclarationError(
            f"the last full build has no model {origin}",
            where=f"model {name}",
            fix="look up its name in dbt_project/models; a new model needs a full build first",
        )
    relation = found[-1]
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        types = await relation_columns(warehouse, relation.schema, relation.identifier)
    personal = Lineage(manifest).personal(relation.unique_id)
    files = scaffold(
        NewModel(name, layer, by), relation, types, personal=personal, known=manifest, project=project, checks=checks
    )
    there = [path for path in files if path.exists()]
    if there:
        raise DeclarationError(
            f"{', '.join(path.name for path in there)} already exists",
            where=f"model {name}",
            fix="choose another name, or remove the file",
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(files)


def _unversioned(name: str) -> list[str]:
    """`dim_store` for `dim_store.v2`."""
    return [name.rpartition(".v")[0]] if ".v" in name else []
