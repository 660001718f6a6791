"""New models: a name and what it reads → SQL and properties file that build unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.access import addresses
from flows.models import scaffold_inputs
from flows.models.dev import analyst
from flows.models.lineage import Lineage
from flows.models.manifest import Manifest, Relation
from flows.models.private_schemas import prefix_for
from flows.models.project import DBT_PROJECT
from flows.models.relation_columns import relation_columns
from flows.models.scaffold import NewModel, scaffold
from flows.models.state import fetch_state
from flows.values.errors import DeclarationError
from flows.values.settings import PROJECT_ROOT, settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Kind = Literal["staging", "silver", "gold", "snapshot", "seed"]


@dataclass(frozen=True)
class _Origin:
    """What a model reads: its relation, the types of its columns, and those that are personal."""

    relation: Relation
    types: Mapping[str, str]
    personal: frozenset[str]


async def new_model(
    name: str,
    layer: Kind,
    origin: str,
    by: Sequence[str] = (),
    *,
    project: Path = DBT_PROJECT,
    checks: Path = PROJECT_ROOT / "soda/gold_checks",
) -> list[Path]:
    """Write the files of a new model, snapshot or seed. Returns their paths.

    `origin` is a model, for staging a table such as `shop.baskets`, for a seed a CSV file. A model that the analyst's
    own `dev build` made is taken from there, else from the last full build.

    Raises:
        DeclarationError: the name is taken, or what it reads is not suitable.
        ConfigurationError: there is no shared build yet, which has the columns.
    """
    if layer == "seed":
        return _write(name, scaffold_inputs.seed(name, Path(origin), by, project=project))
    manifest = (await fetch_state()).manifest
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        if layer == "staging":
            return _write(name, await _staging(warehouse, name, origin, manifest, project))
        found = await _private(warehouse, origin, manifest) or await _shared(warehouse, name, origin, manifest)
    if layer == "snapshot":
        return _write(name, scaffold_inputs.snapshot(name, found.relation, found.types, by, project=project))
    files = scaffold(
        NewModel(name, layer, by),
        found.relation,
        found.types,
        personal=found.personal,
        known=manifest,
        project=project,
        checks=checks,
    )
    return _write(name, files)


def _write(name: str, files: Mapping[Path, str]) -> list[Path]:
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


async def _staging(
    warehouse: Connection[Record], name: str, table: str, manifest: Manifest, project: Path
) -> dict[Path, str]:
    source, _, of = table.partition(".")
    types = await relation_columns(warehouse, f"raw_{source}", of)
    fields = await warehouse.fetch(
        "select field, kinds from ops.record_fields where source_system = $1 and table_name = $2 order by field",
        source,
        of,
    )
    declared = next(
        (
            relation
            for relation in manifest.relations.values()
            if relation.kind == "source" and relation.address == f"raw_{table}"
        ),
        None,
    )
    kinds = {row["field"]: row["kinds"] for row in fields}
    return scaffold_inputs.staging(name, table, types, kinds, declared, project=project)


async def _shared(warehouse: Connection[Record], name: str, origin: str, manifest: Manifest) -> _Origin:
    relation = _named(manifest, origin)
    if relation is None:
        raise DeclarationError(
            f"neither the last full build nor your own has a model {origin}",
            where=f"model {name}",
            fix=f"look up its name in dbt_project/models; build a new one first: `medallion dev build {origin}`",
        )
    types = await relation_columns(warehouse, relation.schema, relation.identifier)
    return _Origin(relation, types, frozenset(Lineage(manifest).personal(relation.unique_id)))


async def _private(warehouse: Connection[Record], origin: str, shared: Manifest) -> _Origin | None:
    """The model as the analyst's own last build made it; None if that did not build it."""
    prefix = prefix_for("dev", analyst())
    file = settings().home / "dbt" / prefix.rstrip("_") / "manifest.json"
    if not file.is_file():
        return None
    manifest = Manifest.read(file.read_bytes())
    relation = _named(manifest, origin)
    if relation is None or not relation.schema.startswith(prefix):
        return None
    types = await relation_columns(warehouse, relation.schema, relation.identifier)
    if not types:
        return None
    # What was not built is as the shared build compiled it.
    compiled = {name: one.compiled for name, one in shared.relations.items()}
    compiled |= {name: one.compiled for name, one in manifest.relations.items() if one.compiled}
    return _Origin(relation, types, frozenset(Lineage(manifest, compiled).personal(relation.unique_id)))


def _named(manifest: Manifest, origin: str) -> Relation | None:
    """The newest version of a model, snapshot, seed or source table of this name."""
    found = [
        relation for relation in manifest.relations.values() if origin in {relation.name, *_unversioned(relation.name)}
    ]
    return found[-1] if found else None


def _unversioned(name: str) -> list[str]:
    """`dim_store` for `dim_store.v2`."""
    return [name.rpartition(".v")[0]] if ".v" in name else []
