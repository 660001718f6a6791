"""Somewhere files are dropped, and a file there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from flows.kinds.files.left import Left
from flows.kinds.files.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was listed: its path under the folder, its size, and for how many seconds nothing was written
    to it (None: its place does not tell).

    `signature` changes with every write. Equal signatures mean that nobody wrote; what a file holds is known by its
    hash alone. A `member` of an `archive` has a path below that of the archive.
    """

    path: str
    size: int
    quiet: float | None
    signature: str
    archive: str = ""
    member: str = ""

    @property
    def at(self) -> str:
        """The path of what lies there: the archive of a member, or the file itself."""
        return self.archive or self.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.at.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The path without its name; empty for the folder itself."""
        return self.at.rpartition("/")[0]


class Place(Protocol):
    """Somewhere files are dropped."""

    def matching(self, pattern: Pattern, left: list[Left]) -> list[Found]:
        """The files whose paths match; those that must not be read are added to `left`."""

    def beside(self, folder: str) -> dict[str, Found]:
        """The files of one folder, by name."""

    def look(self, path: str) -> Found | None:
        """The file (of a member: its archive) now; None if it is gone."""

    def opened(self, found: Found) -> AbstractContextManager[BinaryIO]:
        """The file's bytes, or those of a member of an archive."""

    def seekable(self, found: Found) -> AbstractContextManager[BinaryIO]:
        """The same, in any order; of an archive itself, if `found` is none of its members."""

    def refuse_release(self) -> None:
        """Refuse a place that cannot move or delete a file only if it is still the one that was read.

        Raises:
            ConfigurationError: files there cannot be archived or deleted.
        """

    def release(self, path: str, signature: str, to: str | None) -> bool:
        """Move the file to another path, or delete it (None). False: it is not the one of that signature any more."""
