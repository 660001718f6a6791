"""Members of zip archives, and what becomes of files after their rows are committed."""

import io
import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.kinds.files import Archive, Delete
from flows.kinds.files.folder import LocalFolder
from flows.values.errors import DeclarationError
from tests.kinds.files.loading import LINES, Drop
from tests.kinds.loading import rows

ZIPS = replace(LINES, match="**/*.zip", members="*.csv")


def packed(*members: tuple[str | zipfile.ZipInfo, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


async def test_each_member_of_an_archive_is_a_file_of_its_own(drop: Drop) -> None:
    drop.put("a.zip", packed(("one.csv", "x;y\n1;one\n"), ("deep/two.csv", "y;x\ntwo;2\n"), ("readme.txt", "hello")))
    await drop.load(ZIPS)
    assert drop.raw("x, y, _file, _line") == [
        ("1", "one", "a.zip/one.csv", 2), ("2", "two", "a.zip/deep/two.csv", 2)
    ]  # fmt: skip

    drop.put("a.zip", packed(("one.csv", "x;y\n1;one\n"), ("deep/two.csv", "x;y\n3;three\n")))
    drop.put("b.zip", packed(("same.csv", "x;y\n1;one\n")))
    again = await drop.load(ZIPS)

    assert (again.counts.rows_inserted, again.counts.rows_deleted) == (1, 1)
    assert drop.raw("x, y") == [("1", "one"), ("3", "three")]
    assert drop.files()["b.zip/same.csv"] == "same content"
    drop.put("a.zip", packed(("one.csv", "x;y\n1;one\n")))
    await drop.load(ZIPS, vanished="delete")
    assert drop.raw("x, y") == [("1", "one")]


def linked() -> zipfile.ZipInfo:
    link = zipfile.ZipInfo("link.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return link


def damaged() -> bytes:
    whole = bytearray(packed(("a.csv", "x;y\n" + "1;one\n" * 50)))
    whole[45] ^= 0xFF
    return bytes(whole)


BROKEN = {
    "path": (packed(("../out.csv", "x;y\n1;2\n")), "paths that lead out of it"),
    "absolute": (packed(("/etc/out.csv", "x;y\n1;2\n")), "paths that lead out of it"),
    "drive": (packed(("C:\\out.csv", "x;y\n1;2\n")), "paths that lead out of it"),
    "link": (packed((linked(), "/etc/passwd")), "a member of it is a link"),
    "nested": (packed(("in.csv.zip", "PK")), "are archives themselves"),
    "bomb": (packed(("a.csv", "x;y\n" + "0;0\n" * 1_000_000)), "a decompression bomb"),
    "cut": (packed(("a.csv", "x;y\n1;one\n"))[:-9], "it is no zip archive"),
    "damaged": (damaged(), "cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_an_archive_that_must_not_be_read_is_left_alone(
    drop: Drop, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.kinds.files.archives.HARMLESS", 1_000_000)
    content, reason = BROKEN[case]
    drop.put("bad.zip", content)
    drop.put("good.zip", packed(("a.csv", "x;y\n9;nine\n")))

    result = await drop.load(ZIPS, members="*")

    assert reason in str(result.warning)
    assert drop.raw("x, y") == [("9", "nine")]
    assert {path.name for path in drop.root.parent.iterdir()} == {"drop"}


@pytest.mark.parametrize("name", ["../done", "/done", ""])
def test_files_are_archived_within_the_folder(name: str) -> None:
    with pytest.raises(DeclarationError, match="no folder within"):
        Archive(name)


async def test_files_are_archived_after_the_commit_and_not_read_again(drop: Drop) -> None:
    drop.put("in/a.csv", "x;y\n1;one\n")
    drop.put("in/broken.csv", "x;x\n1;one\n")

    await drop.load(acknowledge=Archive("done"))
    drop.put("in/a.csv", "x;y\n2;two\n")
    await drop.load(acknowledge=Archive("done"), vanished="delete", same_name="add")

    left = sorted(str(path.relative_to(drop.root)) for path in drop.root.rglob("*.csv"))
    assert [path for path in left if not path.startswith("done/in/a-")] == ["done/in/a.csv", "in/broken.csv"]
    assert len(left) == 3
    assert drop.raw("x, y") == [("1", "one"), ("2", "two")]
    assert (await drop.load(acknowledge=Archive("done"), vanished="delete", same_name="add")).counts.rows_read == 0
    assert len(drop.raw("x, y")) == 2


async def test_an_archive_is_released_when_all_of_its_members_are_loaded(drop: Drop) -> None:
    drop.put("a.zip", packed(("one.csv", "x;y\n1;one\n"), ("two.csv", "x;x\n")))
    await drop.load(ZIPS, acknowledge=Delete())
    assert (drop.root / "a.zip").exists()
    drop.put("a.zip", packed(("one.csv", "x;y\n1;one\n"), ("two.csv", "x;y\n2;two\n")))
    await drop.load(ZIPS, acknowledge=Delete())
    assert list(drop.root.iterdir()) == []


async def test_a_file_that_was_not_released_after_its_commit_is_released_by_the_next_load(drop: Drop) -> None:
    drop.put("a.csv", "x;y\n1;one\n")
    with patch.object(LocalFolder, "release", side_effect=OSError(30, "Read-only file system")):
        assert (await drop.load(acknowledge=Delete())).counts.rows_inserted == 1
    assert (drop.root / "a.csv").exists()

    again = await drop.load(acknowledge=Delete())

    assert (again.counts.rows_read, list(drop.root.iterdir())) == (0, [])
    assert rows(drop.warehouse, "select released_at is not null as r from ops.files") == [{"r": True}]


async def test_new_content_that_came_meanwhile_is_not_deleted(drop: Drop) -> None:
    path = drop.put("a.csv", "x;y\n1;one\n")
    release = LocalFolder.release

    def late(folder: LocalFolder, name: str, signature: str, to: str | None) -> bool:
        drop.put("a.csv", "x;y\n2;two\n")
        return release(folder, name, signature, to)

    with patch.object(LocalFolder, "release", late):
        await drop.load(acknowledge=Delete())

    assert path.read_text() == "x;y\n2;two\n"
    assert isinstance(path, Path)
    await drop.load(acknowledge=Delete(), same_name="add")
    assert drop.raw("x, y") == [("1", "one"), ("2", "two")]
