"""Where files are dropped: a folder of this machine, listed and opened."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast
from urllib.parse import unquote, urlsplit

from flows.kinds.files.left import Left
from flows.kinds.files.pattern import Pattern
from flows.values.errors import ConfigurationError, SourceError


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was listed: its path under the folder, its size, and how long nothing was written to it.

    `signature` changes with every write. Equal signatures mean that nobody wrote; what a file holds is known by its
    hash alone.
    """

    path: str
    size: int
    quiet: float
    signature: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The path without its name; empty for the folder itself."""
        return self.path.rpartition("/")[0]


class Place(Protocol):
    """Somewhere files are dropped."""

    def matching(self, pattern: Pattern, left: list[Left]) -> list[Found]:
        """The files whose paths match; those that must not be read are added to `left`."""

    def beside(self, folder: str) -> dict[str, Found]:
        """The files of one folder, by name."""

    def look(self, path: str) -> Found | None:
        """The file now; None if it is gone."""

    def opened(self, found: Found) -> AbstractContextManager[BinaryIO]:
        """The file's bytes."""


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real = os.path.realpath(root)

    def matching(self, pattern: Pattern, left: list[Left]) -> list[Found]:
        """The files whose paths match. Links that lead out of the folder, and what is no file, are added to `left`."""
        found = []
        for path in self._paths(pattern.folder, None if pattern.is_deep else pattern.depth):
            if pattern.of(path) is None:
                continue
            whole = self._root / path
            try:
                status = whole.stat()
            except OSError as problem:
                left.append(Left(path, f"it cannot be looked at ({problem.strerror})"))
                continue
            if not self._is_inside(whole):
                left.append(Left(path, "it is a link that leads out of the folder"))
            elif not stat.S_ISREG(status.st_mode):
                left.append(Left(path, "it is no regular file"))
            else:
                found.append(_found(path, status))
        return sorted(found, key=lambda one: pattern.order(one.path))

    def beside(self, folder: str) -> dict[str, Found]:
        """The regular files of one folder, by name."""
        files = {}
        for path in self._paths(folder, folder.count("/") + bool(folder)):
            if (one := self.look(path)) is not None:
                files[one.name] = one
        return files

    def look(self, path: str) -> Found | None:
        """The file now; None if it is gone, or no file in the folder."""
        whole = self._root / path
        try:
            status = whole.stat()
        except OSError:
            return None
        return _found(path, status) if stat.S_ISREG(status.st_mode) and self._is_inside(whole) else None

    @contextmanager
    def opened(self, found: Found) -> Iterator[BinaryIO]:
        """The file's bytes."""
        with (self._root / found.path).open("rb", buffering=0) as file:
            yield cast("BinaryIO", file)

    def _is_inside(self, whole: Path) -> bool:
        real = os.path.realpath(whole)
        return real.startswith(self._real.rstrip("/") + "/")

    def _paths(self, folder: str, depth: int | None) -> Iterator[str]:
        """Paths of everything that is no folder. Linked folders are not followed: they might lead out, or in circles.

        Raises:
            SourceError: the folder of the connection URL cannot be listed.
        """
        try:
            with os.scandir(self._root):
                pass
        except OSError as problem:
            raise SourceError(
                f"the folder cannot be listed ({problem.strerror})",
                where=str(self._root.name),
                fix="check the path in the connection URL, whether it is mounted, and the rights of this process",
                retryable=True,
            ) from None
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            try:
                entries = sorted(os.scandir(self._root / here), key=lambda entry: entry.name)
            except FileNotFoundError:
                continue
            except OSError as problem:
                raise SourceError(
                    f"folder {here} cannot be listed ({problem.strerror})",
                    where=str(self._root.name),
                    fix="check the rights of this process",
                    retryable=True,
                ) from None
            for entry in entries:
                path = f"{here}/{entry.name}" if here else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if depth is None or path.count("/") < depth:
                        waiting.append(path)
                elif depth is None or path.count("/") == depth:
                    yield path


def _found(path: str, status: os.stat_result) -> Found:
    # The change time is set by the kernel at each write, also where a sender sets the modification time itself.
    return Found(
        path,
        status.st_size,
        max(0.0, time.time() - status.st_ctime),
        f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}",
    )


def place_of(url: str, where: str) -> LocalFolder:
    """The place of a connection URL.

    Raises:
        ConfigurationError: it names no folder.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in ("", "file"):
        raise ConfigurationError(
            f"files cannot be read from {scheme}://",
            where=where,
            fix="write the path of a folder of this machine into the connection URL, such as /srv/drop",
        )
    path = unquote(urlsplit(url).path) if scheme else url
    if not path.startswith("/"):
        raise ConfigurationError(
            "the connection URL is no absolute path of a folder", where=where, fix="write one, such as /srv/drop"
        )
    return LocalFolder(Path(path))
