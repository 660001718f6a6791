"""A question to a person: the plan that is shown, and whether a later plan is still what was shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked, without values of rows.

        Question("deletes", {"limit": 0.5}, {"deleted": 80})

    An answer holds for plans with the same `exact` parts (names, types, fingerprints) and no more of any of `counts`.
    """

    kind: str
    exact: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as it is stored and shown."""
        plan: dict[str, Any] = json.loads(json.dumps({"exact": dict(self.exact), "counts": dict(self.counts)}))
        return plan

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that say which plan was shown."""
        return digest_of(self.plan)

    def is_within(self, shown: Mapping[str, Any]) -> bool:
        """Whether this is what was shown, or less of it."""
        plan = self.plan
        before: Mapping[str, int] = shown.get("counts", {})
        return plan["exact"] == shown.get("exact") and all(
            count <= before.get(name, 0) for name, count in plan["counts"].items()
        )


def digest_of(plan: Mapping[str, Any]) -> str:
    """Of equal plans it is equal, whatever the order of their parts."""
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
