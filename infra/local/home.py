"""The folder of the embedded stack: `.medallion/`, or `MEDALLION_HOME`.

.medallion/               its owner's alone, with all that is in it, whatever the umask is: see `private`
├── stack.json            what runs, and the addresses to reach it; the addresses hold passwords
├── credentials.json      generated passwords; they outlive `down`, as the data does
├── lock                  held while `up` or `down` works
├── run/                  one record for each detached process
├── logs/                 each log, and three older parts of it
├── postgres/             owned by the account that PostgreSQL runs as
├── prefect/              Prefect's home: its profile; before its database moved to PostgreSQL, prefect.db
└── commerce/             what the commerce API serves
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.local import private
from infra.local.errors import DiskFull, FolderUnusable, StackError

#: The retail data with its indexes, raw, silver, gold and write-ahead log come to about 2 GB on disk.
MIN_FREE_BYTES = 3 * 1024**3
#: Once the data is there, the write-ahead log of a day's load and some sorting still want room.
MIN_FREE_BYTES_WITH_DATA = 256 * 1024**2


@dataclass(frozen=True)
class Home:
    """The folder of one stack. Nothing is created until `prepare` is called."""

    root: Path

    @classmethod
    def find(cls) -> "Home":
        """`MEDALLION_HOME`, or `.medallion` in the checkout this code runs from, whatever the working folder is.

        Where the code was installed without its checkout, the nearest folder above the working folder that holds a
        pyproject.toml counts. Raises FolderUnusable where neither exists.
        """
        configured = os.environ.get("MEDALLION_HOME")
        if configured:
            return cls(Path(configured).expanduser().resolve())
        here = Path.cwd().resolve()
        checkout = Path(__file__).resolve().parents[2]
        for folder in (checkout, here, *here.parents):
            if (folder / "pyproject.toml").is_file():
                return cls(folder / ".medallion")
        raise FolderUnusable(
            "no pyproject.toml in this folder or its parents",
            where=str(here),
            fix="go to the project's folder, or set MEDALLION_HOME to the folder the stack may use",
        )

    @property
    def stack_file(self) -> Path:
        return self.root / "stack.json"

    @property
    def credentials_file(self) -> Path:
        return self.root / "credentials.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def prefect(self) -> Path:
        return self.root / "prefect"

    @property
    def commerce(self) -> Path:
        return self.root / "commerce"

    def has_cluster(self) -> bool:
        """Whether a PostgreSQL cluster was created here before. False as well where we may not look."""
        try:
            return (self.postgres / "data" / "PG_VERSION").exists()
        except OSError:
            return False

    def prepare(self, *, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        """Create the folders and close them to other accounts, or tell why that is impossible.

        Raises FolderUnusable, DiskFull.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            private.close_tree(self.root, but=self.postgres)
            for folder in (self.run, self.logs, self.prefect, self.commerce):
                folder.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(b"x")
        except OSError as error:
            raise file_error(error, self.root) from error
        free = shutil.disk_usage(self.root).free
        if free < min_free_bytes:
            raise DiskFull(
                f"{free / 1024**3:.1f} GB free, {min_free_bytes / 1024**3:.1f} GB needed",
                where=str(self.root),
                fix="free some space, or set MEDALLION_HOME to a folder on a larger disk",
            )

    @contextmanager
    def lock(self, timeout: float = 120.0) -> Iterator[None]:
        """Hold the stack's lock; the system frees it when its holder dies, even by SIGKILL.

        Raises StackError when another command holds it for longer than `timeout` seconds.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise file_error(error, self.root) from error
        try:
            deadline = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"another `medallion up` or `down` has been running for over {timeout:.0f} seconds",
                            where=str(self.root),
                            fix="wait until it ends or stop it, then run the command again",
                            retryable=True,
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def read_json(path: Path) -> dict[str, object] | None:
    """The file's object, or None where there is none or it was torn."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    except OSError as error:
        raise file_error(error, path) from error
    return found if isinstance(found, dict) else None


def write_private(path: Path, content: Mapping[str, object]) -> None:
    """Replace the file in one step, readable by its owner only: a reader sees the old or the new, never half."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise file_error(error, path) from error


def file_error(error: OSError, path: Path) -> StackError:
    """The stack's error for an OSError, with the next move that fits its cause."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            "the disk is full",
            where=str(path),
            fix="free some space, or set MEDALLION_HOME to a folder on a larger disk",
        )
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    owner = f", its owner is uid {path.stat().st_uid}" if _can_stat(path) else ""
    return FolderUnusable(
        f"cannot be used by uid {os.geteuid()}: {reason.lower()}{owner}",
        where=str(path),
        fix="change its owner (chown), or set MEDALLION_HOME to a writable folder",
    )


def _can_stat(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True
