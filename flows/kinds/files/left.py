"""Files that are skipped, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.values.visible import visible

_NAMED = 5


# For how many seconds a file may wait for its end, its marker or its manifest before the alert `part skipped`.
_PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class Left:
    """A file of which nothing was loaded. `waits`: it may become complete by itself; `quiet`: as of a `Found`."""

    path: str
    reason: str
    waits: bool = False
    quiet: float | None = None

    @property
    def is_expected(self) -> bool:
        """Whether it is early to say that somebody must act."""
        return self.waits and (self.quiet or 0.0) < _PATIENCE


class FileProblem(Exception):
    """A file that must not be loaded in part. `waits`: as of `Left`. The text has no values of rows."""

    def __init__(self, reason: str, *, waits: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.waits = waits


def waiting(left: Sequence[Left]) -> str | None:
    """In words: the files that are expected to become complete."""
    return in_words([one for one in left if one.is_expected])


def skipped(left: Sequence[Left]) -> str | None:
    """In words: the files that stay skipped until somebody acts."""
    return in_words([one for one in left if not one.is_expected])


def in_words(left: Sequence[Left]) -> str | None:
    """For a person: how many files were skipped, and the first of them with their reasons."""
    if not left:
        return None
    listed = "; ".join(f"{visible(one.path)}: {one.reason}" for one in left[:_NAMED])
    more = f"; and {len(left) - _NAMED:,} more" if len(left) > _NAMED else ""
    return f"{len(left):,} {'file was' if len(left) == 1 else 'files were'} skipped: {listed}{more}"
