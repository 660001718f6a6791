"""A folder of this machine that files are dropped into."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from flows.kinds.files.archives import member
from flows.kinds.files.left import Left
from flows.kinds.files.pattern import Pattern
from flows.kinds.files.place import Found
from flows.values.errors import SourceError


class LocalFolder:
    """A folder of this machine. `skip` is the folder below it that files are archived in."""

    def __init__(self, root: Path, skip: str | None = None) -> None:
        self._root = root
        self._skip = skip
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
        """The file now; None if it is gone, or no file in the folder.

        Raises:
            SourceError: the file system does not say, for example because a share is out of reach.
        """
        whole = self._root / path
        try:
            status = whole.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as problem:
            raise SourceError(
                f"a file cannot be looked at ({problem.strerror})",
                where=str(self._root.name),
                fix="check the rights of this process, and whether the folder is mounted",
                retryable=True,
            ) from None
        return _found(path, status) if stat.S_ISREG(status.st_mode) and self._is_inside(whole) else None

    @contextmanager
    def opened(self, found: Found) -> Iterator[BinaryIO]:
        """The file's bytes, or those of a member of an archive."""
        with (self._root / found.at).open("rb", buffering=0) as file:
            if not found.member:
                yield cast("BinaryIO", file)
                return
            with member(cast("BinaryIO", file), found.member) as content:
                yield content

    def seekable(self, found: Found) -> AbstractContextManager[BinaryIO]:
        """The same: a file of this machine can be read in any order."""
        return self.opened(found)

    def refuse_release(self) -> None:
        """A move takes the file that lies there, which is looked at afterwards."""

    def release(self, path: str, signature: str, to: str | None) -> bool:
        """Move the file, or delete it. It is put back if it is not the one that was read."""
        whole, before = self._root / path, self.look(path)
        if before is None or before.signature != signature:
            return False
        target = self._root / to if to is not None else whole.with_name(f".{whole.name}.released")
        target.parent.mkdir(parents=True, exist_ok=True)
        whole.rename(target)
        status = target.stat()
        now = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
        size, modified, _, inode = signature.split(":")
        if now != f"{size}:{modified}:{inode}":
            _put_back(target, whole)
            return False
        if to is None:
            target.unlink()
        return True

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
                if path == self._skip:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth is None or path.count("/") < depth:
                        waiting.append(path)
                elif depth is None or path.count("/") == depth:
                    yield path


def _put_back(file: Path, whole: Path) -> None:
    """Undo a move. A file that was dropped under the name meanwhile is newer, and stays."""
    try:
        # A rename would replace that newer file, which nobody has read; a link fails instead.
        whole.hardlink_to(file)
    except FileExistsError:
        return
    except OSError:
        # Some shares have no hard links.
        if not whole.exists():
            file.rename(whole)
        return
    file.unlink()


def _found(path: str, status: os.stat_result) -> Found:
    # The change time is set by the kernel at each write, also where a sender sets the modification time itself.
    return Found(
        path,
        status.st_size,
        max(0.0, time.time() - status.st_ctime),
        f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}",
    )
