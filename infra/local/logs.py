"""Rotate the logs of long-running processes: `x.log` becomes `x.log.1`, that `x.log.2`, and the oldest is deleted.

A process of ours rotates what it writes itself, without losing a line: the file is renamed, and its output leads to a
new one from then on. PostgreSQL's log is rotated by its logging collector, which is asked to open its file again.
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Told to a process by its environment: the log that its output goes to.
VARIABLE = "MEDALLION_LOG_FILE"
#: Four files of 10 MB at most: some days of a server in trouble, which wrote 14 MB an hour when it was measured.
MAX_BYTES = 10 * 1024**2
KEPT = 3
#: How often a process looks. It may write beyond the bound in the meantime.
INTERVAL_SECONDS = 2.0


def shift(log: Path, kept: int = KEPT) -> None:
    """Make room for a new file at `log`: what is there becomes `.1`, and so on; what was `.kept` is lost."""
    for number in range(kept, 0, -1):
        older = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        with suppress(FileNotFoundError):
            older.replace(log.with_name(f"{log.name}.{number}"))


def is_full(log: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Whether the log has reached its bound."""
    with suppress(OSError):
        return log.stat().st_size >= max_bytes
    return False


def rotate_own_output(log: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Let this process write to a new file when `log`, which its output goes to, is full. True when it does."""
    if not is_full(log, max_bytes) or not _is_output(log):
        return False
    shift(log, kept)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # Each is replaced in one step: a line goes either to the old file or to the new one.
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
            os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
    return True


def keep_bounded(*others: Callable[[], object], max_bytes: int = MAX_BYTES, interval: float = INTERVAL_SECONDS) -> None:
    """From now on, in a thread: rotate this process's own log, if it was started with one, and call `others`."""
    own = os.environ.get(VARIABLE)
    if own is None and not others:
        return

    def watch() -> None:
        while True:
            # A full disk, or a folder that is gone: the server is worth more than its log.
            with suppress(Exception):
                if own is not None:
                    rotate_own_output(Path(own), max_bytes)
            for other in others:
                with suppress(Exception):
                    other()
            ended.wait(interval)

    ended = threading.Event()
    threading.Thread(target=watch, name="log rotation", daemon=True).start()


def _is_output(log: Path) -> bool:
    """Whether the standard error of this process goes to `log`."""
    with suppress(OSError, ValueError, AttributeError):
        return os.path.samestat(os.fstat(sys.__stderr__.fileno()), log.stat())  # type: ignore[union-attr]  # suppressed
    return False
