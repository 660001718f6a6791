"""What a build has to build: nodes whose code, inputs or relation changed since they were last built, and what follows.

Anything unsure is built. A view has no rows of its own: new rows of its inputs pass through it to what reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from flows.models.selective.nodes import Node, Project
from flows.models.selective.positions import Name, Position
from flows.models.selective.surroundings import Surroundings

_DAY = "the day"
_WAREHOUSE = "the warehouse"
_NOT_NODES = frozenset({_DAY, _WAREHOUSE})
_MISSING = "missing"
#: A position that equals nothing.
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Built:
    """How a node was last built: by which code, what its inputs were when that build began, and its relation after it.

    `position` differs once a build has changed the node's rows. `is_good` is False from the moment a build selects the
    node until that build has finished it.
    """

    is_good: bool
    fingerprint: str
    inputs: Mapping[str, str]
    relation: str
    position: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the warehouse looks like before a build.

    `inputs` are the positions of relations that models only read, `relations` those of what they built; missing ones
    are absent.
    """

    inputs: Mapping[Name, Position]
    relations: Mapping[Name, Position]
    around: Surroundings


@dataclass(frozen=True)
class Decision:
    """`reasons` of what is to be built, by node, in the order of the build. Whatever is absent is up to date.

    `derived` are those that are built only because an input is: if that leaves the input's rows as they were, they need
    not be built after all.
    """

    project: Project
    built: Mapping[str, Built]
    seen: Seen
    reasons: Mapping[str, str]
    derived: frozenset[str] = frozenset()

    @property
    def selection(self) -> list[str] | None:
        """dbt's selectors of what is to be built; None for everything, empty for nothing."""
        if all(node.unique_id in self.reasons for node in self.project.nodes.values() if _is_built(node)):
            return None
        return [f"fqn:{'.'.join(self.project.nodes[unique_id].fqn)}" for unique_id in self.reasons]

    def inputs_after(self, unique_id: str, positions: Mapping[str, str], left: Collection[str] = ()) -> dict[str, str]:
        """The positions of a node's inputs, given those of the nodes that were built since, and what was left."""
        stale = self.reasons.keys() - positions.keys() - set(left)
        return _Inputs(self.project, self.built, self.seen, positions, stale).of(unique_id)

    def is_unneeded(self, unique_id: str, positions: Mapping[str, str], left: Collection[str] = ()) -> bool:
        """Whether a selected node need not be built after all, given what was built and left of those before it."""
        if unique_id not in self.derived:
            return False
        node = self.project.nodes[unique_id]
        if node.is_view:  # replacing a relation drops the views on it
            return not any(name in positions for name in self.project.direct_inputs(unique_id))
        now = self.inputs_after(unique_id, positions, left)
        return UNKNOWN not in now.values() and now == dict(self.built[unique_id].inputs)

    def is_intact(self, unique_id: str) -> bool:
        """Whether a relation holds what the last build left in it, so that a comparison with it proves something."""
        node, built = self.project.nodes[unique_id], self.built.get(unique_id)
        if built is None or not built.is_good or not node.has_relation or node.is_view:
            return False
        position = self.seen.relations.get((node.schema, node.identifier))
        return position is not None and position.text == built.relation

    def counts(self, left: Collection[str] = ()) -> tuple[int, int]:
        """Models that are built, and models in total: with seeds and snapshots, without tests and ephemeral models."""
        models = [node.unique_id for node in self.project.nodes.values() if node.has_relation]
        return sum(name in self.reasons and name not in left for name in models), len(models)


def decide(project: Project, built: Mapping[str, Built], seen: Seen, everything: str = "") -> Decision:
    """Decide what to build. `everything` is the reason to build all of it, if there is one."""
    reasons: dict[str, str] = {}
    derived = set()
    cause = _Reason(project, built, seen, _Inputs(project, built, seen))
    for unique_id, node in project.nodes.items():
        if not _is_built(node):
            continue
        reason = everything or cause.of(node)
        if not reason:
            parent = next((name for name in project.direct_inputs(unique_id) if name in reasons), None)
            if parent is not None:
                reason = f"{_short(parent)} is built"
                derived.add(unique_id)
        if reason:
            reasons[unique_id] = reason
    return Decision(project, built, seen, reasons, frozenset(derived))


