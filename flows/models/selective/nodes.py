"""The nodes of the project, each with the fingerprint of everything in the code that decides its result.

A fingerprint covers the node's own code and configuration, the macros that it calls, also indirectly, the variables and
environment variables that any of these name, a seed's file, and what acts on every node: materializations, hooks of the
project, overridden macros, versions of dbt. What cannot be attributed to one node counts for all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from flows.models.selective.volatile import named_relations, reads_catalog, reads_clock

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
_VAR = re.compile(r"\bvar\s*\(\s*(?:['\"](\w+)['\"]|(.))")
_ENV_VAR = re.compile(r"\benv_var\s*\(\s*(?:['\"](\w+)['\"]|(.))")
# Macros found by a name that is computed, or by dbt itself.
_DYNAMIC = re.compile(r"\bcontext\s*(?:\[|\.get\b)|\bmodel_macros\b")
_DISPATCHED = re.compile(r"^(?:default|postgres)__")
_CONFIG_LEFT_OUT = frozenset({"docs", "group", "access"})


@dataclass(frozen=True, slots=True)
class Node:
    """A model, seed, snapshot or data test.

    `inputs` are the ids of its parents; sources and relations named in `meta` are in `relations` of the project.
    `clock` tells when it is built although nothing has changed; `unsure` why it is always built.
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
        return cls(**{**plain, "fqn": tuple(plain["fqn"]), "inputs": tuple(plain["inputs"])})


@dataclass(frozen=True, slots=True)
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


def read_project(
    manifest: Mapping[str, Any], root: Path, variables: Mapping[str, Any], environment: Mapping[str, str], versions: str
) -> Project:
    """The project from dbt's manifest (parsed; compiled code is not needed).

    `root` is the project's folder, `variables` those of dbt_project.yml, `environment` what Jinja sees, `versions` of
    dbt and its adapter.
    """
    return _Reader(manifest, root, variables, environment, versions).project()


@dataclass(frozen=True)
class _Reader:
    manifest: Mapping[str, Any] = field(repr=False)
    root: Path
    variables: Mapping[str, Any]
    environment: Mapping[str, str]
    versions: str

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
        config, code = raw.get("config") or {}, raw.get("raw_code") or ""
        meta = config.get("meta") or {}
        called = self._closure((raw.get("depends_on") or {}).get("macros", ()))
        texts = [code, *(self._macros[name]["macro_sql"] for name in sorted(called))]
        asked = [name for name in called if self._asks_freely(name)]
        catalog = reads_catalog(code) or bool(asked)
        also = list(meta.get(INPUTS_META) or ())
        unsure = ""
        if catalog and INPUTS_META not in meta:
            unsure = f"asks the catalog, and its meta does not say what it {INPUTS_META}"
        elif strange := sorted(set(named_relations(code)) - set(also)):
            unsure = f"names {strange[0]} without ref or source"
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
            clock=self._clock(meta, texts),
            unsure=unsure,
            asks_catalog=catalog,
        )
        return node, also

    def _clock(self, meta: Mapping[str, Any], texts: Iterable[str]) -> Clock:
        declared = meta.get(CLOCK_META)
        if declared is not None:
            return _CLOCK_WORDS.get(str(declared), "always")
        return "always" if any(reads_clock(text) for text in texts) else ""

    def _asks_freely(self, macro: str) -> bool:
        """Whether a macro asks the catalog, and does not say that it asks only about the node that calls it."""
        meta = (self._macros[macro].get("config") or {}).get("meta") or self._macros[macro].get("meta") or {}
        return reads_catalog(self._macros[macro]["macro_sql"]) and INPUTS_META not in meta

    def _fingerprint(self, raw: Mapping[str, Any], texts: list[str]) -> str:
        config = {key: value for key, value in (raw.get("config") or {}).items() if key not in _CONFIG_LEFT_OUT}
        columns = {
            name: [column.get("data_type"), column.get("constraints"), column.get("quote")]
            for name, column in (raw.get("columns") or {}).items()
        }
        told = [
            self._of_all, config, columns, raw.get("constraints"), raw.get("contract"), texts, raw["schema"],
            raw.get("alias"), (raw.get("depends_on") or {}).get("nodes"), raw.get("test_metadata"), self._named(texts),
        ]  # fmt: skip
        if config.get("persist_docs"):
            told.append([raw.get("description"), {n: c.get("description") for n, c in raw["columns"].items()}])
        if raw["resource_type"] == "seed":
            # dbt's own checksum is that of the path for files over 1 MB.
            told.append(hashlib.sha256((self.root / raw["original_file_path"]).read_bytes()).hexdigest())
        return _digest(told)

    def _named(self, texts: Iterable[str]) -> list[Any]:
        """The variables and environment variables that these texts name, with their values; all if one is computed."""
        text = "\n".join(texts)
        found = []
        for pattern, values in ((_VAR, self.variables), (_ENV_VAR, self.environment)):
            names = {match[1] for match in pattern.finditer(text) if match[1]}
            if any(match[2] for match in pattern.finditer(text)):
                names = set(values)
            found.append({name: values.get(name) for name in sorted(names)})
        return found

    @cached_property
    def _macros(self) -> Mapping[str, Mapping[str, Any]]:
        """Macros of the project and its packages; those of dbt itself are covered by its version."""
        return {
            name: macro
            for name, macro in self.manifest["macros"].items()
            if macro["package_name"] not in {"dbt", "dbt_postgres"}
        }

    def _closure(self, macros: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = [name for name in macros if name in self._macros]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            called = (self._macros[name].get("depends_on") or {}).get("macros", ())
            waiting += [one for one in called if one in self._macros]
        return found

    @cached_property
    def _of_all(self) -> str:
        """What decides the result of every node."""
        of_nodes = self._closure(
            name
            for node in (*self.manifest["nodes"].values(), *self.manifest.get("unit_tests", {}).values())
            if node["resource_type"] != "operation"
            for name in (node.get("depends_on") or {}).get("macros", ())
        )
        texts = [macro["macro_sql"] for macro in self._macros.values()]
        codes = [node.get("raw_code") or "" for node in self.manifest["nodes"].values()]
        if any(_DYNAMIC.search(text) for text in (*texts, *codes)):
            of_nodes = set()
        own = {macro["name"] for name, macro in self.manifest["macros"].items() if name not in self._macros}
        roots = [
            name
            for name, macro in self._macros.items()
            if name not in of_nodes or macro["name"] in own or _DISPATCHED.match(macro["name"])
        ]
        names = sorted(self._closure(roots))
        hooks = sorted(
            node["raw_code"] for node in self.manifest["nodes"].values() if node["resource_type"] == "operation"
        )
        of_macros = [[name, self._macros[name]["macro_sql"]] for name in names]
        return _digest([self.versions, of_macros, hooks, self._named([text for _, text in of_macros] + hooks)])


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]
