"""The lineage of the newest build as a drawing: columns by layer, and what is late marked by a word and a shape."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flows.models.manifest import Manifest, Relation

#: The columns of the drawing, from left to right.
LAYERS = ("raw", "staging", "snapshots", "silver", "ml", "gold")
_WIDE, _HIGH, _GAP_X, _GAP_Y, _HEAD = 192, 26, 56, 10, 34
#: A larger drawing is no help: then only what is late is drawn, with what it is built from and what is built from it.
MOST = 160
_LETTERS = 26


@dataclass(frozen=True, slots=True)
class Node:
    """A relation in the drawing. `late`: why it is late, or "". `is_behind`: something above it is late."""

    name: str
    label: str
    layer: str
    x: int
    y: int
    late: str
    is_behind: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes, the curves between them, and the size of both. `left_out`: relations that did not find room."""

    nodes: Sequence[Node]
    edges: Sequence[tuple[str, bool]]
    columns: Sequence[tuple[str, int]]
    width: int
    height: int
    parents: Mapping[str, Sequence[str]]
    left_out: int = 0
    box: tuple[int, int] = (_WIDE, _HIGH)


def draw(manifest: Manifest, late: Mapping[str, str], focus: str = "") -> Drawing:
    """The drawing of a build. `late` has the reason by name (`shop.baskets`, `gold.dim_store`).

    `focus` is one name: only what is related to it is drawn.
    """
    relations = {unique_id: one for unique_id, one in manifest.relations.items() if one.kind != "seed"}
    parents = {key: [up for up in one.parents if up in relations] for key, one in relations.items()}
    names = {key: name_of(one) for key, one in relations.items()}
    chosen = set(relations)
    if focus:
        chosen = _related({key for key, name in names.items() if name == focus}, parents)
    elif len(relations) > MOST:
        chosen = _related({key for key, name in names.items() if name in late}, parents)
    kept = set(sorted(chosen, key=lambda key: names[key])[:MOST])
    behind = _below({key for key in relations if names[key] in late}, parents)
    columns = [layer for layer in LAYERS if any(_layer(relations[key]) == layer for key in kept)]
    places: dict[str, tuple[int, int]] = {}
    for number, layer in enumerate(columns):
        in_layer = [key for key in kept if _layer(relations[key]) == layer]
        # Near their parents, so that few curves cross.
        for row, key in enumerate(sorted(in_layer, key=lambda key: (_middle(parents[key], places), names[key]))):
            places[key] = (number * (_WIDE + _GAP_X), _HEAD + row * (_HIGH + _GAP_Y))
    nodes = [
        Node(names[key], _short(relations[key]), _layer(relations[key]), *places[key], late.get(names[key], ""),
             key in behind and names[key] not in late)
        for key in sorted(kept, key=lambda key: places[key])
    ]  # fmt: skip
    edges = [
        (_curve(places[up], places[key]), names[up] in late or up in behind)
        for key in sorted(kept)
        for up in parents[key]
        if up in places
    ]
    return Drawing(
        nodes,
        edges,
        [(layer, number * (_WIDE + _GAP_X)) for number, layer in enumerate(columns)],
        max(1, len(columns)) * (_WIDE + _GAP_X) - _GAP_X,
        max((y for _, y in places.values()), default=0) + _HIGH + _GAP_Y,
        {names[key]: sorted(names[up] for up in parents[key]) for key in sorted(kept, key=lambda key: names[key])},
        len(relations) - len(kept),
    )


def name_of(relation: Relation) -> str:
    """`shop.baskets` for a table of a source, `gold.dim_store` for a model: as clocks and alerts name them."""
    schema = relation.schema.removeprefix("raw_") if relation.kind == "source" else relation.schema
    return f"{schema}.{relation.identifier}"


def _layer(relation: Relation) -> str:
    if relation.kind == "source":
        return "raw"
    if relation.kind == "snapshot":
        return "snapshots"
    return relation.schema if relation.schema in LAYERS else "silver"


def _short(relation: Relation) -> str:
    name = name_of(relation) if relation.kind == "source" else relation.identifier
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _related(of: Collection[str], parents: Mapping[str, Sequence[str]]) -> set[str]:
    up, waiting = set(of), [*of]
    while waiting:
        for parent in parents[waiting.pop()]:
            if parent not in up:
                up.add(parent)
                waiting.append(parent)
    return up | _below(of, parents)


def _below(of: Collection[str], parents: Mapping[str, Sequence[str]]) -> set[str]:
    children: dict[str, list[str]] = {}
    for key, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(key)
    found: set[str] = set()
    waiting = [*of]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def _middle(parents: Sequence[str], places: Mapping[str, tuple[int, int]]) -> float:
    known = [places[parent][1] for parent in parents if parent in places]
    return sum(known) / len(known) if known else 0.0


def _curve(of: tuple[int, int], to: tuple[int, int]) -> str:
    x1, y1, x2, y2 = of[0] + _WIDE, of[1] + _HIGH // 2, to[0], to[1] + _HIGH // 2
    if x2 <= x1:  # within a layer
        return f"M{of[0] + _WIDE} {y1} C{x1 + 28} {y1} {x1 + 28} {y2} {to[0] + _WIDE} {y2}"
    middle = (x1 + x2) // 2
    return f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"
