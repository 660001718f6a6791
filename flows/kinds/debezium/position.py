"""Positions in a topic: which offsets of each partition raw has. Stored in the transaction that publishes the rows.

`ops.cursors` has them as the identity's `partitions`, and for people as its value, the next offset of each partition:
`0:1200 1:1187`.

    ranges    offsets that were read, as [first, last]; offsets may have gaps, by compaction and transactions
    marks     checksums of some events, the first and the last of each load: another event at one of these offsets means
              that the topic was made again
    at        the broker's timestamp of the last event, if files have it: a later one at an earlier offset means so too
    unwritten its last event deletes a row of which raw does not have the last values: see `Fold`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.values.plan import CursorState

_MOST_RANGES = 500
_MOST_MARKS = 50


@dataclass(slots=True)
class Partition:
    """What was read of one partition."""

    ranges: list[list[int]] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)
    at: int | None = None
    unwritten: bool = False

    @property
    def next(self) -> int:
        """The first offset that no load has reached."""
        return self.ranges[-1][1] + 1 if self.ranges else 0

    @property
    def first(self) -> int | None:
        """The lowest offset that was read."""
        return self.ranges[0][0] if self.ranges else None

    def has(self, offset: int) -> bool:
        """Whether the event of this offset was read."""
        return any(low <= offset <= high for low, high in self.ranges)

    def read(self, low: int, high: int, *, follows: bool) -> None:
        """Note that these were read. `follows`: nothing lies between them and what was read before."""
        if self.ranges and (follows or self.next == low):
            self.ranges[-1][1] = high
        else:
            self.ranges.append([low, high])
        while len(self.ranges) > _MOST_RANGES:
            # The oldest gap is forgotten: an event in it would count as read.
            self.ranges[:2] = [[self.ranges[0][0], self.ranges[1][1]]]

    def mark(self, offset: int, mark: int) -> None:
        """Note an event's checksum. The first one stays."""
        self.marks[offset] = mark
        if len(self.marks) > _MOST_MARKS:
            del self.marks[sorted(self.marks)[1]]


@dataclass(slots=True)
class Position:
    """What was read of a topic."""

    topic: str
    partitions: dict[int, Partition] = field(default_factory=dict)

    def of(self, partition: int) -> Partition:
        """One partition's."""
        return self.partitions.setdefault(partition, Partition())

    @property
    def text(self) -> str | None:
        """For people: the next offset of each partition."""
        found = sorted(self.partitions.items())
        return " ".join(f"{number}:{one.next}" for number, one in found if one.ranges) or None

    def state(self) -> CursorState:
        """As it is stored."""
        partitions = {
            str(number): {
                "ranges": [list(one) for one in part.ranges],
                "marks": {str(offset): mark for offset, mark in part.marks.items()},
                **({"at": part.at} if part.at is not None else {}),
                **({"unwritten": True} if part.unwritten else {}),
            }
            for number, part in self.partitions.items()
            if part.ranges
        }
        return CursorState(self.text, identity={"topic": self.topic, "partitions": partitions})


def position_of(state: CursorState) -> Position | None:
    """The stored one; None if there is none."""
    stored: Mapping[str, Any] = state.identity
    if "topic" not in stored or state.value is None:
        return None
    partitions = {
        int(number): Partition(
            [list(one) for one in part["ranges"]],
            {int(offset): mark for offset, mark in part["marks"].items()},
            part.get("at"),
            part.get("unwritten", False),
        )
        for number, part in stored["partitions"].items()
    }
    return Position(stored["topic"], partitions)
