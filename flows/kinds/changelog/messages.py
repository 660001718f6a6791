"""What decoding the log handles: messages of a block, tables as the log describes them, and rows of changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Relation:
    """A table as the log describes it. `places` are those of its columns in the table of changes."""

    oid: int
    names: tuple[str, ...]
    places: Places


@dataclass(frozen=True, slots=True)
class Block:
    """Some changes of one table: rows of a binary COPY, without its header and trailer, of META and `names`."""

    oid: int
    names: tuple[str, ...]
    rows: int
    data: bytes


@dataclass(slots=True)
class Seen:
    """What was decoded of one table: its columns in the order of their places, changes by action, and whether values
    were left out as unchanged."""

    columns: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    kept: bool = False

    def place(self, names: tuple[str, ...]) -> Places:
        """The places of these columns; new ones are added at the end."""
        for name in names:
            if name not in self.columns:
                self.columns.append(name)
        return np.array([self.columns.index(name) for name in names], np.int64)


@dataclass(frozen=True, slots=True)
class Messages:
    """Some messages of a block: where each begins, its kind, the position of its commit, and its number."""

    buffer: Bytes
    at: Places
    kinds: Bytes
    lsns: Places
    sequence: Places

    def where(self, mask: npt.NDArray[Any]) -> Messages:
        return Messages(self.buffer, self.at[mask], self.kinds[mask], self.lsns[mask], self.sequence[mask])

    def after(self) -> Messages:
        """The same, ordered directly behind themselves."""
        return Messages(self.buffer, self.at, self.kinds, self.lsns, self.sequence + 1)


def number(buffer: Bytes, at: Places, size: int) -> Places:
    """Numbers of so many bytes, the highest first."""
    found = np.zeros(at.size, np.int64)
    for place in range(size):
        found = (found << 8) | buffer[at + place]
    return found


def big_endian(numbers: Places) -> Bytes:
    """The numbers as COPY's bigints, one a row."""
    return numbers.astype(">i8").view(np.uint8).reshape(-1, 8)


def constant(rows: int, value: bytes) -> Bytes:
    """The same bytes in each row."""
    return np.tile(np.frombuffer(value, np.uint8), (rows, 1))