def _is_built(node: Node) -> bool:
    return node.materialized != "ephemeral"


@dataclass(frozen=True)
class _Inputs:
    """Positions of inputs: of others' relations as seen, of nodes the run that built them, of views what they read.

    `stale` are nodes that were due and not built: what the views among them read is not what their code says.
    """

    project: Project
    built: Mapping[str, Built]
    seen: Seen
    positions: Mapping[str, str] = field(default_factory=dict)
    stale: Collection[str] = ()

    def of(self, unique_id: str) -> dict[str, str]:
        node = self.project.nodes[unique_id]
        found = {name: self.position(name) for name in node.inputs} | {_WAREHOUSE: self.seen.around.fingerprint}
        return found | {_DAY: _day(node, self.seen)} if node.clock == "each_day" else found

    def position(self, name: str) -> str:
        """`unknown` equals nothing, not even itself."""
        if name in self.project.relations:
            seen = self.seen.inputs.get(self.project.relations[name])
            return _MISSING if seen is None else seen.text or UNKNOWN
        node = self.project.nodes.get(name)
        if node is None:
            return UNKNOWN
        if node.is_view:
            if _changes_by_itself(node, self.seen) or (name in self.stale and node.materialized == "view"):
                return UNKNOWN
            read = self.of(name)
            if UNKNOWN in read.values():
                return UNKNOWN
            text = "\0".join([node.fingerprint, *(f"{key}={read[key]}" for key in sorted(read))])
            return hashlib.sha256(text.encode()).hexdigest()[:32]
        if name in self.positions:
            return self.positions[name]
        built = self.built.get(name)
        return UNKNOWN if built is None or not built.is_good else built.position


@dataclass(frozen=True)
class _Reason:
    project: Project
    built: Mapping[str, Built]
    seen: Seen
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
        if reason := _changes_by_itself(node, self.seen):
            return reason
        if node.clock == "each_day" and built.inputs.get(_DAY) != _day(node, self.seen):
            return "another day has begun"
        if built.inputs.get(_WAREHOUSE) != self.seen.around.fingerprint:
            return "functions, settings or the version of the warehouse changed"
        return ""

    def _of_inputs(self, node: Node, built: Built) -> str:
        for name in built.inputs.keys() - set(node.inputs):
            if built.inputs[name] == UNKNOWN:
                return f"its compiled code reads {_short(name)}, and its meta does not say so"
        if set(built.inputs) - _NOT_NODES != set(node.inputs):
            return "it has other inputs"
        for name in node.inputs:
            now, before = self.inputs.position(name), built.inputs[name]
            if self._is_read_through(node, name):
                continue
            if self._passes_rows_on(node, name):
                now, before = now.partition("|")[0], before.partition("|")[0]
            if now == UNKNOWN or now != before:
                return f"{_short(name)} has changed"
        return ""

    def _passes_rows_on(self, node: Node, name: str) -> bool:
        """Whether new rows of this input need no build of the node: a view reads them when it is read."""
        return node.is_view and not node.asks_catalog and name in self.project.relations

    def _is_read_through(self, node: Node, name: str) -> bool:
        """Whether a view reads a view that is not built again: only the rows below them may have changed."""
        parent = self.project.nodes.get(name)
        return node.is_view and not node.asks_catalog and parent is not None and parent.materialized == "view"


def _changes_by_itself(node: Node, seen: Seen) -> str:
    """Why the node's result may differ though nothing that is known of it does; empty if that is not so."""
    if node.unsure:
        return node.unsure
    if node.clock == "always":
        return "it reads the clock"
    called = sorted(seen.around.functions.intersection(node.calls))
    return f"calls {called[0]}() of the warehouse, and its meta does not say what it also_reads" if called else ""


def _day(node: Node, seen: Seen) -> str:
    """What changes when another day begins: for days of other time zones, each quarter of an hour."""
    return seen.around.quarter if node.converts_zones else seen.around.today


def _short(name: str) -> str:
    """`source.medallion.shop.baskets` → `shop.baskets`, `model.medallion.basket` → `basket`."""
    return (
        name.split(".", 2)[2]
        if name.startswith(("source.", "model.", "seed.", "snapshot."))
        else name.partition(".")[2] or name
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
