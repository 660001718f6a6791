"""Backup: identify → copy → pack the stack → wait for the WAL → read back and verify → register.

A backup counts only after the last step: a killed one leaves files that a later one removes.
"""

import json
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from flows.values.connection import DatabaseConnection
from flows.values.settings import settings
from infra.backup import archiver, embedded, programs, server
from infra.backup.archiver import Archiver
from infra.backup.catalog import Backup, Catalog, new_label
from infra.backup.encrypted import CHUNK, seal
from infra.backup.errors import BackupError, ServerRefused
from infra.backup.kept import Store
from infra.backup.key import Keys
from infra.backup.lsn import parse_lsn
from infra.backup.server import Server
from infra.backup.verify import verify
from infra.local.home import Home

Step = Callable[[str], None]

# The manifest is the last file of the stream, and its log range the last but one of its entries.
_TAIL_BYTES = 1 << 16
_RANGES = re.compile(rb'"WAL-Ranges": (\[[^\]]*\])')
_WAIT_FOR_LOG_SECONDS = 120.0
#: Whatever was begun so long ago and is no backup yet, will not become one.
_ABANDONED = timedelta(days=2)


def take(store: Store, keys: Keys, *, home: Home | None, on_step: Step = lambda _: None) -> Backup:
    """Make a backup of the cluster in force, and of the stack in `home` where there is one; return it verified.

    Raises:
        MedallionError: see `infra.backup.errors`; nothing counts then.
    """
    began = time.monotonic()
    at = server.address()
    found = server.identify(at)
    catalog = Catalog(store, found.system)
    with archiving(at, catalog, keys) as service:
        on_step(f"PostgreSQL {found.version}, cluster {found.system}; its WAL is archived {service}")
        backup = _copy(at, catalog, keys, found)
        on_step(
            f"copied {backup.cluster_bytes / 1024**2:,.0f} MB in {backup.seconds:.1f} s, "
            f"{backup.kept_bytes / 1024**2:,.0f} MB sealed, to {store.place}"
        )
        if home is not None and embedded.here(home):
            _pack(home, catalog, keys, backup.label)
            backup = replace(backup, stack=True)
            on_step("packed the passwords")
        _wait_for_log(catalog, backup)
    on_step(f"archived the WAL up to {backup.end_lsn}")
    verify(catalog, backup, keys)
    backup = replace(backup, verified_at=datetime.now(UTC), seconds=time.monotonic() - began)
    catalog.save(backup)
    on_step("read back, decrypted and verified against its manifest")
    _remove_abandoned(catalog)
    return backup


@contextmanager
def archiving(at: DatabaseConnection, catalog: Catalog, keys: Keys) -> Iterator[str]:
    """While the block lasts somebody archives the log: the service that does so already, or we."""
    spool = archiver.spool_folder()
    with archiver.hold(spool) as ours:
        if not ours:
            yield "by the service"
            return
        stop = threading.Event()
        archiving = Archiver(at, catalog, keys, spool, min(1.0, settings().backup_interval_seconds))
        thread = threading.Thread(target=archiving.run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield "by this command"
        finally:
            stop.set()
            thread.join()


class _Copying:
    """What pg_basebackup writes, counted; its end is its own only when the program ended well."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes], at: DatabaseConnection) -> None:
        assert process.stdout is not None
        self._process, self._stream, self._said, self._at = process, process.stdout, said, at
        self.bytes, self.tail = 0, b""

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size if size > 0 else CHUNK)
        if not data and self._process.wait() != 0:
            self._said.seek(0)
            raise programs.refused("pg_basebackup", self._said.read().decode(errors="replace"), self._at.safe_address)
        self.bytes += len(data)
        self.tail = (self.tail + data)[-_TAIL_BYTES:] if data else self.tail
        return data


def _copy(at: DatabaseConnection, catalog: Catalog, keys: Keys, found: Server) -> Backup:
    clock = time.monotonic()
    with server.connect(at) as session:
        began_at = server.clock(session)
    label = new_label(began_at)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            programs.command(
                "pg_basebackup",
                *("-d", programs.without_password(at.url), "-D", "-", "--format=tar", "--wal-method=none"),
                *("--checkpoint=fast", f"--label=medallion {label}", "--manifest-checksums=SHA256", "--no-sync"),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env=programs.environment(at.url),
            start_new_session=True,
        )
        copying = _Copying(process, said, at)
        try:
            with catalog.store.write(catalog.base(label)) as writer:
                sealed = seal(copying, writer, keys)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    covered = _log_range(copying.tail, at)
    with server.connect(at) as session:
        ended_at = server.clock(session)
    return Backup(
        label=label,
        system=found.system,
        server=found.version,
        timeline=int(covered["Timeline"]),
        start_lsn=covered["Start-LSN"],
        end_lsn=covered["End-LSN"],
        began_at=began_at,
        ended_at=ended_at,
        key=keys.name,
        cluster_bytes=copying.bytes,
        kept_bytes=sealed.bytes,
        sha256=sealed.sha256,
        segment_bytes=found.segment_bytes,
        superuser=found.superuser,
        seconds=time.monotonic() - clock,
    )


def _log_range(tail: bytes, at: DatabaseConnection) -> dict[str, Any]:
    ranges = _RANGES.search(tail)
    covered = json.loads(ranges[1]) if ranges else []
    if len(covered) != 1:
        raise ServerRefused(
            "the server's timeline changed during the copy",
            where=at.safe_address,
            fix="run `medallion backup` again",
            retryable=True,
        )
    found: dict[str, Any] = covered[0]
    return found


def _pack(home: Home, catalog: Catalog, keys: Keys, label: str) -> None:
    with tempfile.TemporaryFile() as packed:
        embedded.pack(home, packed)
        packed.seek(0)
        with catalog.store.write(catalog.stack(label)) as writer:
            seal(packed, writer, keys)


def _wait_for_log(catalog: Catalog, backup: Backup) -> None:
    deadline = time.monotonic() + _WAIT_FOR_LOG_SECONDS
    while True:
        mark = catalog.watermark()
        # A mark that an earlier timeline left says nothing about this one.
        if mark is not None and mark.timeline == backup.timeline and mark.position >= parse_lsn(backup.end_lsn):
            return
        if time.monotonic() > deadline:
            raise BackupError(
                f"the WAL was not archived within {_WAIT_FOR_LOG_SECONDS:.0f} seconds",
                where=catalog.store.place,
                fix=f"check {settings().home / 'logs' / 'archiver.log'}, or the output of `medallion backup "
                "archive`; then run `medallion backup` again",
                retryable=True,
            )
        time.sleep(0.1)


def _remove_abandoned(catalog: Catalog) -> None:
    before = new_label(datetime.now(UTC) - _ABANDONED)
    for label in catalog.unfinished():
        if label < before:
            catalog.forget(label)
