"""The nodes of the project, each with the fingerprint of everything in the code that decides its result.

A fingerprint covers the node's own code and configuration, the macros that it calls, also indirectly, the variables and
environment variables that any of these name, a seed's file, and what acts on every node: materializations, hooks of the
project, overridden macros, versions of dbt. What cannot be attributed to one node counts for all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from flows.models.selective.macros import Macros, Values, texts_of
from flows.models.selective.volatile import (
    called_functions,
    converts_zones,
    named_relations,
    reads_catalog,
    reads_clock,
)

Clock = Literal["", "each_day", "always"]

_KINDS = frozenset({"model", "seed", "snapshot", "test"})
#: In `meta` of a node: how its result depends on the clock. `stamp`: only a column says when the row was written.
CLOCK_META = "reads_clock"
#: In `meta` of a node or macro: relations, as schema.name, that it reads without `ref` or `source`. An empty list says
#: that it asks the catalog only about itself and its declared inputs.
INPUTS_META = "also_reads"
#: In `meta` of a node: models that are built and tested before it, whose rows it does not read.
AFTER_META = "only_after"
_CLOCK_WORDS: Mapping[str, Clock] = {"stamp": "", "each_day": "each_day", "always": "always"}
_CONFIG_LEFT_OUT = frozenset({"docs", "group", "access"})


@dataclass(frozen=True, slots=True)
class Node:
    """A model, seed, snapshot or data test.

    `inputs` are the ids of its parents; sources and relations named in `meta` are in `relations` of the project.
    `clock` tells when it is built although nothing has changed; `unsure` why it is always built. `declared` are the
    keys of `meta` by which it says itself what it depends on, `calls` the names of functions in its code.
    """

    unique_id: str
    kind: str
    name: str
    fqn: tuple[str, ...]
    materialized: str
    schema: str
    identifier: str
    inputs: tuple[str, ...]
    fingerprint: str
    clock: Clock = ""
    unsure: str = ""
    asks_catalog: bool = False
    declared: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    converts_zones: bool = False

    @property
    def is_view(self) -> bool:
        """Whether it contains no rows of its own, so that new rows of its inputs reach readers without a build."""
        return self.kind == "model" and self.materialized in {"view", "ephemeral"}

    @property
    def has_relation(self) -> bool:
        """Whether a build leaves a relation in the warehouse."""
        return self.kind != "test" and self.materialized != "ephemeral"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Node:
        """From JSON."""
        values: dict[str, Any] = {key: tuple(it) if isinstance(it, list) else it for key, it in plain.items()}
        return cls(**values)


@dataclass(frozen=True)
class Project:
    """All nodes in the order in which dbt may build them, and the relations that they read without building them."""

    nodes: Mapping[str, Node]
    relations: Mapping[str, tuple[str, str]]

    def direct_inputs(self, unique_id: str) -> list[str]:
        """What the node reads from the warehouse: ephemeral models are part of its own statement."""
        found: list[str] = []
        for name in self.nodes[unique_id].inputs:
            node = self.nodes.get(name)
            found += self.direct_inputs(name) if node is not None and node.materialized == "ephemeral" else [name]
        return found

    @cached_property
    def schemas(self) -> frozenset[str]:
        """Schemas of what the project builds and reads."""
        return frozenset([node.schema for node in self.nodes.values()] + [each[0] for each in self.relations.values()])

    def undeclared(self, unique_id: str, compiled: str) -> list[str]:
        """What compiled code depends on and its node does not say: relations, as `relation.schema.name`, and the clock.

        Here names are found that were computed while dbt rendered the code.
        """
        node = self.nodes[unique_id]
        known = {(node.schema, node.identifier)}
        for name in self.direct_inputs(unique_id):
            parent = self.nodes.get(name)
            known.add(self.relations[name] if parent is None else (parent.schema, parent.identifier))
        declared = {".".join(each) for each in known}
        found = [f"relation.{name}" for name in named_relations(compiled, self.schemas) if name not in declared]
        is_clock = not node.clock and CLOCK_META not in node.declared and reads_clock(compiled)
        return [*found, "the clock"] if is_clock else found


def read_project(manifest: Mapping[str, Any], root: Path, values: Values, settings: Any) -> Project:
    """The project from dbt's manifest (parsed; compiled code is not needed).

    `root` is the project's folder, `settings` what else decides the result of every node: versions, dbt_project.yml.
    """
    return _Reader(manifest, root, values, settings).project()


@dataclass(frozen=True)
class _Reader:
    manifest: Mapping[str, Any] = field(repr=False)
    root: Path
    values: Values
    settings: Any

    def project(self) -> Project:
        nodes: dict[str, Node] = {}
        relations = {
            unique_id: (source["schema"], source["identifier"])
            for unique_id, source in self.manifest["sources"].items()
        }
        for unique_id in self._ordered():
            raw = self.manifest["nodes"][unique_id]
            node, named = self._node(raw)
            relations |= {f"relation.{name}": tuple(name.split(".", 1)) for name in named}  # type: ignore[misc]
            nodes[unique_id] = node
        return Project(nodes, relations)

    def _ordered(self) -> list[str]:
        """Parents first."""
        left = {key: node for key, node in self.manifest["nodes"].items() if node["resource_type"] in _KINDS}
        ordered: list[str] = []
        placed: set[str] = set()

        def place(unique_id: str) -> None:
            if unique_id in placed or unique_id not in left:
                return
            placed.add(unique_id)
            for parent in left[unique_id].get("depends_on", {}).get("nodes", ()):
                place(parent)
            ordered.append(unique_id)

        for unique_id in sorted(left):
            place(unique_id)
        return ordered

    def _node(self, raw: Mapping[str, Any]) -> tuple[Node, list[str]]:
        config = raw.get("config") or {}
        meta = config.get("meta") or {}
        called = sorted(self._macros.called(raw))
        own = texts_of(raw)
        texts = [*own, *(self._macros.text(name) for name in called)]
        deciding = sorted(self._macros.deciding(raw))
        of_rows = [*own, *(self._macros.text(name) for name in deciding)]
        catalog = any(reads_catalog(text) for text in own) or any(self._asks_freely(name) for name in deciding)
        also = list(meta.get(INPUTS_META) or ())
        after = set(meta.get(AFTER_META) or ())
        parents = tuple(
            name for name in (raw.get("depends_on") or {}).get("nodes", ()) if name.split(".")[2] not in after
        )
        node = Node(
            unique_id=raw["unique_id"],
            kind=raw["resource_type"],
            name=f"{raw['name']}.v{raw['version']}" if raw.get("version") else raw["name"],
            fqn=tuple(raw["fqn"]),
            materialized=config.get("materialized") or raw["resource_type"],
            schema=raw["schema"],
            identifier=raw.get("alias") or raw["name"],
            inputs=(*parents, *(f"relation.{name}" for name in also)),
            fingerprint=self._fingerprint(raw, texts),
            clock=self._clock(meta, of_rows),
            unsure=self._unsure(meta, of_rows, asks=catalog),
            asks_catalog=catalog,
            declared=tuple(key for key in (CLOCK_META, INPUTS_META) if key in meta),
            converts_zones=any(converts_zones(text) for text in of_rows),
            calls=() if INPUTS_META in meta else called_functions(of_rows),
        )
        return node, also

    def _unsure(self, meta: Mapping[str, Any], texts: Iterable[str], *, asks: bool) -> str:
        if asks and INPUTS_META not in meta:
            return f"asks the catalog, and its meta does not say what it {INPUTS_META}"
        named = {name for text in texts for name in named_relations(text, self._schemas)}
        strange = sorted(named - set(meta.get(INPUTS_META) or ()))
        return f"names {strange[0]} without ref or source" if strange else ""

    @cached_property
    def _schemas(self) -> frozenset[str]:
        """Schemas of what the project builds and reads."""
        return frozenset(each["schema"] for kind in ("nodes", "sources") for each in self.manifest[kind].values())

    def _clock(self, meta: Mapping[str, Any], texts: Iterable[str]) -> Clock:
        declared = meta.get(CLOCK_META)
        if declared is not None:
            return _CLOCK_WORDS.get(str(declared), "always")
        return "always" if any(reads_clock(text) for text in texts) else ""

    def _asks_freely(self, macro: str) -> bool:
        """Whether a macro asks the catalog, and does not say that it asks only about the node that calls it."""
        return reads_catalog(self._macros.text(macro)) and INPUTS_META not in self._macros.meta(macro)

    def _fingerprint(self, raw: Mapping[str, Any], texts: list[str]) -> str:
        config = {key: value for key, value in (raw.get("config") or {}).items() if key not in _CONFIG_LEFT_OUT}
        columns = {
            name: [column.get("data_type"), column.get("constraints"), column.get("quote")]
            for name, column in (raw.get("columns") or {}).items()
        }
        told = [
            self._of_all, config, columns, raw.get("constraints"), raw.get("contract"), texts, raw["schema"],
            raw.get("alias"), (raw.get("depends_on") or {}).get("nodes"), raw.get("test_metadata"),
            self.values.named(texts),
        ]  # fmt: skip
        if config.get("persist_docs"):
            told.append([raw.get("description"), {n: c.get("description") for n, c in raw["columns"].items()}])
        if raw["resource_type"] == "seed":
            # dbt's own checksum is that of the path for files over 1 MB.
            told.append(hashlib.sha256((self.root / raw["original_file_path"]).read_bytes()).hexdigest())
        return _digest(told)

    @cached_property
    def _macros(self) -> Macros:
        return Macros(self.manifest)

    @cached_property
    def _of_all(self) -> str:
        """What decides the result of every node."""
        of_macros = [[name, self._macros.text(name)] for name in self._macros.of_all]
        hooks = sorted(
            node["raw_code"] for node in self.manifest["nodes"].values() if node["resource_type"] == "operation"
        )
        return _digest([self.settings, of_macros, hooks, self.values.named([*(text for _, text in of_macros), *hooks])])


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]
