"""Retention of backups and WAL.

keep      keep so many of the newest backups
days      and what recovery to any moment of so many days needs
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.backup.archive import PARTIAL
from infra.backup.catalog import Backup, Catalog
from infra.backup.lsn import parse_segment


@dataclass(frozen=True, slots=True)
class Expiry:
    """What would be deleted: backups, and WAL before the oldest kept one."""

    expired: Sequence[Backup]
    kept: Sequence[Backup]
    log: Sequence[str]
    log_bytes: int


def plan(
    catalog: Catalog, *, keep: int | None = None, days: float | None = None, now: datetime | None = None
) -> Expiry:
    """What to delete: nothing if neither `keep` nor `days` is given. The newest backup is always kept."""
    backups = catalog.backups()
    wanted = {backup.label for backup in backups[-1:]}
    if keep is not None:
        wanted |= {backup.label for backup in backups[-max(1, keep) :]}
    if days is not None:
        since = (now or datetime.now(UTC)) - timedelta(days=days)
        wanted |= {backup.label for backup in backups if backup.ended_at >= since}
        # Moments right after `since` are recovered from the backup before it.
        wanted |= {backup.label for backup in [each for each in backups if each.ended_at < since][-1:]}
    if keep is None and days is None:
        wanted = {backup.label for backup in backups}
    kept = [backup for backup in backups if backup.label in wanted]
    expired = [backup for backup in backups if backup.label not in wanted]
    log = list[str]()
    size = 0
    if kept:
        # Of every timeline: WAL before the oldest start is not needed by any kept backup. Histories are kept.
        first = min(backup.start for backup in kept) // kept[0].segment_bytes
        for name, object_ in catalog.segments().items():
            parsed = parse_segment(name.removesuffix(PARTIAL), kept[0].segment_bytes)
            if parsed is not None and parsed[1] < first:
                log.append(name)
                size += object_.bytes
    return Expiry(expired, kept, log, size)


def expire(catalog: Catalog, expiry: Expiry) -> None:
    """Delete it: backups before the WAL that they need, so that a killed run leaves none that cannot be recovered."""
    for backup in expiry.expired:
        catalog.forget(backup.label)
    for name in expiry.log:
        catalog.store.delete(catalog.wal(name))
