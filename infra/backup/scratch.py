"""A scratch cluster for recovery and checks, which no other account can reach.

It listens on a socket in a separate folder that only its account may enter, without a password, and ignores the
cluster's own configuration, which may refer to files of another machine.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from infra.backup import programs
from infra.backup.errors import BackupError
from infra.local.account import Account, grant_passage
from infra.local.home import file_error
from infra.local.postmaster import PidFile

_PORT = 5432
#: Of the control file: what recovery must have as large as the cluster had it, or the same.
_FROM_CONTROL_FILE = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
    "wal_level": "wal_level setting",
    "track_commit_timestamp": "track_commit_timestamp setting",
}


@dataclass
class ScratchCluster:
    """The cluster in `data`, run as `account`. `superuser` is its first role, whatever it was called."""

    data: Path
    superuser: str
    account: Account | None
    sockets: Path = field(init=False)

    def __post_init__(self) -> None:
        # Directly below the folder for temporary files: the path of a socket holds 107 bytes.
        self.sockets = Path(tempfile.mkdtemp(prefix="mdl-"))
        if self.account is not None:
            os.chown(self.sockets, self.account.uid, self.account.gid)
            grant_passage(self.account, self.data, programs.folder())

    @property
    def log(self) -> Path:
        return self.sockets / "postgres.log"

    def url(self, role: str, database: str) -> str:
        """The address of a database for a role; it takes no password."""
        return f"postgresql://{role}@/{database}?host={self.sockets}&port={_PORT}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """The superuser's session."""
        return psycopg.connect(self.url(self.superuser, database), autocommit=True)

    def start(
        self, settings: Mapping[str, str] | None = None, *, on_segment: Callable[[int], None] = lambda _: None
    ) -> str:
        """Start it and wait until it takes connections, through all of recovery; what it logged meanwhile.

        `on_segment` is told how many segments of the log were replayed. Raises RecoveryEnded where it ends by itself.
        """
        self._write_configuration(settings or {})
        begin = self.log.stat().st_size if self.log.exists() else 0
        started = programs.run(
            "pg_ctl",
            *("start", "-D", str(self.data), "-W", "-s", "-l", str(self.log)),
            *("-o", f"-c config_file={self.sockets / 'postgresql.conf'}"),
            account=self.account,
            cwd=self.sockets,
        )
        if started.returncode != 0:
            raise RecoveryEnded(started.stderr)
        pid_file, replayed, since = PidFile(self.data), 0, time.monotonic()
        while not pid_file.ready():
            logged = self._log_since(begin)
            # Between its start and its file of the pid there is a moment.
            if pid_file.running() is None and ("shut down" in logged or time.monotonic() - since > 10):
                raise RecoveryEnded(logged)
            if (seen := logged.count("restored log file")) != replayed:
                replayed = seen
                on_segment(replayed)
            time.sleep(0.02)
        return self._log_since(begin)

    def stop(self) -> None:
        """Stop it, so that its files are whole. Harmless when it does not run."""
        if PidFile(self.data).running() is not None:
            programs.run(
                "pg_ctl",
                *("stop", "-D", str(self.data), "-m", "fast", "-w", "-s", "-t", "300"),
                account=self.account,
                cwd=self.sockets,
            )

    def close(self) -> None:
        """Stop it, and take away what it needed besides its files."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def control(self) -> dict[str, str]:
        """What pg_controldata says."""
        done = programs.run("pg_controldata", str(self.data), account=self.account, cwd=self.sockets)
        pairs = (line.partition(":") for line in done.stdout.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}

    def _write_configuration(self, settings: Mapping[str, str]) -> None:
        control = self.control()
        values = {
            "data_directory": str(self.data),
            "hba_file": str(self.sockets / "pg_hba.conf"),
            "ident_file": str(self.sockets / "pg_ident.conf"),
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "port": str(_PORT),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "lc_messages": "C",
            "shared_buffers": "256MB",
            "max_wal_size": "4GB",
            "jit": "off",
            # Errors carry values of rows in DETAIL, CONTEXT and STATEMENT.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
            # Nobody reads it before it has come to its end, so it need not allow as much as the cluster did.
            "hot_standby": "off",
            "autovacuum": "off",
            **{name: control[key] for name, key in _FROM_CONTROL_FILE.items() if key in control},
            **settings,
        }
        files = {
            "postgresql.conf": "".join(f"{name} = '{_quoted(value)}'\n" for name, value in values.items()),
            "pg_hba.conf": "local all all trust\n",
            "pg_ident.conf": "",
        }
        try:
            for name, text in files.items():
                path = self.sockets / name
                path.write_text(text)
                if self.account is not None:
                    os.chown(path, self.account.uid, self.account.gid)
            # Settings of ALTER SYSTEM come last in every configuration: they go aside while we recover.
            with suppress(FileNotFoundError):
                (self.data / "postgresql.auto.conf").rename(self.data / "postgresql.auto.conf.aside")
            (self.data / "postgresql.auto.conf").touch(mode=0o600)
            if self.account is not None:
                os.chown(self.data / "postgresql.auto.conf", self.account.uid, self.account.gid)
        except OSError as error:
            raise file_error(error, self.sockets) from error

    def give_back_settings(self) -> None:
        """Put the settings of ALTER SYSTEM back, once it has stopped for good."""
        with suppress(FileNotFoundError):
            (self.data / "postgresql.auto.conf.aside").replace(self.data / "postgresql.auto.conf")

    def _log_since(self, begin: int) -> str:
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")
        return ""


class RecoveryEnded(Exception):
    """The server ended by itself; holds what it logged."""

    def __init__(self, logged: str) -> None:
        self.logged = logged
        super().__init__("the server stopped unexpectedly")

    @property
    def before_target(self) -> bool:
        """Whether it came to the end of the log before the moment it was to stop at."""
        return "recovery ended before configured recovery target was reached" in self.logged

    def explained(self, where: str) -> BackupError:
        """What a person can do. The log holds positions and file names, and no values of rows."""
        fatal = re.findall(r"(?:FATAL|PANIC|ERROR):  (.*)", self.logged)
        return BackupError(
            f"the recovered cluster does not start: {fatal[-1] if fatal else 'no output'}",
            where=where,
            fix="recover to another moment (--to), or from another backup (--backup); "
            "MEDALLION_POSTGRES_PROGRAMS names the programs that start it",
        )


def _quoted(value: str) -> str:
    return value.replace("'", "''")
