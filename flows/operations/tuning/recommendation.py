"""A recommendation: an exact change, its gain and how that was computed, effort, risk, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "cursor", "partition", "source-index", "warehouse-index", "readers", "chunks", "parallel", "schedule", "incremental"
]
#: Who carries it out: `setting` and `warehouse` by `medallion tune apply`, `source` by it with the owner's connection,
#: `declaration` by a person who edits a file.
By = Literal["setting", "warehouse", "source", "declaration"]
Effort = Literal["low", "medium", "high"]
#: How much less is gained by what takes more work.
_WEIGHT: dict[Effort, float] = {"low": 1, "medium": 3, "high": 8}
#: What gains less on a day is not recommended.
LEAST_GAIN = 10.0
_MANY = 30


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One. `gain` in seconds a day, by the arithmetic in `how`; `basis` is what was measured, over `runs` loads, runs
    or builds. `measure` is what shows afterwards whether it helped, `expected` its figures.

    `change` is SQL, a diff, or a setting; `undo` the same backwards. `settings` are those of the table's loads.
    """

    kind: Kind
    subject: str
    what: str
    by: By
    change: str
    undo: str
    gain: float
    how: str
    effort: Effort
    risk: str
    basis: str
    runs: int
    measure: str
    expected: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, float] | None = None
    source: str | None = None
    table: str | None = None
    model: str | None = None
    #: The query whose pages show at once whether an index in the warehouse is used.
    probe: str | None = None

    @property
    def id(self) -> str:
        """`shop.baskets/cursor`."""
        return f"{self.subject}/{self.kind}"

    @property
    def confidence(self) -> Literal["high", "medium"]:
        """How much the number of runs lets claim."""
        return "high" if self.runs >= _MANY else "medium"


def percent(share: float) -> str:
    """`98 %`."""
    return f"{share * 100:.0f} %"


def ranked(found: Iterable[Recommendation], least: float = LEAST_GAIN) -> list[Recommendation]:
    """Those that gain at least so many seconds a day, most gain for the effort first."""
    worth = [each for each in found if each.gain >= least]
    return sorted(worth, key=lambda each: (-each.gain / _WEIGHT[each.effort], each.id))
