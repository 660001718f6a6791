"""dbt's manifest: nodes, their parents, columns and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_RELATIONS = frozenset({"model", "seed", "snapshot", "source"})
PERSONAL = "personal"
_COMPILED = ("compiled", "compiled_code", "compiled_path", "extra_ctes", "extra_ctes_injected")


@dataclass(frozen=True, slots=True)
class Relation:
    """A model, seed, snapshot or source.

    `layer` is the folder under models, or the resource type of other nodes. `key` has the key columns, if the project
    declares them. `personal` are the columns tagged personal. `compiled` is empty until dbt compiled it. `meta` is as
    declared.
    """

    unique_id: str
    name: str
    kind: str
    layer: str
    schema: str
    identifier: str
    database: str
    description: str
    materialized: str
    checksum: str
    path: str
    parents: tuple[str, ...]
    columns: Mapping[str, Mapping[str, Any]] = field(repr=False)
    key: tuple[str, ...]
    personal: frozenset[str]
    compiled: str = field(repr=False)
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def address(self) -> str:
        """`gold.dim_store`."""
        return f"{self.schema}.{self.identifier}"


@dataclass(frozen=True)
class Manifest:
    """One manifest.json."""

    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, text: bytes | str) -> Manifest:
        """From the text of a manifest.json."""
        return cls(json.loads(text))

    @cached_property
    def relations(self) -> dict[str, Relation]:
        """Everything with rows, by unique id."""
        keys = self._keys()
        entries = {**self.content["nodes"], **self.content["sources"]}
        return {
            unique_id: _relation(node, keys.get(unique_id, ()))
            for unique_id, node in entries.items()
            if node["resource_type"] in _RELATIONS
        }

    @cached_property
    def tests(self) -> dict[str, Mapping[str, Any]]:
        """Data tests and unit tests, by unique id."""
        data = {key: node for key, node in self.content["nodes"].items() if node["resource_type"] == "test"}
        return {**data, **self.content.get("unit_tests", {})}

    def ancestors(self, unique_id: str) -> Iterator[Relation]:
        """All ancestors, nearest first, each once."""
        seen, waiting = {unique_id}, list(self.relations[unique_id].parents)
        while waiting:
            parent = waiting.pop(0)
            if parent in seen or parent not in self.relations:
                continue
            seen.add(parent)
            waiting += self.relations[parent].parents
            yield self.relations[parent]

    def _keys(self) -> dict[str, tuple[str, ...]]:
        """The keys declared by tests and constraints, by unique id of the relation."""
        found: dict[str, tuple[str, ...]] = {}
        for unique_id, node in self.content["nodes"].items():
            if node["resource_type"] == "test":
                metadata = node.get("test_metadata") or {}
                tested = node.get("attached_node")
                arguments = metadata.get("kwargs") or {}
                if metadata.get("name") == "keys_hold" and tested:
                    found[tested] = tuple(arguments.get("columns") or ())
                elif metadata.get("name") == "unique" and tested and node.get("column_name"):
                    found.setdefault(tested, (node["column_name"],))
                continue
            primary = tuple(
                name
                for name, column in (node.get("columns") or {}).items()
                if any(constraint["type"] == "primary_key" for constraint in column.get("constraints") or [])
            )
            whole = next((c["columns"] for c in node.get("constraints") or [] if c["type"] == "primary_key"), ())
            configured = node["config"].get("unique_key") if node["resource_type"] in {"model", "snapshot"} else None
            if node["resource_type"] == "snapshot" and configured:
                # One row per version: the entity's key alone is not unique.
                configured = [*([configured] if isinstance(configured, str) else configured), "dbt_valid_from"]
            if primary or whole:
                found[unique_id] = primary or tuple(whole)
            elif index := next((i for i in node["config"].get("indexes") or [] if i.get("unique")), None):
                found.setdefault(unique_id, tuple(index["columns"]))
            elif configured:
                found.setdefault(unique_id, (configured,) if isinstance(configured, str) else tuple(configured))
        return {unique_id: key for unique_id, key in found.items() if key}


def with_compiled(manifest: bytes, former: bytes) -> bytes:
    """The manifest of a build of some nodes, with the compiled code of the others from an earlier build's manifest.

    dbt compiles what it builds only. Nodes whose source has changed since keep none.
    """
    content, before = json.loads(manifest), json.loads(former)["nodes"]
    for unique_id, node in content["nodes"].items():
        earlier = before.get(unique_id) or {}
        if not node.get("compiled") and earlier.get("compiled") and earlier["checksum"] == node["checksum"]:
            node |= {name: earlier[name] for name in _COMPILED if name in earlier}
    return json.dumps(content).encode()


def _relation(node: Mapping[str, Any], key: tuple[str, ...]) -> Relation:
    kind = node["resource_type"]
    folders = node.get("fqn") or []
    return Relation(
        unique_id=node["unique_id"],
        # Versions of one model share its name: `dim_store.v2`.
        name=f"{node['name']}.v{node['version']}" if node.get("version") else node["name"],
        kind=kind,
        layer=folders[1] if kind == "model" and len(folders) > 2 else kind,
        schema=node["schema"],
        identifier=node.get("alias") or node.get("identifier") or node["name"],
        database=node.get("database") or "",
        description=node.get("description") or "",
        materialized=(node.get("config") or {}).get("materialized") or kind,
        checksum=(node.get("checksum") or {}).get("checksum") or "",
        path=node.get("original_file_path") or "",
        parents=tuple((node.get("depends_on") or {}).get("nodes") or ()),
        columns=node.get("columns") or {},
        key=key,
        personal=frozenset(name for name, column in (node.get("columns") or {}).items() if PERSONAL in _tags(column)),
        compiled=node.get("compiled_code") or "",
        meta=(node.get("config") or {}).get("meta") or node.get("meta") or {},
    )


def _tags(column: Mapping[str, Any]) -> list[str]:
    tags = (column.get("config") or {}).get("tags") or column.get("tags") or []
    return [tags] if isinstance(tags, str) else list(tags)
