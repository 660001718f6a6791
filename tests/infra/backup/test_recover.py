"""Damage, then recovery: to the end of the log, to moments, positions and marks; what cannot be, is told first."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from infra.backup import key
from infra.backup.catalog import Backup
from infra.backup.errors import Damaged, KeyRefused, LogGap, OutOfReach
from infra.backup.lsn import parse_lsn, segment_name
from infra.backup.recover import Recovered
from infra.backup.target import Target, parse_target
from infra.backup.verify import verify
from tests.infra.backup.conftest import Backed
from tests.nightly import nightly

pytestmark = pytest.mark.xdist_group("backup")


def marks(found: Recovered, *texts: str) -> list[str]:
    """Which of the texts are in the recovered table."""
    with found.cluster.connect("warehouse") as session:
        held = {row[0] for row in session.execute("select mark from public.marks").fetchall()}
    return [text for text in texts if text in held]


def position(backed: Backed) -> str:
    with psycopg.connect(backed.warehouse.url("admin")) as session:
        row = session.execute("select pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return str(row[0])


def committed(backed: Backed, *texts: str) -> None:
    """Commit a row for each text."""
    for text in texts:
        backed.run(f"insert into public.marks values ('{text}')")


@pytest.fixture(scope="module")
def taken(backed: Backed) -> Backup:
    """The backup that these tests recover from, each to a moment after those before it."""
    backed.run("create table public.marks (mark text)")
    committed(backed, "before")
    return backed.back_up()


def test_a_dropped_table_comes_back_as_it_was_right_before(backed: Backed, taken: Backup) -> None:
    with backed.archived():
        committed(backed, "after the backup")
        moment = backed.now()
        backed.run("alter table public.marks rename to dropped")
    backed.run("alter table public.dropped rename to marks")

    with backed.recovered(parse_target(moment)) as found:
        assert marks(found, "before", "after the backup") == ["before", "after the backup"]
        assert found.backup == taken


def test_the_end_of_the_log_holds_every_commit_though_its_segment_is_not_full(backed: Backed, taken: Backup) -> None:
    with backed.archived():
        committed(backed, "last of all")

    with backed.recovered() as found:
        assert marks(found, "before", "last of all") == ["before", "last of all"]
        assert found.last_commit is not None


@pytest.mark.parametrize("kind", ["position", *nightly("mark")])
def test_recovery_ends_at_a_position_or_a_mark(backed: Backed, taken: Backup, kind: str) -> None:
    wanted, unwanted = f"wanted by {kind}", f"unwanted by {kind}"
    with backed.archived():
        committed(backed, wanted)
        with psycopg.connect(backed.private.cluster.url("medallion_backup", "postgres"), autocommit=True) as session:
            session.execute(f"select pg_create_restore_point('before the migration of {kind}')".encode())
        lsn = position(backed)
        committed(backed, unwanted)

    target = parse_target(lsn=lsn) if kind == "position" else parse_target(name="before the migration of mark")
    with backed.recovered(target) as found:
        assert marks(found, wanted, unwanted) == [wanted]


def test_a_moment_after_the_last_commit_is_reached_though_no_commit_follows_it(backed: Backed, taken: Backup) -> None:
    """PostgreSQL itself gives up there: it looks for a commit later than the moment."""
    with backed.archived():
        committed(backed, "then nothing")
        moment = backed.now()

    with backed.recovered(parse_target(moment)) as found:
        assert marks(found, "then nothing") == ["then nothing"]


@pytest.mark.parametrize(
    ("away", "why"),
    [(timedelta(days=-1), "the oldest backup is newer than"), (timedelta(days=1), "the WAL ends before")],
)
def test_a_moment_out_of_reach_is_refused_with_what_is_possible(
    backed: Backed, taken: Backup, away: timedelta, why: str
) -> None:
    with (
        pytest.raises(OutOfReach, match=why) as refused,
        backed.recovered(Target(time=datetime.fromisoformat(backed.now()) + away)),
    ):
        pass

    assert f"choose a moment from {backed.catalog.backups()[0].ended_at:%Y-%m-%d %H:%M:%S}" in refused.value.fix


@pytest.fixture(scope="module")
def segments(backed: Backed, taken: Backup) -> list[Path]:
    """The files in the archive of three segments, a mark in each."""
    with backed.archived():
        names = []
        for number in (1, 2, 3):
            committed(backed, f"in segment {number}")
            where = parse_lsn(position(backed)) // taken.segment_bytes
            names.append(backed.catalog.wal(segment_name(taken.timeline, where, taken.segment_bytes)))
            backed.run("select pg_switch_wal()")
    return [backed.root / "store" / name for name in names]


def test_a_missing_segment_is_told_before_anything_is_replayed(backed: Backed, segments: list[Path]) -> None:
    missing = segments[1]
    content = missing.read_bytes()
    missing.unlink()
    try:
        with (
            pytest.raises(LogGap, match=f"the first is {missing.name.removesuffix('.zst.age')}") as refused,
            backed.recovered(),
        ):
            pass
        whole_until = refused.value.fix.split("complete up to ")[1].split(":")[0]

        with backed.recovered(parse_target(lsn=whole_until)) as found:  # as the message proposes
            assert marks(found, "in segment 1", "in segment 2") == ["in segment 1"]
    finally:
        missing.write_bytes(content)


def flipped(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [flipped, cut])
def test_a_damaged_segment_is_told_before_anything_is_replayed(
    backed: Backed, segments: list[Path], damage: Callable[[bytes], bytes]
) -> None:
    damaged = segments[1]
    content = damaged.read_bytes()
    damaged.write_bytes(damage(content))
    try:
        with pytest.raises(Damaged, match=damaged.name.removesuffix(".zst.age")), backed.recovered():
            pass
    finally:
        damaged.write_bytes(content)


def test_a_segment_under_another_ones_name_is_not_taken_for_it(backed: Backed, segments: list[Path]) -> None:
    """Each is sealed by itself, so nothing but its own header tells which one it is."""
    _, second, third = segments
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    try:
        with pytest.raises(Damaged, match="does not contain the segment in its name"), backed.recovered():
            pass
    finally:
        second.write_bytes(content)


@pytest.mark.parametrize("damage", [flipped, cut])
def test_a_damaged_backup_is_found_when_it_is_read_back(
    backed: Backed, taken: Backup, damage: Callable[[bytes], bytes]
) -> None:
    file = backed.root / "store" / backed.catalog.base(taken.label)
    content = file.read_bytes()
    file.write_bytes(damage(content))
    try:
        with pytest.raises(Damaged, match=taken.label):
            verify(backed.catalog, taken, backed.keys)
    finally:
        file.write_bytes(content)


def test_without_its_key_no_backup_opens_and_with_the_older_one_it_does(
    backed: Backed, taken: Backup, tmp_path: Path
) -> None:
    other = key.make(tmp_path / "another.key")
    with pytest.raises(KeyRefused, match="none of the configured keys decrypts it"):
        verify(backed.catalog, taken, other)

    rotated = key.make(backed.root / "backup.key")

    assert rotated.name != taken.key
    verify(backed.catalog, taken, rotated)


def test_nothing_of_what_is_kept_can_be_read_without_the_key(backed: Backed, taken: Backup) -> None:
    with backed.archived():
        committed(backed, "a very particular text")

    kept = [path.read_bytes() for path in (backed.root / "store").rglob("*") if path.is_file()]
    secrets = [
        b"a very particular text",
        b"AGE-SECRET-KEY",
        *map(str.encode, backed.private.cluster.passwords.values()),
    ]
    assert [secret for secret in secrets for content in kept if secret in content] == []
    assert len(kept) > 3
