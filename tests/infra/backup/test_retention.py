"""What may go, and what recovery still needs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.backup import retention
from infra.backup.catalog import Backup, Catalog
from infra.backup.kept import put
from infra.backup.lsn import format_lsn, segment_name
from infra.backup.store import FolderStore

SIZE = 16 << 20
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A backup a day for ten days, two segments of log for each, on timeline 1 and, from day 6, on timeline 2."""
    found = Catalog(FolderStore(tmp_path), "7")
    for day in range(10):
        ended = NOW - timedelta(days=9 - day)
        timeline = 1 if day < 6 else 2
        backup = Backup(
            label=f"day{day}",
            system="7",
            server="18.6",
            timeline=timeline,
            start_lsn=format_lsn(day * 2 * SIZE + 40),
            end_lsn=format_lsn(day * 2 * SIZE + 400),
            began_at=ended - timedelta(minutes=1),
            ended_at=ended,
            key="age1",
            cluster_bytes=1,
            kept_bytes=1,
            sha256="",
            segment_bytes=SIZE,
            superuser="postgres",
            seconds=1.0,
        )
        put(found.store, found.base(backup.label), b"base")
        found.save(backup)
        for number in (day * 2, day * 2 + 1):
            put(found.store, found.wal(segment_name(timeline, number, SIZE)), b"log")
    put(found.store, found.wal("00000002.history"), b"history")
    return found


@pytest.mark.parametrize(
    ("keep", "days", "stays"),
    [
        (None, None, range(10)),
        (3, None, range(7, 10)),
        (1, None, [9]),
        (100, None, range(10)),
        # To be recovered at the beginning of the third day before now, the backup before it is needed.
        (None, 2.5, range(6, 10)),
        (None, 0, [9]),
        (5, 2.5, range(5, 10)),
    ],
)
def test_what_stays_is_what_was_asked_for_and_all_that_it_needs(
    catalog: Catalog, keep: int | None, days: float | None, stays: range | list[int]
) -> None:
    expiry = retention.plan(catalog, keep=keep, days=days, now=NOW + timedelta(seconds=1))
    retention.expire(catalog, expiry)

    kept = [int(backup.label[3:]) for backup in catalog.backups()]
    assert kept == [*stays]
    numbers = {int(name[8:16], 16) * 256 + int(name[16:], 16) for name in catalog.segments() if "." not in name}
    assert numbers == set(range(kept[0] * 2, 20))
    assert "00000002.history" in catalog.segments()
    assert catalog.unfinished() == []


def test_a_backup_goes_before_the_log_it_needs(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed half way, nothing is listed that cannot be recovered."""
    deleted: list[str] = []
    monkeypatch.setattr(FolderStore, "delete", lambda _, name: deleted.append(name))
    retention.expire(catalog, retention.plan(catalog, keep=2))

    first_of_log = next(place for place, name in enumerate(deleted) if "/wal/" in name)
    assert all("/base/" in name for name in deleted[:first_of_log])
    assert deleted[0].endswith("/backup.json")
