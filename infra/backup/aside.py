"""Temporary folders for recovered clusters and incomplete files. They are deleted with the command that created them.

A killed command leaves its folder, and possibly a running server in it; the next command removes both.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.backup import programs
from infra.local.account import Account
from infra.local.home import file_error
from infra.local.postmaster import PidFile

_PREFIX = "aside-"


@contextmanager
def aside(within: Path, account: Account | None = None) -> Iterator[Path]:
    """An empty folder in `within` for as long as the block lasts, closed to everybody but us and the account.

    Raises FolderUnusable, DiskFull.
    """
    clear(within)
    try:
        within.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    except OSError as error:
        raise file_error(error, within) from error
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def clear(within: Path) -> None:
    """Stop and delete what killed commands have left in `within`; what a live one uses stays."""
    for folder in within.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(folder / "data")
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _stop(data: Path) -> None:
    if PidFile(data).running() is None:
        return
    owner = data.stat()
    account = Account("owner", owner.st_uid, owner.st_gid) if os.geteuid() == 0 else None
    programs.run("pg_ctl", "stop", "-D", str(data), "-m", "immediate", "-w", "-s", account=account)
