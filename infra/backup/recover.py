"""Recovery: choose a backup → check that the WAL is complete → copy back → fetch the WAL → replay → promote.

Problems are detected before the first byte is replayed. The cluster is recovered into a separate folder, completely or
not at all; nothing else is changed.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from infra.backup import archive, embedded, verify
from infra.backup.catalog import Backup, Catalog, Watermark
from infra.backup.encrypted import decrypted
from infra.backup.errors import OutOfReach
from infra.backup.key import Keys
from infra.backup.lsn import format_lsn
from infra.backup.scratch import RecoveryEnded, ScratchCluster
from infra.backup.target import Target, choose, reach
from infra.local.account import Account

Step = Callable[[str], None]


@dataclass
class Recovered:
    """A recovered cluster that runs aside, and how it came to be.

    `last_commit` is when the last transaction that was replayed had committed; None where the backup alone was enough.
    `lsn` is where the last record that was replayed ends. `took` are the seconds of each part.
    """

    cluster: ScratchCluster = field(repr=False)
    backup: Backup
    target: Target
    watermark: Watermark | None
    segments: int
    last_commit: datetime | None
    lsn: str
    stack: Path | None
    took: dict[str, float]


@dataclass(frozen=True)
class Recovery:
    """What to recover: a catalog's cluster, to a target; from the backup `label`, or from the one that fits best."""

    catalog: Catalog = field(repr=False)
    keys: Keys = field(repr=False)
    target: Target = field(default_factory=Target)
    label: str | None = None


@contextmanager
def recovered(
    recovery: Recovery,
    folder: Path,
    *,
    account: Account | None,
    on_step: Step = lambda _: None,
) -> Iterator[Recovered]:
    """A cluster recovered into `folder`/data, running aside for as long as the block lasts; its files stay.

    Raises:
        MedallionError: see `infra.backup.errors`. Wrong targets, gaps and damage are told before anything is replayed.
    """
    catalog, keys, target = recovery.catalog, recovery.keys, recovery.target
    took, clock = dict[str, float](), time.monotonic()

    def took_until_now(part: str) -> float:
        nonlocal clock
        now = time.monotonic()
        took[part], clock = now - clock, now
        return took[part]

    backups, watermark = catalog.backups(), catalog.watermark()
    backup = choose(backups, target, watermark, recovery.label)
    known = archive.histories(catalog, keys)
    found = archive.stretch(catalog, backup, known, timeline=target.timeline, until=_enough(backups, target))
    if target.time is None and target.name is None:
        archive.refuse_gap(found if target.lsn is None else _until(found, target.lsn), f"backup {backup.label}")
    end = _end(found, watermark)
    if max(backup.end, target.lsn or 0) > end:
        raise OutOfReach(
            f"the WAL does not reach {target if target.lsn else backup.end_lsn}",
            where=f"backup {backup.label}",
            fix=reach([backup], watermark),
        )
    found = replace(found, objects=_until(found, found.whole_until).objects)
    on_step(f"backup {backup.label} of {backup.ended_at:%Y-%m-%d %H:%M:%S+00}, then {len(found.objects)} WAL segments")
    data, log = folder / "data", folder / "wal"
    log.mkdir(mode=0o700)
    archive.fetch(catalog, found, keys, log, backup.system)
    archive.write_histories(known, log)
    on_step(f"fetched and checked the WAL in {took_until_now('log'):.1f} s")
    verify.extract(catalog, backup, keys, data, account)
    on_step(f"copied back {backup.cluster_bytes / 1024**2:,.0f} MB in {took_until_now('copy'):.1f} s")
    verify.held_against_manifest(backup, data, log)
    on_step(f"verified every file against its manifest in {took_until_now('verify'):.1f} s")
    stack = _stack(catalog, backup, keys, folder)
    cluster = ScratchCluster(data, backup.superuser, account)
    try:
        logged = _replay(cluster, log, target, watermark, end, found, lambda seen: _tell_replayed(seen, on_step))
        on_step(f"replayed up to {target} and promoted in {took_until_now('replay'):.1f} s")
        with cluster.connect() as session:
            row = session.execute("select pg_last_xact_replay_timestamp(), pg_last_wal_replay_lsn()::text").fetchone()
        assert row is not None
        yield Recovered(
            cluster, backup, target, watermark, logged.count("restored log file"), row[0], row[1], stack, took
        )
    finally:
        cluster.close()
        cluster.give_back_settings()


