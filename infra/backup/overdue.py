"""Whether backups, the archived log and restore drills are as young as they should be; for `medallion watch`."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from flows.operations.alerts import Condition
from infra.backup.catalog import Catalog, open_catalog
from infra.backup.errors import NoBackup
from infra.backup.store import open_store

#: A log that is archived every ten seconds, and has not been for so long, is not archived.
_LOG_WITHIN = timedelta(minutes=10)


def overdue(now: datetime, backup_within: timedelta, drill_within: timedelta) -> list[Condition]:
    """What is overdue in the configured store. Reads the store, which may be in the network.

    Raises StoreFailed.
    """
    try:
        catalog = open_catalog(open_store())
    except NoBackup:
        return [_backup("there is none yet")]
    return [*_overdue(catalog, now, backup_within, drill_within)]


def _overdue(catalog: Catalog, now: datetime, backup_within: timedelta, drill_within: timedelta) -> Iterator[Condition]:
    backups, mark = catalog.backups(), catalog.watermark()
    newest = max((backup.ended_at for backup in backups), default=None)
    if newest is None:
        yield _backup("there is none")
    elif now - newest > backup_within:
        yield _backup(f"the newest was made at {_shown(newest)} UTC")
    if mark is not None and now - mark.at > _LOG_WITHIN:
        yield Condition(
            "WAL archive behind",
            "backups",
            "error",
            f"the write-ahead log is archived up to {_shown(mark.at)} UTC: what was committed since is not safe",
            "start the archiver: `medallion up`, or the service that runs `medallion backup archive`",
            cause="backups: archive",
        )
    drills = [_ended(drill) for drill in catalog.drills()]
    first = min((backup.ended_at for backup in backups), default=now)
    last = max((ended for ended in drills if ended is not None), default=None)
    if now - (last or first) > drill_within:
        what = f"the last one was at {_shown(last)} UTC" if last else "no backup was ever restored on trial"
        yield Condition("drill overdue", "backups", "warning", what, "run `medallion drill`")


def _backup(what: str) -> Condition:
    fix = "run `medallion backup`; see why the deployment `backup` does not run or fails"
    return Condition("backup overdue", "backups", "error", what, fix, cause="backups: none")


def _ended(drill: dict[str, object]) -> datetime | None:
    at = drill.get("began_at")
    return datetime.fromisoformat(str(at)).astimezone(UTC) if at else None


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
