"""Backups, the archived log and drills that are older than they should be are found."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.values.settings import settings
from infra.backup.catalog import Backup, Catalog, Watermark
from infra.backup.overdue import overdue
from infra.backup.store import FolderStore

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
WITHIN = timedelta(hours=36), timedelta(days=9)


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setenv("MEDALLION_BACKUP_TO", str(tmp_path))
    settings.cache_clear()
    return Catalog(FolderStore(tmp_path), "7")


def backup(ended: datetime) -> Backup:
    return Backup(
        label=f"{ended:%Y%m%dT%H%M%SZ}",
        system="7",
        server="18.6",
        timeline=1,
        start_lsn="0/28",
        end_lsn="0/190",
        began_at=ended - timedelta(minutes=1),
        ended_at=ended,
        key="age1",
        cluster_bytes=1,
        kept_bytes=1,
        sha256="",
        segment_bytes=16 << 20,
        superuser="postgres",
        seconds=1.0,
    )


def found(catalog: Catalog) -> list[str]:
    settings.cache_clear()
    return [each.name for each in overdue(NOW, *WITHIN)]


def test_without_a_backup_one_is_overdue(catalog: Catalog) -> None:
    assert found(catalog) == ["backup overdue"]


def test_what_is_young_enough_is_not_told(catalog: Catalog) -> None:
    catalog.save(backup(NOW - timedelta(days=30)))
    catalog.save(backup(NOW - timedelta(hours=30)))
    catalog.mark(Watermark(1, "0/190", NOW - timedelta(seconds=20)))
    catalog.record_drill("a", {"began_at": NOW - timedelta(days=7)})
    assert found(catalog) == []


def test_what_is_too_old_is_told(catalog: Catalog) -> None:
    catalog.save(backup(NOW - timedelta(hours=40)))
    assert found(catalog) == ["backup overdue"], "the first drill is not overdue yet, and no log was ever archived"
    catalog.save(backup(NOW - timedelta(days=20)))
    catalog.mark(Watermark(1, "0/190", NOW - timedelta(minutes=11)))
    assert found(catalog) == ["backup overdue", "WAL archive behind", "drill overdue"]
    catalog.record_drill("a", {"began_at": NOW - timedelta(days=10)})
    assert found(catalog) == ["backup overdue", "WAL archive behind", "drill overdue"]
