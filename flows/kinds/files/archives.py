"""Members of zip archives, as files of their own."""

from __future__ import annotations

import fnmatch
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, cast

from flows.kinds.files.content import HARMLESS
from flows.kinds.files.left import FileProblem, Left
from flows.kinds.files.place import Found, Place

_MOST_MEMBERS = 100_000
_OF_OTHERS = ("__MACOSX/",)
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")


def is_archive(path: str) -> bool:
    """Whether a file is read as an archive."""
    return path.lower().endswith(".zip")


def with_members(
    place: Place, found: Sequence[Found], members: str, max_expansion: int, left: list[Left]
) -> list[Found]:
    """The files, with each archive replaced by its members. Archives that must not be read are added to `left`."""
    files: list[Found] = []
    for one in found:
        if not is_archive(one.path):
            files.append(one)
            continue
        try:
            files += _members(place, one, members, max_expansion)
        except FileProblem as problem:
            left.append(Left(one.path, problem.reason, problem.waits, one.quiet))
    return files


def _members(place: Place, archive: Found, members: str, max_expansion: int) -> list[Found]:
    try:
        with place.seekable(archive) as file, zipfile.ZipFile(file) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError):
        raise FileProblem("it is no zip archive, or was cut short", waits=True) from None
    names = [entry.filename for entry in entries]
    if len(entries) > _MOST_MEMBERS:
        raise FileProblem(f"it has more than {_MOST_MEMBERS:,} members")
    if outside := [name for name in names if _leaves(name)]:
        raise FileProblem(f"{len(outside):,} of its members have paths that lead out of it")
    if len(set(names)) < len(names):
        raise FileProblem("two of its members have one name")
    if any(stat.S_ISLNK(entry.external_attr >> 16) for entry in entries):
        raise FileProblem("a member of it is a link")
    if any(entry.flag_bits & 1 for entry in entries):
        raise FileProblem("it is encrypted")
    if sum(entry.file_size for entry in entries) > max(HARMLESS, max_expansion * archive.size):
        raise FileProblem(
            f"it is more than {max_expansion} times as large as its packed bytes: a decompression bomb, or declare a "
            "larger max_expansion"
        )
    chosen = [
        entry
        for entry in entries
        if fnmatch.fnmatchcase(entry.filename, members) and not entry.filename.startswith(_OF_OTHERS)
    ]
    if nested := [entry.filename for entry in chosen if entry.filename.lower().endswith(_ARCHIVES)]:
        raise FileProblem(f"{len(nested):,} of its members are archives themselves")
    return [
        replace(
            archive,
            path=f"{archive.path}/{entry.filename}",
            size=entry.file_size,
            archive=archive.path,
            member=entry.filename,
        )
        for entry in sorted(chosen, key=lambda entry: entry.filename)
    ]


def _leaves(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or "\\" in name or ".." in parts or ":" in parts[0] or "\0" in name


@contextmanager
def member(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """A member's bytes. Its checksum is compared at its end."""
    with zipfile.ZipFile(file) as opened, opened.open(name) as content:
        yield cast("BinaryIO", content)
