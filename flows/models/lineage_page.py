"""The lineage of every column as one self-contained HTML page, which makes no requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.models.lineage import Lineage
from flows.models.manifest import Manifest, Relation

_TEMPLATE = Path(__file__).with_name("lineage_page.html")
_LAYERS = ("source", "seed", "staging", "snapshot", "silver_quarantine", "silver", "gold")


def lineage_page(manifest: Manifest, types: Mapping[tuple[str, str], str] | None = None) -> str:
    """The page's text. `types` are the types of columns by (unique id, column), if known."""
    data = json.dumps(lineage_data(manifest, types or {}), separators=(",", ":"), ensure_ascii=False)
    # `</script>` in a description would end the page's own, and `<!--<script>` would keep it from ending.
    return _TEMPLATE.read_text(encoding="utf-8").replace('"LINEAGE"', data.replace("<", "\\u003c"))


def lineage_data(manifest: Manifest, types: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Lanes from left to right, and relations with columns; `from` are [relation, column] pairs, relations by position.

    A source shows the columns that models read, in addition to described ones.
    """
    lineage = Lineage(manifest)
    read: dict[str, set[str]] = {}
    for unique_id in manifest.relations:
        for parents in lineage.columns(unique_id).values():
            for parent, name in parents:
                read.setdefault(parent, set()).add(name)
    order = {layer: place for place, layer in enumerate(_LAYERS)}
    relations = sorted(
        manifest.relations.values(), key=lambda relation: (order.get(relation.layer, len(order)), relation.name)
    )
    depth = _depths(manifest)
    position = {relation.unique_id: place for place, relation in enumerate(relations)}
    entries = []
    for relation in relations:
        personal = lineage.personal(relation.unique_id)
        made_of = lineage.columns(relation.unique_id)
        names = [*made_of, *(sorted(read.get(relation.unique_id, set()) - set(made_of)))]
        entries.append(
            {
                "name": f"{relation.schema}.{relation.identifier}" if relation.kind == "source" else relation.name,
                "lane": [relation.layer, depth[relation.unique_id]],
                "address": relation.address,
                "about": " ".join(relation.description.split()),
                "columns": [
                    {
                        "name": name,
                        "type": types.get((relation.unique_id, name), ""),
                        "about": " ".join(((relation.columns.get(name) or {}).get("description") or "").split()),
                        "personal": name in personal,
                        "from": sorted([position[parent], column] for parent, column in made_of.get(name, ())),
                    }
                    for name in names
                ],
            }
        )
    lanes = sorted(
        {(relation.layer, depth[relation.unique_id]) for relation in relations},
        key=lambda lane: (order.get(lane[0], len(order)), lane),
    )
    return {"lanes": lanes, "relations": entries}


def _depths(manifest: Manifest) -> dict[str, int]:
    """The depth of each relation within its layer: a relation built from gold is right of gold."""
    found: dict[str, int] = {}

    def depth(relation: Relation) -> int:
        if relation.unique_id not in found:
            found[relation.unique_id] = 0
            parents = (manifest.relations[parent] for parent in relation.parents if parent in manifest.relations)
            same = [depth(parent) + 1 for parent in parents if parent.layer == relation.layer]
            found[relation.unique_id] = max(same, default=0)
        return found[relation.unique_id]

    for relation in manifest.relations.values():
        depth(relation)
    return found
