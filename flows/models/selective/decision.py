"""What a build has to build: nodes whose code, inputs or relation changed since they were last built, and what follows.

Anything unsure is built. A view has no rows of its own: new rows of its inputs pass through it to what reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flows.models.selective.nodes import Node, Project
from flows.models.selective.positions import Name, Position

_DAY = "the day"
_MISSING = "missing"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Built:
    """How a node was last built: by which run and code, what its inputs were when that build began, and its relation
    after it. `is_good` is False from the moment a build selects the node until that build has finished it."""

    run_id: int | None
    is_good: bool
    fingerprint: str
    inputs: Mapping[str, str]
    relation: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the warehouse looks like before a build.

    `inputs` are the positions of relations that models only read, `relations` those of what they built; missing ones
    are absent. `today` is the database's date.
    """

    inputs: Mapping[Name, Position]
    relations: Mapping[Name, Position]
    today: str


@dataclass(frozen=True)
class Decision:
    """`reasons` of what is to be built, by node, in the order of the build. Whatever is absent is up to date."""

    project: Project
    built: Mapping[str, Built]
    seen: Seen
    reasons: Mapping[str, str]

    @property
    def selection(self) -> list[str] | None:
        """dbt's selectors of what is to be built; None for everything, empty for nothing."""
        if all(node.unique_id in self.reasons for node in self.project.nodes.values() if _is_built(node)):
            return None
        return [f"fqn:{'.'.join(self.project.nodes[unique_id].fqn)}" for unique_id in self.reasons]

    def inputs_after(self, unique_id: str, run_id: int, done: Collection[str]) -> dict[str, str]:
        """The positions of a node's inputs, of which the run has built those in `done`."""
        return _Inputs(self.project, self.built, self.seen, dict.fromkeys(done, str(run_id))).of(unique_id)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Models to be built, and models in total: with seeds and snapshots, without tests and ephemeral models."""
        models = [node for node in self.project.nodes.values() if node.has_relation]
        return sum(node.unique_id in self.reasons for node in models), len(models)


def decide(project: Project, built: Mapping[str, Built], seen: Seen, everything: str = "") -> Decision:
    """Decide what to build. `everything` is the reason to build all of it, if there is one."""
    reasons: dict[str, str] = {}
    replaced: dict[str, str] = {}
    inputs = _Inputs(project, built, seen, replaced)
    for unique_id, node in project.nodes.items():
        if not _is_built(node):
            continue
        reason = everything or _Reason(project, built, seen, reasons, inputs).of(node)
        if reason:
            reasons[unique_id] = reason
            replaced[unique_id] = "this build"
    return Decision(project, built, seen, reasons)


def _is_built(node: Node) -> bool:
    return node.materialized != "ephemeral"


@dataclass(frozen=True)
class _Inputs:
    """Positions of inputs: of others' relations as seen, of nodes the run that built them, of views what they read."""

    project: Project
    built: Mapping[str, Built]
    seen: Seen
    replaced: Mapping[str, str] = field(default_factory=dict)

    def of(self, unique_id: str) -> dict[str, str]:
        node = self.project.nodes[unique_id]
        found = {name: self.position(name) for name in node.inputs}
        return found | {_DAY: self.seen.today} if node.clock == "each_day" else found

    def position(self, name: str) -> str:
        """`unknown` equals nothing, not even itself."""
        if name in self.project.relations:
            seen = self.seen.inputs.get(self.project.relations[name])
            return _MISSING if seen is None else seen.text or _UNKNOWN
        node = self.project.nodes.get(name)
        if node is None:
            return _UNKNOWN
        if node.is_view:
            read = self.of(name)
            if _UNKNOWN in read.values():
                return _UNKNOWN
            text = "\0".join([node.fingerprint, *(f"{key}={read[key]}" for key in sorted(read))])
            return hashlib.sha256(text.encode()).hexdigest()[:32]
        if name in self.replaced:
            return self.replaced[name]
        built = self.built.get(name)
        return _UNKNOWN if built is None or not built.is_good else str(built.run_id)


@dataclass(frozen=True)
class _Reason:
    project: Project
    built: Mapping[str, Built]
    seen: Seen
    reasons: Mapping[str, str]
    inputs: _Inputs

    def of(self, node: Node) -> str:
        """Why the node is to be built; empty if it is up to date."""
        built = self.built.get(node.unique_id)
        if built is None:
            return "it was never built"
        if not built.is_good:
            return "it failed last time" if node.kind == "test" else "the last build of it did not finish"
        if built.fingerprint != node.fingerprint:
            return "its code, configuration or variables changed"
        return self._of_relation(node, built) or self._of_meta(node, built) or self._of_inputs(node, built)

    def _of_relation(self, node: Node, built: Built) -> str:
        if not node.has_relation:
            return ""
        position = self.seen.relations.get((node.schema, node.identifier))
        if position is None:
            return "its relation is missing"
        return "" if position.text == built.relation else "its relation was changed since"

    def _of_meta(self, node: Node, built: Built) -> str:
        if node.unsure:
            return node.unsure
        if node.clock == "always":
            return "it reads the clock"
        if node.clock == "each_day" and built.inputs.get(_DAY) != self.seen.today:
            return "another day has begun"
        return ""

    def _of_inputs(self, node: Node, built: Built) -> str:
        for name in node.inputs:
            if name in self.reasons:
                return f"{_short(name)} is built"
        if set(built.inputs) - {_DAY} != set(node.inputs):
            return "it has other inputs"
        for name in node.inputs:
            now, before = self.inputs.position(name), built.inputs[name]
            if self._is_read_through(node, name):
                continue
            if self._passes_rows_on(node, name):
                now, before = now.partition("|")[0], before.partition("|")[0]
            if now == _UNKNOWN or now != before:
                return f"{_short(name)} has changed"
        return ""

    def _passes_rows_on(self, node: Node, name: str) -> bool:
        """Whether new rows of this input need no build of the node: a view reads them when it is read."""
        return node.is_view and not node.asks_catalog and name in self.project.relations

    def _is_read_through(self, node: Node, name: str) -> bool:
        """Whether a view reads a view that is not built again: only the rows below them may have changed."""
        parent = self.project.nodes.get(name)
        return node.is_view and not node.asks_catalog and parent is not None and parent.materialized == "view"


def _short(name: str) -> str:
    """`source.medallion.shop.baskets` → `shop.baskets`, `model.medallion.basket` → `basket`."""
    return (
        name.split(".", 2)[2] if name.startswith(("source.", "model.", "seed.", "snapshot.")) else name.split(".", 1)[1]
    )


def by_reason(reasons: Mapping[str, str], project: Project, limit: int = 5) -> Sequence[str]:
    """The first causes in words, for people: nodes that are built because of themselves, not of another node."""
    causes: dict[str, list[str]] = {}
    for unique_id, reason in reasons.items():
        if not reason.endswith(" is built"):
            causes.setdefault(reason, []).append(project.nodes[unique_id].name)
    lines = []
    for reason, names in causes.items():
        more = f" and {len(names) - limit} more" if len(names) > limit else ""
        lines.append(f"{', '.join(names[:limit])}{more}: {reason}")
    return lines
