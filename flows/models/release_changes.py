"""The changes of a release in gold, and those that break readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.models.compare import Difference, compare
from flows.models.manifest import Manifest, Relation
from flows.values.question import Question

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A mart that lost more than half of its rows is more often a broken join than a decision.
_MIN_SHARE = 0.5
_COLUMNS_OF_READERS = ("columns_added", "columns_removed", "columns_retyped")


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

    @property
    def breaks(self) -> list[str]:
        """The problems without counts of rows, which change with every load."""
        return [problem for problem in self.problems if not problem.startswith("falls from")]

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


def question_about(models: str, changes: Iterable[GoldChange]) -> tuple[Question, str]:
    """What a person is shown of a release: the models, which tables and columns change, and what readers lose.

    Rows that are new are not counted: they arrive between the question and the answer as well.
    """
    differing = [change for change in changes if not change.difference.same]
    exact: dict[str, Any] = {"models": models, "tables": [change.name for change in differing]}
    counts: dict[str, int] = {}
    for change in differing:
        facts = change.facts()
        exact |= {f"{change.name}: {name}": facts[name] for name in _COLUMNS_OF_READERS if facts[name]}
        lost = (facts["rows_before"] or 0) - (facts["rows_after"] or 0)
        numbers = {"rows fewer": lost, "keys gone": facts["keys_gone"], "rows changed": facts["rows_changed"]}
        counts |= {f"{change.name}: {name}": number for name, number in numbers.items() if number and number > 0}
    exact["breaks readers"] = sorted({f"{change.name} {one}" for change in differing for one in change.breaks})
    named = ", ".join(change.name for change in differing[:5]) + (", …" if len(differing) > 5 else "")
    what = f"a release of models {models} changes {len(differing)} tables of gold" + (f": {named}" if named else "")
    return Question("release", exact, counts), what


def _gold(manifest: Manifest) -> Mapping[str, Relation]:
    return {relation.identifier: relation for relation in manifest.relations.values() if relation.layer == "gold"}