def _tell_replayed(segments: int, on_step: Step) -> None:
    if segments % 16 == 0:
        on_step(
            f"replayed {segments} segments, {segments // 64} GB" if segments >= 64 else f"replayed {segments} segments"
        )


def _enough(backups: list[Backup], target: Target) -> int | None:
    """A position up to which the log is enough: a moment lies before the first backup that was begun after it."""
    if target.lsn is not None:
        return target.lsn
    if target.time is None:
        return None
    return next((backup.end for backup in backups if backup.began_at > target.time), None)


def _until(found: archive.Stretch, position: int) -> archive.Stretch:
    last = (position - 1) // found.segment_bytes
    objects = {number: name for number, name in found.objects.items() if number <= last}
    return replace(found, objects=objects, missing=[run for run in found.missing if run[0] <= last])


def _end(found: archive.Stretch, watermark: Watermark | None) -> int:
    """Where the log ends. Of a segment that is not full only the archive's mark tells how much of it there is."""
    last = found.objects.get(found.whole_until // found.segment_bytes - 1, "")
    if not last.endswith(archive.PARTIAL):
        return found.whole_until
    marked = watermark is not None and watermark.timeline == found.timeline
    return watermark.position if watermark is not None and marked else found.whole_until - found.segment_bytes


def _replay(
    cluster: ScratchCluster,
    log: Path,
    target: Target,
    watermark: Watermark | None,
    end: int,
    found: archive.Stretch,
    on_segment: Callable[[int], None],
) -> str:
    _hand_over(log, cluster.account)
    settings = {"restore_command": f'test -f "{log}/%f" && cp "{log}/%f" "%p"', **target.settings()}
    where = f"recovery to {target}"
    try:
        for tried in (settings, {**settings, "recovery_target_time": "", "recovery_target_lsn": ""}):
            signal_file = cluster.data / "recovery.signal"
            signal_file.touch(mode=0o600)
            if cluster.account is not None:
                _chown(signal_file, cluster.account)
            try:
                return cluster.start(tried, on_segment=on_segment)
            except RecoveryEnded as ended:
                # Nothing follows the moment or position asked for, by which PostgreSQL would know it: it is the end.
                idle = target.time is not None and watermark is not None and target.time <= watermark.at
                idle = (idle and not found.missing) or (target.lsn is not None and target.lsn <= end)
                if not (ended.before_target and idle and tried is settings):
                    raise
        raise AssertionError("unreachable")
    except RecoveryEnded as ended:
        if ended.before_target:
            raise OutOfReach(
                f"the WAL ends at {format_lsn(end)}, before {target}"
                + (": later segments are missing" if found.missing else ""),
                where=where,
                fix="recover to an earlier moment or position, or from a backup made after the gap: "
                "`medallion backup list`",
            ) from None
        raise ended.explained(where) from None


def _stack(catalog: Catalog, backup: Backup, keys: Keys, folder: Path) -> Path | None:
    if not backup.stack:
        return None
    stack = folder / "stack"
    stack.mkdir(mode=0o700)
    with catalog.store.read(catalog.stack(backup.label)) as sealed, decrypted(sealed, keys, "stack.tar") as plain:
        embedded.unpack(plain, stack)
    return stack


def _hand_over(folder: Path, account: Account | None) -> None:
    if account is not None:
        for path in (folder, *folder.iterdir()):
            _chown(path, account)


def _chown(path: Path, account: Account) -> None:
    os.chown(path, account.uid, account.gid)
