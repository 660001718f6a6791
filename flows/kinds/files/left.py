"""Files that are skipped, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.values.visible import visible

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Left:
    """A file of which nothing was loaded. `waits`: it is expected to become complete, so that nobody need act."""

    path: str
    reason: str
    waits: bool = False


class FileProblem(Exception):
    """A file that must not be loaded in part. `waits`: see `Left`. The text has no values of rows."""

    def __init__(self, reason: str, *, waits: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.waits = waits


def in_words(left: Sequence[Left]) -> str | None:
    """For a person: how many files were skipped, and the first of them with their reasons."""
    if not left:
        return None
    listed = "; ".join(f"{visible(one.path)}: {one.reason}" for one in left[:_NAMED])
    more = f"; and {len(left) - _NAMED:,} more" if len(left) > _NAMED else ""
    return f"{len(left):,} {'file was' if len(left) == 1 else 'files were'} skipped: {listed}{more}"
