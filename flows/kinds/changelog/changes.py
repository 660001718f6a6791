"""The changes of one table between two positions, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flows.landing.table import Target

#: Suffix of a table of changes that no load has claimed.
UNCLAIMED = "__c"


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of one table between two positions: `relation` has the columns of `pgoutput.META` and `columns`.

    `counts` by action, `kept`: some values are not in the log because they did not change.
    """

    relation: str
    begins: int
    ends: int
    columns: tuple[str, ...]
    counts: Mapping[str, int]
    kept: bool = False
    bytes: int = 0
    committed_at: datetime | None = None

    @property
    def rows(self) -> int:
        """Rows of the relation."""
        return sum(self.counts.values())

    @classmethod
    def of(cls, relation: str, begins: int, ends: int, facts: Mapping[str, Any]) -> Changes:
        """From what `facts` wrote."""
        at = facts["committed_at"]
        return cls(
            relation,
            begins,
            ends,
            tuple(facts["columns"]),
            facts["counts"],
            facts["kept"],
            facts["bytes"],
            datetime.fromisoformat(at) if at else None,
        )


@dataclass(slots=True)
class Wanted:
    """A table whose changes are read from a position on: its oid at the source, and where they go.

    `suffix`: of the table for changes that nobody has claimed.
    """

    target: Target
    oid: int
    position: int
    suffix: str = UNCLAIMED
    columns: set[str] = field(default_factory=set)

    @property
    def inbox(self) -> str:
        """The name of the table for changes that nobody has claimed."""
        return f"{self.target.landing_name}{self.suffix}"

    @property
    def claimed(self) -> str:
        """The name of the table for those that a load publishes."""
        return f"{self.target.landing_name}__w"
