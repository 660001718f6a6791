"""The changes of a release in gold, and those that break readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.models.compare import Difference, compare
from flows.models.manifest import Manifest, Relation

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A mart that lost more than half of its rows is more often a broken join than a decision.
_MIN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class GoldChange:
    """One relation of gold before and after. Rows are None if it does not exist."""

    name: str
    difference: Difference

    @property
    def problems(self) -> list[str]:
        """Changes that break readers."""
        found, difference = [], self.difference
        if difference.rows_after is None:
            return ["is removed"]
        found += [f"loses column {name}" for name, _ in difference.columns_removed]
        found += [f"retypes {name} from {old} to {new}" for name, old, new in difference.columns_retyped]
        if difference.rows_before and difference.rows_after < difference.rows_before * _MIN_SHARE:
            found.append(f"falls from {difference.rows_before:,} to {difference.rows_after:,} rows")
        return found

    def facts(self) -> dict[str, Any]:
        """Plain values: counts and names, no values of rows."""
        difference, keys = self.difference, self.difference.keys
        return {
            "rows_before": difference.rows_before,
            "rows_after": difference.rows_after,
            "columns_added": [name for name, _ in difference.columns_added]
            if difference.rows_before is not None
            else [],
            "columns_removed": [name for name, _ in difference.columns_removed],
            "columns_retyped": [name for name, *_ in difference.columns_retyped],
            "keys_new": keys.added if keys else None,
            "keys_gone": keys.removed if keys else None,
            "rows_changed": keys.changed if keys else None,
            "same": difference.same,
        }


async def gold_changes(connection: Connection[Record], before: Manifest, after: Manifest) -> list[GoldChange]:
    """Compare every relation of gold, by name: the current one, and the one built by the manifest `after`."""
    old, new = _gold(before), _gold(after)
    changes = []
    for name in sorted({*old, *new}):
        left, right = old.get(name), new.get(name)
        difference = await compare(
            connection,
            (left.schema, left.identifier) if left else None,
            (right.schema, right.identifier) if right else None,
            right.key if right else (),
        )
        changes.append(GoldChange(name, difference))
    return changes


def _gold(manifest: Manifest) -> Mapping[str, Relation]:
    return {relation.identifier: relation for relation in manifest.relations.values() if relation.layer == "gold"}
