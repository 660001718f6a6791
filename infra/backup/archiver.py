"""Archive a cluster's write-ahead log, encrypted, as it grows.

PostgreSQL's pg_receivewal streams the WAL into a spool folder, with a replication slot; every few seconds new WAL in
the spool is archived. A full segment is archived once and removed from the spool; the current one is archived as
`.partial` repeatedly. While the archiver is stopped, the slot keeps WAL that was not received.

    with archiver.hold(spool):                   one archiver for a spool
        Archiver(…).run(stop)                    until the event is set; then the rest is shipped
"""

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO

import psycopg

from flows.values.connection import DatabaseConnection
from flows.values.errors import MedallionError
from flows.values.settings import settings
from infra.backup import programs, server
from infra.backup.archive import PAGE_HEADER, PARTIAL
from infra.backup.catalog import Catalog, Watermark
from infra.backup.encrypted import encrypted_bytes
from infra.backup.kept import put
from infra.backup.key import Keys
from infra.local import logs

_log = logging.getLogger(__name__)
_PAGE = 8192
#: What pg_receivewal says of a segment that it asks for and the server has no longer.
_REMOVED = "has already been removed"
_COMPLETE = 24  # characters of a segment's name


def spool_folder() -> Path:
    """Where the log waits to be shipped."""
    return settings().home / "archive"


