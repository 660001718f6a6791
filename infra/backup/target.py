"""The recovery target, and the choice of the backup."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.backup.catalog import Backup, Watermark
from infra.backup.errors import NoBackup, OutOfReach
from infra.backup.lsn import format_lsn, parse_lsn


@dataclass(frozen=True, slots=True)
class Target:
    """A moment, a position, a named restore point, or the end of the log; at most one is given."""

    time: datetime | None = None
    lsn: int | None = None
    name: str | None = None
    timeline: int | None = None

    def __str__(self) -> str:
        if self.time is not None:
            return f"{self.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f+00}"
        if self.lsn is not None:
            return format_lsn(self.lsn)
        return f"the restore point {self.name}" if self.name is not None else "the end of the WAL"

    def settings(self) -> dict[str, str]:
        """PostgreSQL's settings that stop there."""
        found = {"recovery_target_timeline": str(self.timeline or "latest"), "recovery_target_action": "promote"}
        if self.time is not None:
            found["recovery_target_time"] = f"{self.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f+00}"
        if self.lsn is not None:
            found["recovery_target_lsn"] = format_lsn(self.lsn)
        if self.name is not None:
            found["recovery_target_name"] = self.name
        return found


def parse_target(
    time: str | None = None, lsn: str | None = None, name: str | None = None, timeline: int | None = None
) -> Target:
    """The target that a person wrote. A moment without a zone is not guessed at. Raises OutOfReach."""
    if sum(part is not None for part in (time, lsn, name)) > 1:
        raise OutOfReach(
            "more than one target was given", where="restore", fix="give one of --to, --to-lsn and --to-name"
        )
    try:
        moment = None if time is None else datetime.fromisoformat(time)
        position = None if lsn is None else parse_lsn(lsn)
    except ValueError:
        raise OutOfReach(
            f"this is not a {'timestamp' if time is not None else 'WAL position'}: {time or lsn}",
            where="restore",
            fix="write it as '2026-11-26 10:00:00+00', or as 0/3000028",
        ) from None
    if moment is not None and moment.tzinfo is None:
        raise OutOfReach(
            f"the timestamp has no time zone: {time}", where="restore", fix=f"write it as '{time}+00' for UTC"
        )
    return Target(moment, position, name, timeline)


def choose(backups: Sequence[Backup], target: Target, watermark: Watermark | None, label: str | None = None) -> Backup:
    """The youngest backup from which the target can be reached, or the one of that label.

    Raises NoBackup, OutOfReach; both say what is possible.
    """
    if not backups:
        raise NoBackup("there is no backup here", where="restore", fix="`medallion backup` makes one")
    chosen = [backup for backup in backups if label is None or backup.label == label]
    if not chosen:
        raise NoBackup(
            f"backup {label} does not exist",
            where="restore",
            fix=f"choose one of {', '.join(backup.label for backup in backups)}",
        )
    possible = reach(chosen, watermark)
    if target.time is not None:
        if watermark is not None and target.time > watermark.at:
            raise OutOfReach(f"the WAL ends before {target}", where="restore", fix=possible)
        chosen = [backup for backup in chosen if backup.ended_at <= target.time]
    if target.lsn is not None:
        chosen = [backup for backup in chosen if backup.end <= target.lsn]
    if not chosen:
        raise OutOfReach(f"the oldest backup is newer than {target}", where="restore", fix=possible)
    return chosen[-1]


def reach(backups: Sequence[Backup], watermark: Watermark | None) -> str:
    """What can be recovered, in words."""
    first = backups[0]
    begin = f"{first.ended_at.astimezone(UTC):%Y-%m-%d %H:%M:%S+00} ({first.end_lsn})"
    if watermark is None:
        return f"recover to {begin}"
    end = f"{watermark.at.astimezone(UTC):%Y-%m-%d %H:%M:%S+00} ({watermark.lsn})"
    return f"choose a moment from {begin} to {end}"
