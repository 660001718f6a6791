"""Files of any place that fsspec can read: SFTP, Google Cloud Storage, Azure, WebDAV, and others."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

from flows.kinds.files.archives import member
from flows.kinds.files.left import Left
from flows.kinds.files.pattern import Pattern
from flows.kinds.files.place import Found
from flows.values.errors import ConfigurationError, SourceError

_IN_MEMORY = 16_000_000
_BLOCK = 1 << 20
#: A time as FTP says it (RFC 3659): of UTC.
_FTP_TIME = re.compile(r"\d{14}(\.\d+)?")
#: What file systems say of a file that changes with its content, by the names they have for it.
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "version_id", "mtime", "last_modified",
          "LastModified", "updated", "modified", "modify", "created")  # fmt: skip
_TIMES = ("mtime", "last_modified", "LastModified", "updated", "modified", "modify", "created")
#: Where `mv` is a rename: it takes the file that lies there, whatever it is by then, and copies nothing.
_RENAMES = frozenset({"sftp", "ssh", "ftp", "ftps", "smb", "hdfs", "webhdfs"})


class FileSystem:
    """A file system of fsspec. Its driver may have to be installed: `paramiko` for SFTP, `gcsfs`, `adlfs`."""

    def __init__(self, url: str, where: str, keys: Mapping[str, str], skip: str | None = None) -> None:
        import fsspec

        scheme = url.partition("://")[0]
        options: dict[str, Any] = {**keys, "skip_instance_cache": True}  # a kept one may have lost its connection
        try:
            if scheme in ("sftp", "ssh"):
                # The driver's default takes any server for the right one, and gives it the password.
                from flows.kinds.files.known_hosts import KnownHosts

                options["host_key_policy"] = KnownHosts
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError):
            raise ConfigurationError(
                f"files cannot be read from {scheme}://",
                where=where,
                fix="install the package that reads it (for SFTP, the extra `sftp`), or write the path of a folder, "
                "such as /srv/drop, into the connection URL",
            ) from None
        except Exception as problem:
            raise SourceError(
                f"{scheme}:// cannot be reached ({type(problem).__name__})",
                where=where,
                fix="check the connection URL and the credentials, and for SFTP that the server's key is in "
                "~/.ssh/known_hosts of this process's user",
                retryable=True,
            ) from None
        self._scheme = scheme
        # Files are read ahead by several threads, and only drivers that are asynchronous themselves take turns: two
        # threads on one connection of SFTP take each other's answers, and wait for ever.
        turns = nullcontext() if getattr(self._fs, "async_impl", False) else threading.RLock()
        self._turn: AbstractContextManager[Any] = turns
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
            with self._turn:
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
        with self._file(found) as file:
            yield cast("BinaryIO", file)

    @contextmanager
    def seekable(self, found: Found) -> Iterator[BinaryIO]:
        """The file in a temporary one, or a member of it: not every file system can seek."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            with self._file(found) as source:
                while block := source.read(_BLOCK):
                    file.write(block)
            file.seek(0)
            if not found.member:
                yield cast("BinaryIO", file)
                return
            with member(cast("BinaryIO", file), found.member) as content:
                yield content

    @contextmanager
    def _file(self, found: Found) -> Iterator[_File]:
        try:
            with self._turn:
                file = self._fs.open(f"{self._root}/{found.at}", "rb")
        except OSError:
            raise
        except Exception as problem:  # each driver has its own
            raise OSError(0, type(problem).__name__) from None
        try:
            yield _File(file, self._turn)
        finally:
            with self._turn, suppress(Exception):
                file.close()

    def refuse_release(self) -> None:
        """Refuse a place that copies and deletes: what is overwritten in between would be deleted unread.

        Raises:
            ConfigurationError: files there cannot be archived or deleted.
        """
        if self._scheme not in _RENAMES:
            raise ConfigurationError(
                f"files of {self._scheme}:// cannot be archived or deleted: one that is overwritten meanwhile would be "
                "lost unread",
                where=self._where,
                fix="declare acknowledge=Leave(), and let a rule of the store delete files by their age",
            )

    def release(self, path: str, signature: str, to: str | None) -> bool:
        """Move the file, or delete it. It is put back if it is not the one that was read.

        Raises:
            ConfigurationError: files there cannot be archived or deleted.
            SourceError: the place refuses.
        """
        self.refuse_release()
        before = self.look(path)
        if before is None or before.signature != signature:
            return False
        folder, slash, name = path.rpartition("/")
        target = to if to is not None else f"{folder}{slash}.{name}.released"
        try:
            with self._turn:
                return self._moved(path, signature, target, keep=to is not None)
        except SourceError:
            raise
        except Exception as problem:
            raise SourceError(
                f"a file cannot be archived or deleted ({type(problem).__name__})",
                where=self._where,
                fix="check the right to rename and delete files there",
                retryable=True,
            ) from None

    def _moved(self, path: str, signature: str, target: str, *, keep: bool) -> bool:
        whole, there = f"{self._root}/{path}", f"{self._root}/{target}"
        self._fs.makedirs(there.rpartition("/")[0], exist_ok=True)
        self._fs.mv(whole, there)
        # What was moved is what lies there now: whoever drops a file from here on makes a new one.
        taken = self.look(target)
        if taken is None or taken.signature != signature:
            if taken is not None and self.look(path) is None:
                self._fs.mv(there, whole)
            return False
        if not keep:
            self._fs.rm_file(there)
        return True

    def _listed(self, folder: str) -> Iterator[Found]:
        skipped = f"{self._skip}/" if self._skip else None
        start = f"{self._root}/{folder}" if folder else self._root
        try:
            with self._turn:
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


class _File:
    """An opened file that is read in turn."""

    def __init__(self, file: Any, turn: AbstractContextManager[Any]) -> None:
        self._file = file
        self._turn = turn

    def read(self, count: int = -1) -> bytes:
        """The next bytes."""
        with self._turn:
            try:
                data: bytes = self._file.read(count)
            except OSError:
                raise
            except Exception as problem:
                raise OSError(0, type(problem).__name__) from None
        return data


def _found(path: str, info: Mapping[str, Any]) -> Found:
    # A listing may say in seconds what is a time when the same file is asked for alone.
    said = {name: info[name] for name in _MARKS if info.get(name) is not None}
    said = {name: _seconds(value) for name, value in said.items()}
    marks = [str(value) for value in said.values()]
    changed = next((said[name] for name in _TIMES if name in said), None)
    quiet = max(0.0, time.time() - changed) if isinstance(changed, int | float) else None
    size = int(info.get("size") or 0)
    return Found(path, size, quiet, ":".join([str(size), *marks]))


def _seconds(value: object) -> object:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, str) and _FTP_TIME.fullmatch(value):
        return datetime.strptime(value[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    return value