@contextmanager
def hold(spool: Path) -> Iterator[bool]:
    """Hold the spool; False where another process does. The system frees it when its holder dies."""
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(spool / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


@dataclass
class Archiver:
    """One cluster's log on its way to the archive. Whoever runs it holds the spool."""

    at: DatabaseConnection
    catalog: Catalog
    keys: Keys
    spool: Path
    interval: float
    _receiver: subprocess.Popen[bytes] | None = None
    _said: IO[bytes] | None = None
    _shipped: dict[str, int] = field(default_factory=dict)
    _pending: list[Watermark] = field(default_factory=list)

    def run(self, stop: Event) -> None:
        """Ship until `stop` is set, and then what is left. What fails is tried again at the next turn."""
        logs.keep_bounded()
        self._empty_of_another_cluster()
        while True:
            began = time.monotonic()
            try:
                self.step()
            except (MedallionError, psycopg.Error, OSError) as error:
                _log.warning("%s", error if isinstance(error, MedallionError) else type(error).__name__)
            if stop.wait(max(0.0, self.interval - (time.monotonic() - began))):
                break
        self.close()

    def step(self) -> None:
        """One turn: see that the log is received, ship what came, and say how far the archive reaches.

        Raises MedallionError, psycopg.Error, OSError.
        """
        with server.connect(self.at) as session:
            self._see_to_the_receiver(session)
            self._pending.append(server.position(session))
            written = self._written(session)
        self._ship()
        here = [mark for mark in self._pending if written is not None and _covers(written, mark.position)]
        if here:
            self.catalog.mark(here[-1])
            self._pending = [mark for mark in self._pending if mark.at > here[-1].at]
        # While nothing arrives they would pile up; the newest are the ones that count once something does.
        del self._pending[:-1000]

    def close(self) -> None:
        """Stop receiving, and ship what was received."""
        if self._receiver is not None:
            self._receiver.send_signal(signal.SIGINT)
            try:
                self._receiver.wait(5)
            except subprocess.TimeoutExpired:
                self._receiver.kill()
                self._receiver.wait()
            self._receiver = None
        try:
            self._ship()
        except (MedallionError, OSError) as error:
            _log.warning("the last received WAL is still in the spool: %s", error)

    def _see_to_the_receiver(self, session: psycopg.Connection) -> None:
        slot = server.slot(session)
        if slot is not None and slot.lost:
            self._go_on_behind_the_gap(session)
            slot = None
        if self._receiver is not None and self._receiver.poll() is None:
            return
        if _REMOVED in self._tell_why_it_ended():
            self._go_on_behind_the_gap(session)
            slot = None
        if slot is None:
            # Reserved at once: one that pg_receivewal makes keeps nothing until its first report, and a checkpoint may
            # remove what it was about to ask for.
            with suppress(psycopg.errors.DuplicateObject):
                session.execute("select pg_create_physical_replication_slot(%s, true)", [server.SLOT])
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the receiver
        self._receiver = subprocess.Popen(
            programs.command(
                "pg_receivewal",
                *("-d", programs.without_password(self.at.url), "-D", str(self.spool)),
                # Its word of how far it has come is what the watermark rests on.
                *(f"--slot={server.SLOT}", "--no-loop", "--status-interval=1"),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env=programs.environment(self.at.url),
            start_new_session=True,
        )

    def _go_on_behind_the_gap(self, session: psycopg.Connection) -> None:
        """The server has thrown away what we had not received: go on behind it rather than not at all."""
        _log.error("the server has removed WAL that was not archived: make a backup now; recovery ends at the gap")
        self._stop_receiver()
        session.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s", [server.SLOT]
        )
        self._clear()

    def _tell_why_it_ended(self) -> str:
        if self._receiver is None or self._said is None:
            return ""
        self._said.seek(0)
        said = self._said.read(4096).decode(errors="replace")
        self._receiver = None
        _log.warning("%s", programs.refused("pg_receivewal", said, self.at.safe_address))
        return said

    def _stop_receiver(self) -> None:
        if self._receiver is not None:
            self._receiver.kill()
            self._receiver.wait()
            self._receiver = None

    def _written(self, session: psycopg.Connection) -> int | None:
        """How far our receiver has written, by its own report: no further than what lies in the spool now."""
        row = session.execute(
            "select (r.write_lsn - '0/0'::pg_lsn)::numeric from pg_stat_replication as r "
            "inner join pg_replication_slots as s on s.active_pid = r.pid where s.slot_name = %s",
            [server.SLOT],
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def _ship(self) -> None:
        while True:
            # A segment that fills up while we look changes its name: look again, what it holds must not be passed over.
            with suppress(FileNotFoundError):
                return self._ship_what_is_there()

    def _ship_what_is_there(self) -> None:
        for path in sorted(self.spool.iterdir()):
            name = path.name
            if name.endswith(PARTIAL):
                changed = path.stat().st_mtime_ns
                if self._shipped.get(name) != changed:
                    self._put(name, path.read_bytes().rstrip(b"\0"))
                    self._shipped = {name: changed}
            elif len(name) == _COMPLETE or name.endswith(".history"):
                self._put(name, path.read_bytes())
                self.catalog.store.delete(self.catalog.wal(name + PARTIAL))
                path.unlink()

    def _put(self, name: str, data: bytes) -> None:
        put(self.catalog.store, self.catalog.wal(name), encrypted_bytes(data, self.keys))

    def _empty_of_another_cluster(self) -> None:
        """What another cluster left in the spool is not this one's to go on from."""
        noted = self.spool / "system"
        known = noted.read_text().strip() if noted.exists() else ""
        if known != self.catalog.system:
            self._clear()
            noted.write_text(self.catalog.system + "\n")

    def _clear(self) -> None:
        for path in self.spool.iterdir():
            if path.name not in ("lock", "system"):
                path.unlink()


def ship_the_rest(spool: Path, catalog: Catalog, keys: Keys) -> None:
    """Ship what a cluster that is gone has left in the spool, and empty it: its successor begins anew.

    Nothing is done where the spool is another cluster's.
    """
    with suppress(FileNotFoundError):
        if (spool / "system").read_text().strip() == catalog.system:
            Archiver(DatabaseConnection("backup", ""), catalog, keys, spool, 0).close()
            shutil.rmtree(spool)


def _covers(written: int, position: int) -> bool:
    return position <= written or (written % _PAGE == 0 and position - written <= PAGE_HEADER)
