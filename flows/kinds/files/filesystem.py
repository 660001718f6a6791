"""Files of any place that fsspec can read: SFTP, Google Cloud Storage, Azure, WebDAV, and others."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, cast

from flows.kinds.files.archives import member
from flows.kinds.files.left import Left
from flows.kinds.files.pattern import Pattern
from flows.kinds.files.place import Found
from flows.values.errors import ConfigurationError, SourceError

_IN_MEMORY = 16_000_000
_BLOCK = 1 << 20
#: What file systems say of a file that changes with its content, by the names they have for it.
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "version_id", "mtime", "last_modified",
          "LastModified", "updated", "modified", "created")  # fmt: skip
_TIMES = ("mtime", "last_modified", "LastModified", "updated", "modified", "created")


class FileSystem:
    """A file system of fsspec. Its driver may have to be installed: `sshfs` or `paramiko`, `gcsfs`, `adlfs`."""

    def __init__(self, url: str, where: str, keys: Mapping[str, str], skip: str | None = None) -> None:
        import fsspec

        scheme = url.partition("://")[0]
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **keys)
        except (ImportError, ValueError):
            raise ConfigurationError(
                f"files cannot be read from {scheme}://",
                where=where,
                fix="install the package that reads it, or write the path of a folder, such as /srv/drop, into the "
                "connection URL",
            ) from None
        except Exception as problem:
            raise SourceError(
                f"{scheme}:// cannot be reached ({type(problem).__name__})",
                where=where,
                fix="check the connection URL and the credentials",
                retryable=True,
            ) from None
        self._root = root.rstrip("/")
        self._where = where
        self._skip = skip

    def matching(self, pattern: Pattern, left: list[Left]) -> list[Found]:
        """The files whose paths match."""
        found = [one for one in self._listed(pattern.folder) if pattern.of(one.path) is not None]
        return sorted(found, key=lambda one: pattern.order(one.path))

    def beside(self, folder: str) -> dict[str, Found]:
        """The files of one folder, by name."""
        return {one.name: one for one in self._listed(folder) if one.folder == folder}

    def look(self, path: str) -> Found | None:
        """The file now; None if it is gone.

        Raises:
            SourceError: the place does not say, for example because it is out of reach.
        """
        try:
            self._fs.invalidate_cache()
            info = self._fs.info(f"{self._root}/{path}")
        except FileNotFoundError:
            return None
        except Exception as problem:
            raise SourceError(
                f"a file cannot be looked at ({type(problem).__name__})",
                where=self._where,
                fix="check the credentials, their rights, and whether the server answers",
                retryable=True,
            ) from None
        return _found(path, info) if info.get("type") == "file" else None

    @contextmanager
    def opened(self, found: Found) -> Iterator[BinaryIO]:
        """The file's bytes, or those of a member of an archive."""
        if found.member:
            with self.seekable(found) as content:
                yield content
            return
        with self._fs.open(f"{self._root}/{found.path}", "rb") as file:
            yield file

    @contextmanager
    def seekable(self, found: Found) -> Iterator[BinaryIO]:
        """The file in a temporary one, or a member of it: not every file system can seek."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            with self._fs.open(f"{self._root}/{found.at}", "rb") as source:
                while block := source.read(_BLOCK):
                    file.write(block)
            file.seek(0)
            if not found.member:
                yield cast("BinaryIO", file)
                return
            with member(cast("BinaryIO", file), found.member) as content:
                yield content

    def release(self, path: str, signature: str, to: str | None) -> bool:
        """Move the file, or delete it."""
        now = self.look(path)
        if now is None or now.signature != signature:
            return False
        whole = f"{self._root}/{path}"
        if to is None:
            self._fs.rm_file(whole)
        else:
            target = f"{self._root}/{to}"
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.mv(whole, target)
        return True

    def _listed(self, folder: str) -> Iterator[Found]:
        skipped = f"{self._skip}/" if self._skip else None
        start = f"{self._root}/{folder}" if folder else self._root
        try:
            self._fs.invalidate_cache()
            if not self._fs.isdir(self._root):
                raise FileNotFoundError(2, "there is no such folder")
            entries = self._fs.find(start, detail=True) if self._fs.isdir(start) else {}
        except Exception as problem:
            raise SourceError(
                f"the folder cannot be listed ({type(problem).__name__})",
                where=self._where,
                fix="check the path in the connection URL, the credentials, and whether the server answers",
                retryable=True,
            ) from None
        for name, info in sorted(entries.items()):
            path = name.removeprefix(self._root).lstrip("/")
            if not (skipped and path.startswith(skipped)):
                yield _found(path, info)


def _found(path: str, info: Mapping[str, Any]) -> Found:
    # A listing may say in seconds what is a time when the same file is asked for alone.
    said = {name: info[name] for name in _MARKS if info.get(name) is not None}
    said = {name: value.timestamp() if isinstance(value, datetime) else value for name, value in said.items()}
    marks = [str(value) for value in said.values()]
    changed = next((said[name] for name in _TIMES if name in said), None)
    quiet = max(0.0, time.time() - changed) if isinstance(changed, int | float) else None
    size = int(info.get("size") or 0)
    return Found(path, size, quiet, ":".join([str(size), *marks]))
