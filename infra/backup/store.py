"""Backup stores: a folder, or a prefix of an S3 bucket. Names are paths with slashes.

/mnt/backups/medallion        a folder, best on another machine's disk
s3://bucket/backups           a prefix; who we are comes from where we run, as for the rest of AWS
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flows.values.settings import settings
from infra.backup.errors import StoreFailed
from infra.backup.kept import Kept, Store


def open_store(place: str | None = None) -> Store:
    """The store at `place`; by default at MEDALLION_BACKUP_TO, else `backups/` of the lake, else in the stack's home.

    Raises:
        StoreFailed: the place is neither a folder nor an address of S3.
    """
    lake = settings().lake_bucket
    place = (
        place or settings().backup_to or (f"s3://{lake}/backups" if lake else "") or str(settings().home / "backups")
    )
    if place.startswith("s3://"):
        from infra.backup.s3 import open_bucket  # imports prefect-aws, which takes two seconds

        return open_bucket(place)
    if "://" in place:
        raise StoreFailed(
            f"backups cannot be stored at {place.partition(':')[0]}://",
            where="MEDALLION_BACKUP_TO",
            fix="name a folder, or s3://bucket/prefix",
        )
    return FolderStore(Path(place).expanduser().resolve())


@dataclass(frozen=True)
class FolderStore:
    """A folder. Files appear whole, and have reached the disk when they do."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root)

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        path = self.root / name
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with partial.open("wb", buffering=1 << 20) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise self._failed(error, name) from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    @contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        try:
            file = (self.root / name).open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._failed(error, name) from error
        with file:
            yield file

    def list(self, prefix: str) -> "list[Kept]":
        folder = self.root / prefix.rpartition("/")[0]
        found = []
        with suppress(FileNotFoundError):
            for path in folder.rglob("*"):
                name = path.relative_to(self.root).as_posix()
                if name.startswith(prefix) and not path.name.startswith(".") and path.is_file():
                    found.append(Kept(name, path.stat().st_size))
        return sorted(found, key=lambda kept: kept.name)

    def delete(self, name: str) -> None:
        path = self.root / name
        path.unlink(missing_ok=True)
        with suppress(OSError):  # its folder goes with the last of its files
            path.parent.rmdir()

    def on_disk_of(self, folder: Path) -> bool:
        with suppress(OSError):
            nearest = next(step for step in (self.root, *self.root.parents) if step.exists())
            return nearest.stat().st_dev == folder.stat().st_dev
        return False

    def _failed(self, error: OSError, name: str) -> StoreFailed:
        free = ""
        with suppress(OSError):
            free = f", {shutil.disk_usage(self.root).free / 1024**2:,.0f} MB free"
        reason = (os.strerror(error.errno) if error.errno else type(error).__name__).lower()
        return StoreFailed(
            f"{name} cannot be read or written: {reason}{free}",
            where=self.place,
            fix="make the folder writable for this account and large enough, or set MEDALLION_BACKUP_TO",
        )
