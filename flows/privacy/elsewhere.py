"""Where a subject's values may be beside the warehouse: files of the home, and Prefect's database.

They are searched for words and reported; nothing is deleted there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flows.access import addresses
from flows.declare.subject import Subject
from flows.privacy.places import find_documents, find_places
from flows.privacy.references import Traces
from flows.privacy.search import Remains, search
from flows.values.connection import DatabaseConnection

#: The cluster's own files, searched as tables; and its backups, which keep what they have for their own time.
_SKIPPED = ("postgres", "backups", "run")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Folders whose files are searched, without those of the cluster; and databases by what they are called."""

    folders: tuple[Path, ...] = ()
    databases: dict[str, DatabaseConnection] = field(default_factory=dict, repr=False)

    async def search(self, subject: Subject, traces: Traces) -> list[Remains]:
        """Files and tables with one of the words, ignoring case; in databases with one of the keys, too."""
        found = [line for folder in self.folders for line in search_files(folder, traces.words)]
        for name, address in self.databases.items():
            async with addresses.connect(address, side="warehouse", application="medallion erase") as connection:
                places = await find_documents(connection, await find_places(connection))
                lines = await search(connection, places, subject, traces)
                found += [replace(line, place=f"{name}: {line.place}") for line in lines]
        return found


def search_files(folder: Path, words: Sequence[str]) -> list[Remains]:
    """Files below the folder with one of the words. `rows` is 1: a file is not counted further."""
    sought = sorted({_plain(word).encode() for word in words})
    return [
        Remains(f"file {path.relative_to(folder)}", "", 1)
        for path in _files(folder)
        if sought and _has_one(path, sought)
    ]


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not (Path(parent) == folder and name in _SKIPPED))
        yield from (path for name in sorted(names) if (path := Path(parent) / name).is_file() and not path.is_symlink())


def _has_one(path: Path, sought: Sequence[bytes]) -> bool:
    """In pieces that overlap by the longest word."""
    kept, overlap = b"", 4 * max(len(word) for word in sought)
    try:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                text = kept + piece
                plain = _plain(text.decode(errors="replace")).encode()
                if any(word in plain for word in sought):
                    return True
                kept = text[-overlap:]
    except FileNotFoundError:  # a run's own, gone meanwhile
        pass
    return False


def _plain(text: str) -> str:
    """Results of runs are documents in documents, which double each backslash."""
    return re.sub(r"\\+", r"\\", text.lower())
