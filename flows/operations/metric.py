"""A metric: its name, labels and unit, what it says, and the question that it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "medallion_"
Origin = Literal["warehouse", "Prefect server", "watch"]
#: What became of the rows of a load.
OUTCOMES = ("read", "inserted", "updated", "unchanged", "deduplicated", "quarantined", "deleted")


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of series. `unit`: seconds, bytes, rows, what is counted, or `1 or 0`. `question`: why to look."""

    name: str
    meaning: str
    unit: str
    labels: tuple[str, ...]
    question: str
    origin: Origin = "warehouse"
    type: Literal["gauge", "counter"] = "gauge"

    @property
    def full_name(self) -> str:
        """As Prometheus knows it."""
        return PREFIX + self.name
