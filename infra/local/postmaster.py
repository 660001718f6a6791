"""The running server of a cluster: postmaster.pid, verified against the process."""

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.local.home import file_error
from infra.local.process import born

# Lines of postmaster.pid, fixed by PostgreSQL (src/include/utils/pidfile.h).
_PID, _DATA, _PORT, _STATUS = 0, 1, 3, 7

#: No system counts so far: a process of this number does not exist.
_NOBODY = "999999999"


@dataclass(frozen=True)
class Postmaster:
    """A running server."""

    pid: int
    port: int


@dataclass(frozen=True)
class PidFile:
    """The postmaster.pid of the cluster in `data`."""

    data: Path

    def running(self) -> Postmaster | None:
        """The server of this cluster, whether ready or about to be; None when its pid is nobody's or another's."""
        lines = self._lines()
        if len(lines) <= _PORT or not self._is_ours(int(lines[_PID])):
            return None
        return Postmaster(int(lines[_PID]), int(lines[_PORT]))

    def ready(self) -> bool:
        """Whether the server takes connections."""
        lines = self._lines()
        return len(lines) > _STATUS and lines[_STATUS].strip() == "ready" and self._is_ours(int(lines[_PID]))

    def defuse(self) -> None:
        """Make a file that bars the way look like what it is: stale.

        PostgreSQL refuses to start while the pid in the file is alive, whosever it is now. Only the pid is replaced:
        the file also leads PostgreSQL to the shared memory that backends of a killed server may still hold. A torn
        file, as a full disk or a crash leaves it, leads nowhere and goes; PostgreSQL then looks for that memory by
        the folder's inode.
        """
        path = self.data / "postmaster.pid"
        lines = self._lines()
        try:
            if not lines:
                path.unlink(missing_ok=True)
            elif _in_process_table(abs(int(lines[_PID]))) and not self._is_ours(int(lines[_PID])):
                path.write_text("\n".join([_NOBODY, *lines[1:]]) + "\n")
        except OSError as error:
            raise file_error(error, path) from error

    def _lines(self) -> list[str]:
        path = self.data / "postmaster.pid"
        try:
            lines = path.read_text().splitlines()
            if lines:
                int(lines[_PID])
        except (FileNotFoundError, ValueError):
            return []
        except OSError as error:
            raise file_error(error, path) from error
        return lines

    def moved_from(self) -> str | None:
        """Where the data was when the running server started, if it was moved since."""
        running = self.running()
        if running is None or str(self.data) in _arguments(running.pid):
            return None
        return self._lines()[_DATA]

    def _is_ours(self, pid: int) -> bool:
        if born(pid) is None:
            return False
        arguments = _arguments(pid)
        if not arguments or Path(arguments[0]).name != "postgres":
            return False
        # In a copy of the folder the file names the original's server, whose folder is still there.
        return str(self.data) in arguments or any(
            folder in arguments and not Path(folder).exists() for folder in self._lines()[_DATA : _DATA + 1]
        )


def _arguments(pid: int) -> list[str]:
    with suppress(OSError):
        if Path("/proc/self").exists():
            # Readable for everyone. The working folder would tell more, but in a container even root may not
            # ask for another account's.
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        ps = ["ps", "-o", "command=", "-p", str(pid)]
        return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.split()
    return []


def _in_process_table(pid: int) -> bool:
    """PostgreSQL's own test for a live pid, by which zombies and other people's processes count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
