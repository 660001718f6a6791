"""Detached processes that a later command can find again and identify.

A pid alone is no identity: the system reuses it. Each record therefore keeps the pid together with the moment the
process was born, in the system's own words, and the process writes it itself before it becomes the program: there
is no moment in which a killed starter leaves behind a program without a record.

A record also keeps the folder it was written in, by path and inode: in a copy of a home it means nothing, since the
process belongs to the original; in a home that was moved, or is mounted elsewhere, it still counts.
"""

import errno
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.local import logs

# The shell becomes the program (exec keeps pid and birth). Linux gives both in /proc; elsewhere `ps` does.
_RECORD_THEN_EXEC = """
if [ -r "/proc/$$/stat" ]; then read -r seen < "/proc/$$/stat"; else seen="$$ $(ps -o lstart= -p $$)"; fi
printf '%s\\n%s\\n%s\\n%s\\n' "$2" "$seen" "$3" "$4" > "$1" || exit 73
shift 4
exec "$@"
"""


@dataclass(frozen=True)
class Running:
    """A live process of ours: its pid, and the port it was given."""

    pid: int
    port: int


def spawn(
    command: Sequence[str],
    *,
    record: Path,
    port: int,
    env: Mapping[str, str],
    log: Path,
    cwd: Path,
    listening: socket.socket | None = None,
) -> Running:
    """Start `command` in a session of its own: it outlives us, our terminal and a SIGKILL.

    Returns once the record is written. Output goes to the end of `log`, which the program is told as
    MEDALLION_LOG_FILE; what the program creates is its owner's alone, and so is the log. It inherits the socket that is
    `listening`, by the same number. Raises OSError where the log or the record cannot be written.
    """
    record.unlink(missing_ok=True)
    if logs.is_full(log):
        logs.shift(log)
    inode, path = _identity(record.parent)
    with open(log, "ab", opener=_private) as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _RECORD_THEN_EXEC, "sh", str(record), str(port), inode, path, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**env, logs.VARIABLE: str(log)},
            cwd=cwd,
            start_new_session=True,
            umask=0o077,
            pass_fds=() if listening is None else (listening.fileno(),),
        )
    _children[process.pid] = process
    while (running := find(record)) is None:
        if process.poll() is not None:
            if record.exists():
                break  # it became the program, which ended at once: the caller will find that out
            full = shutil.disk_usage(record.parent).free < 4096
            raise OSError(errno.ENOSPC if full else errno.EACCES, "the process record could not be written")
        time.sleep(0.002)
    return running or Running(process.pid, port)


def find(record: Path) -> Running | None:
    """The process that wrote `record`, if it still lives; None when it is gone or its pid is another's now."""
    try:
        port, seen, *folder = record.read_text().splitlines()
        pid = int(seen.split(maxsplit=1)[0])
        running = Running(pid, int(port))
        # Earlier versions kept no folder.
        here = not folder or any(map(str.__eq__, folder, _identity(record.parent)))
        return running if here and born(pid) == _birth(seen) else None
    except (OSError, ValueError, IndexError):
        return None


def _identity(folder: Path) -> tuple[str, str]:
    found = folder.stat()
    return f"{found.st_dev}:{found.st_ino}", str(folder.resolve())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def born(pid: int) -> str | None:
    """When the process was born, comparable for equality only; None when it is dead or a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        return None
    try:
        seen = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return answer.stdout.strip() or None
    return None if seen.rpartition(")")[2].split()[0] in ("Z", "X") else _birth(seen)


def stop(pid: int, birth: str | None, *, grace: float = 10.0) -> bool:
    """Ask the process to end, then its whole session to die. False when it was gone already."""
    if birth is None or born(pid) != birth:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while born(pid) == birth and time.monotonic() < deadline:
        time.sleep(0.02)
    # What it started may have outlived it; the session is ours alone, so its group may be killed.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    while born(pid) == birth and time.monotonic() < deadline + grace:
        time.sleep(0.02)
    return True


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, for a person; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])


def _birth(seen: str) -> str:
    # /proc/<pid>/stat: the name in parentheses may hold anything, so count from its end; field 22 is the start.
    _, closing, rest = seen.rpartition(")")
    return rest.split()[19] if closing else seen.split(maxsplit=1)[-1].strip()


# Children that ended stay zombies until their parent asks: we ask in `born`.
_children: dict[int, subprocess.Popen[bytes]] = {}
