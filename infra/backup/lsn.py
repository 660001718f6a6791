"""Positions in the write-ahead log, its segments, and the timelines they belong to.

0/3000028                     an LSN: a byte's position, as PostgreSQL writes it
000000010000000000000003      a segment: timeline 1, and the number of the segment in hexadecimal
00000002.history              where timeline 2 and its parents left one another
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")


def parse_lsn(text: str) -> int:
    """`0/3000028` → 50331688. Raises ValueError."""
    high, slash, low = text.partition("/")
    if not slash:
        raise ValueError(text)
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(position: int) -> str:
    """50331688 → `0/3000028`."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def segment_name(timeline: int, number: int, segment_bytes: int) -> str:
    """The file's name, as PostgreSQL has it."""
    per_id = 0x1_0000_0000 // segment_bytes
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def parse_segment(name: str, segment_bytes: int) -> tuple[int, int] | None:
    """(timeline, number) of a segment's file; None where the name is another file's."""
    found = _SEGMENT.fullmatch(name)
    if found is None:
        return None
    timeline, high, low = (int(part, 16) for part in found.groups())
    return timeline, high * (0x1_0000_0000 // segment_bytes) + low


@dataclass(frozen=True, slots=True)
class Branch:
    """A timeline and the position from which its log counts."""

    timeline: int
    begins: int


def branches(timeline: int, histories: Mapping[int, str]) -> list[Branch]:
    """The timeline and its ancestors, youngest first, from the history files there are.

    A history file has one line for each ancestor: its number, where it was left, and why.
    """
    lines = [line.split("\t") for line in histories.get(timeline, "").splitlines()]
    left = [(int(fields[0]), parse_lsn(fields[1])) for fields in lines if len(fields) >= 2 and fields[0].isdigit()]
    begins = [0, *(position for _, position in left)]
    members = [*(number for number, _ in left), timeline]
    return [Branch(number, begin) for number, begin in zip(members, begins, strict=True)][::-1]


def timeline_of(number: int, chain: Sequence[Branch], segment_bytes: int) -> int:
    """Which timeline's file recovery takes for a segment: the youngest that has begun in it, or before it."""
    return next(branch.timeline for branch in chain if branch.begins // segment_bytes <= number)


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as runs of consecutive ones: 1, 2, 3, 7 → (1, 3), (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
