"""Coverage of models by descriptions and tests, per layer, from the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flows.models.manifest import Manifest, Relation

#: What each kind of relation, other than models, tests its key by.
_KEYED_BY = {
    "seed": "a unique index of its key to its config (indexes)",
    "snapshot": "the pre-hook prepare_snapshot()",
}


@dataclass(frozen=True, slots=True)
class LayerCoverage:
    """One layer. Models: described, with a tested or constrained key, with a data test, with a unit test.
    Columns: described, and covered by a test or constraint."""

    layer: str
    models: int
    described: int
    keyed: int
    tested: int
    unit_tested: int
    columns: int
    columns_described: int
    columns_tested: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A missing item: the model, and what is missing."""

    model: str
    what: str


def coverage(manifest: Manifest) -> list[LayerCoverage]:
    """Staging first, gold last."""
    tested = {node.get("attached_node") for node in manifest.tests.values()}
    unit_tested = {
        parent
        for test in manifest.tests.values()
        if test["resource_type"] == "unit_test"
        for parent in test["depends_on"]["nodes"]
    }
    looked_at = _columns_looked_at(manifest)
    found = []
    for layer in _layers(manifest):
        models = [r for r in manifest.relations.values() if r.kind == "model" and r.layer == layer]
        columns = [(model.unique_id, name, column) for model in models for name, column in model.columns.items()]
        found.append(
            LayerCoverage(
                layer,
                models=len(models),
                described=sum(bool(model.description.strip()) for model in models),
                keyed=sum(bool(model.key) for model in models),
                tested=sum(model.unique_id in tested or _constrained(model.columns.values()) for model in models),
                unit_tested=sum(model.unique_id in unit_tested for model in models),
                columns=len(columns),
                columns_described=sum(bool((column.get("description") or "").strip()) for *_, column in columns),
                columns_tested=sum((model, name) in looked_at for model, name, _ in columns),
            )
        )
    return found


def gaps(manifest: Manifest) -> list[Gap]:
    """What a model lacks by the conventions: column descriptions, a tested key in silver and gold, and ref() and
    source() instead of table names, without which neither lineage nor shadow builds would work; and what seeds and
    snapshots lack, without which each join with them may multiply rows.

    A key counts as tested by `keys_hold`, `unique`, a primary key, a unique index, or an incremental unique key.
    """
    found: list[Gap] = []
    schemas = "|".join(sorted({re.escape(relation.schema) for relation in manifest.relations.values()}))
    written_out = re.compile(rf"\b(?:from|join)\s+\"?({schemas})\"?\.\"?(\w+)", re.IGNORECASE)
    for relation in manifest.relations.values():
        if relation.kind in _KEYED_BY:
            found += _gaps_of_joined(manifest, relation)
        if relation.kind != "model":
            continue
        sql = re.sub(r"--.*|/\*.*?\*/", "", manifest.content["nodes"][relation.unique_id].get("raw_code") or "")
        for schema, table in written_out.findall(sql):
            found.append(Gap(relation.name, f"{schema}.{table} is hard-coded: use ref() or source()"))
        if not relation.columns:
            found.append(Gap(relation.name, "no column is described"))
        blank = [name for name, column in relation.columns.items() if not (column.get("description") or "").strip()]
        if blank:
            found.append(Gap(relation.name, f"columns without a description: {', '.join(blank)}"))
        if relation.layer in {"silver", "gold"} and not relation.key:
            found.append(Gap(relation.name, "its key is not tested: add keys_hold, or a primary key in a contract"))
    return sorted(found, key=lambda gap: gap.model)


def _gaps_of_joined(manifest: Manifest, relation: Relation) -> Iterator[Gap]:
    hooks = manifest.content["nodes"][relation.unique_id]["config"].get("pre-hook") or []
    checked = any("prepare_snapshot" in str(hook) for hook in hooks)
    if not (relation.key and (checked or relation.kind == "seed")):
        yield Gap(relation.name, f"its key is not tested: add {_KEYED_BY[relation.kind]}")


def _layers(manifest: Manifest) -> list[str]:
    order = ["staging", "silver_quarantine", "silver", "gold"]
    present = {relation.layer for relation in manifest.relations.values() if relation.kind == "model"}
    return [layer for layer in order if layer in present] + sorted(present - set(order))


def _constrained(columns: Iterable[Mapping[str, Any]]) -> bool:
    return any(column.get("constraints") for column in columns)


def _columns_looked_at(manifest: Manifest) -> set[tuple[str, str]]:
    found = {
        (relation.unique_id, name)
        for relation in manifest.relations.values()
        for name, column in relation.columns.items()
        if column.get("constraints") or name in relation.key
    }
    for test in manifest.tests.values():
        if test.get("attached_node"):
            found |= {(test["attached_node"], name) for name in _named(test)}
        elif test["resource_type"] == "unit_test":
            rows = (test.get("expect") or {}).get("rows")
            names = {name for row in rows for name in row} if isinstance(rows, list) else set()
            found |= {(parent, name) for parent in test["depends_on"]["nodes"] for name in names}
    return found


def _named(test: Mapping[str, Any]) -> Iterator[str]:
    """The columns of a column test, or of one of our tests of several columns."""
    if test.get("column_name"):
        yield test["column_name"]
    arguments = (test.get("test_metadata") or {}).get("kwargs") or {}
    for value in arguments.values():
        entries = value if isinstance(value, list) else [value]
        for entry in entries:
            yield entry["column"] if isinstance(entry, dict) and "column" in entry else str(entry)
