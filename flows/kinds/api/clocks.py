"""The API's clock at the beginning of each load of children: what limits the cursor of each parent's list.

A load reads only the lists of parents that changed, and some of them may be skipped, refused or not found. So the clock
of the last load says nothing of a list that it has not read. The batch of a list's latest row does: the load that
published it has read the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

# Clocks that are closer to each other than this part of their age are thinned out: 75 remain of 100,000 loads. A list
# whose clock was dropped is limited by the one before, and reads a little more again than it has to.
_PART_OF_AGE = 4


@dataclass(frozen=True, slots=True)
class Clocks:
    """Pairs of the first batch of a load and the API's clock when it began, in their order."""

    known: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Clocks:
        """Those stored with a cursor. A single `clock`, of earlier versions, is that of all batches so far."""
        if "clocks" in identity:
            return cls(tuple((batch, clock) for batch, clock in identity["clocks"]))
        clock = identity.get("clock")
        return cls() if clock is None else cls(((0, clock),))

    def facts(self) -> dict[str, Any]:
        """What is stored, as JSON."""
        return {"clocks": [list(pair) for pair in self.known]}

    def after(self, batch: int, clock: str) -> Clocks:
        """With that of another load, whose first batch this is."""
        kept = list(self.known[:1])
        for now, (following, _) in pairwise((*self.known[1:], (batch, clock))):
            if (following - kept[-1][0]) * _PART_OF_AGE > batch - following:
                kept.append(now)
        return Clocks((*kept, (batch, clock)))

    def at(self, batch: int) -> datetime | None:
        """The clock that limits a list whose latest row is of this batch; None if it was read before all of them."""
        earlier = [clock for first, clock in self.known if first <= batch]
        return datetime.fromisoformat(earlier[-1]) if earlier else None
