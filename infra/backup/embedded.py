"""The embedded stack's files in a backup besides the cluster: passwords, its own keys, and a prefect.db.

Prefect's database is one of the cluster's, except in homes of earlier releases, which keep it in SQLite.
The key by which Prefect encrypts blocks stands in its database, unless PREFECT_SERVER_ENCRYPTION_KEY gave another.
"""

import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from flows.access.erasure_key import FILE as ERASURE_KEY
from flows.access.mask_key import FILE as MASK_KEY
from flows.values.settings import settings
from infra.backup.errors import BackupError
from infra.local.home import Home

DATABASE, CREDENTIALS = "prefect.db", "credentials.json"
# Without them nobody erased is recognised after a recovery on another machine, and hashed columns no longer join: new
# ones would be made.
_KEYS = (ERASURE_KEY, MASK_KEY)
_BUSY_SECONDS = 30.0


def embedded_home() -> Home | None:
    """The embedded stack's home, when it is the embedded cluster that is backed up."""
    return None if settings().backup_url is not None else Home(settings().home)


def here(home: Home) -> bool:
    """Whether there is anything of the stack to be kept."""
    return home.credentials_file.exists() or database(home).exists()


def database(home: Home) -> Path:
    """Prefect's database."""
    return home.prefect / DATABASE


def pack(home: Home, writer: IO[bytes]) -> None:
    """Write a tar of the stack's own state; the database as of one moment, while the server goes on.

    Raises BackupError where the database cannot be read.
    """
    with tarfile.open(fileobj=writer, mode="w|") as tar, tempfile.TemporaryDirectory(prefix="mdl-") as folder:
        if home.credentials_file.exists():
            tar.add(home.credentials_file, CREDENTIALS)
        for key in _KEYS:
            if (home.root / key).exists():
                tar.add(home.root / key, key)
        if database(home).exists():
            copy = Path(folder) / DATABASE
            _copy(database(home), copy)
            tar.add(copy, DATABASE)


def unpack(reader: IO[bytes], folder: Path) -> None:
    """Write what `pack` has packed into the folder, readable by its owner only."""
    with tarfile.open(fileobj=reader, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if member.name not in (DATABASE, CREDENTIALS, *_KEYS) or content is None:
                continue
            path = folder / member.name
            path.touch(mode=0o600)
            path.chmod(0o600)
            with path.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
    copy = folder / DATABASE
    if copy.exists():
        with closing(sqlite3.connect(copy)) as connection:
            verdict = connection.execute("pragma quick_check").fetchone()
        if verdict != ("ok",):
            raise BackupError(
                "the copy of Prefect's database is damaged",
                where=DATABASE,
                fix="recover from another backup: `medallion backup list`",
            )


def replace(home: Home, restored: Path, aside: Path) -> None:
    """Put the restored files in place; what was there goes into `aside`. Prefect must not run."""
    aside.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.prefect.mkdir(parents=True, exist_ok=True)
    for name, target in (
        (DATABASE, database(home)),
        (CREDENTIALS, home.credentials_file),
        *((key, home.root / key) for key in _KEYS),
    ):
        source = restored / name
        if not source.exists():
            continue
        # The log of the old database must not be taken for the new one's.
        for old in (target, *(target.with_name(target.name + suffix) for suffix in ("-wal", "-shm"))):
            with suppress(FileNotFoundError):
                old.rename(aside / old.name)
        shutil.move(source, target)


def _copy(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as original,
            closing(sqlite3.connect(target)) as copy,
        ):
            original.backup(copy, pages=-1)  # in one step: the server writes between steps, and each begins it anew
    except sqlite3.Error as error:
        raise BackupError(
            f"Prefect's database cannot be copied ({type(error).__name__})",
            where=str(source),
            fix="run `medallion backup` again; if it fails again, run `medallion down` first",
            retryable=True,
        ) from None
