"""What an analyst needs beside a build's result: who reads a removed column, and a query for duplicate keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.models.lineage import Lineage
from flows.models.manifest import Manifest, Relation
from flows.models.project import Invocation
from flows.models.relation_columns import relation_columns
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# PostgreSQL's messages for a unique index or a primary key that rows do not allow, and dbt's for both; SQLSTATE 23505.
_DUPLICATE = re.compile(r"duplicate key value|could not create unique index|is duplicated|\b23505\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RemovedColumn:
    """A column that the shared table has and the private one has not. `readers` are models, with the columns computed
    from it: `agg_daily_sales.sales_value`."""

    model: str
    column: str
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """A model whose key repeats, and the file with the query that shows the rows' keys."""

    model: str
    key: tuple[str, ...]
    query: Path


async def removed_columns(
    warehouse: Connection[Record], built: Invocation, private: Manifest, shared: Manifest
) -> tuple[RemovedColumn, ...]:
    """The columns that models of this build no longer have, and what reads them in the shared build."""
    found = []
    lineage = Lineage(shared)
    for node in built.nodes:
        now, before = private.relations.get(node.unique_id), shared.relations.get(node.unique_id)
        if now is None or before is None or node.status != "success":
            continue
        columns = await relation_columns(warehouse, now.schema, now.identifier)
        held = await relation_columns(warehouse, before.schema, before.identifier)
        found += [
            RemovedColumn(before.name, column, _readers(shared, private, lineage, before.unique_id, column))
            for column in held
            if column not in columns
        ]
    return tuple(found)


def _readers(shared: Manifest, private: Manifest, lineage: Lineage, unique_id: str, column: str) -> tuple[str, ...]:
    """Computed from it, in the shared build; models that the project no longer has do not count."""
    return tuple(
        sorted(
            f"{relation.name}.{name}"
            for relation in shared.relations.values()
            if unique_id in relation.parents and relation.unique_id in private.relations
            for name, parents in lineage.columns(relation.unique_id).items()
            if (unique_id, column) in parents
        )
    )


def duplicates(built: Invocation, manifest: Manifest, folder: Path) -> tuple[Duplicates, ...]:
    """The models whose key repeats, by a test of the key or because a unique index was refused.

    The query of each is written into `folder`: over the table, or over the model's SQL if the table was not built.
    """
    found = {}
    for node in built.nodes:
        test = manifest.tests.get(node.unique_id)
        if test is not None and node.status == "fail" and (test.get("test_metadata") or {}).get("name") in _KEY_TESTS:
            relation = manifest.relations.get(str(test.get("attached_node")))
            key = _tested(test)
            if relation is not None and key:
                found[relation.unique_id] = _write(
                    relation, key, qualified(relation.schema, relation.identifier), folder
                )
        elif node.status == "error" and _DUPLICATE.search(node.message):
            relation = manifest.relations.get(node.unique_id)
            if relation is not None and relation.key and node.compiled:
                found[relation.unique_id] = _write(relation, relation.key, f"(\n{node.compiled}\n)", folder)
    return tuple(found.values())


_KEY_TESTS = frozenset({"keys_hold", "unique"})


def _tested(test: Mapping[str, object]) -> tuple[str, ...]:
    metadata = test.get("test_metadata")
    arguments = metadata.get("kwargs") if isinstance(metadata, Mapping) else None
    columns = arguments.get("columns") if isinstance(arguments, Mapping) else None
    if isinstance(columns, list):
        return tuple(str(column) for column in columns)
    return (str(test["column_name"]),) if test.get("column_name") else ()


def _write(relation: Relation, key: tuple[str, ...], rows: str, folder: Path) -> Duplicates:
    columns = ", ".join(quote_identifier(column) for column in key)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{relation.name}.sql"
    file.write_text(
        f"-- Keys of {relation.name} that several rows have, or none.\n"
        f"select {columns}, count(*) as row_count\nfrom {rows} as model_rows\n"
        f"group by {columns}\nhaving count(*) > 1 or ({columns}) is null\norder by row_count desc\nlimit 100;\n",
        encoding="utf-8",
    )
    return Duplicates(relation.name, key, file)
