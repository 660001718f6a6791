"""What a manifest says of files."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from typing import Any

from flows.kinds.files.left import FileProblem
from flows.kinds.files.place import Found, Place
from flows.kinds.files.ready import Manifest

_LONGEST = 50_000_000


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a manifest."""

    name: str
    size: int | None = None
    rows: int | None = None
    sha256: str | None = None

    def hold_against(self, size: int, rows: int, digest: str) -> None:
        """Raises:
        FileProblem: the file contradicts the manifest.
        """
        if self.size is not None and self.size != size:
            raise FileProblem(f"it has {size:,} bytes, and its manifest says {self.size:,}", waits=size < self.size)
        if self.rows is not None and self.rows != rows:
            raise FileProblem(f"it has {rows:,} rows, and its manifest says {self.rows:,}")
        if self.sha256 is not None and self.sha256.lower() != digest:
            raise FileProblem("its hash is not that of its manifest")


def listed_in(place: Place, manifest: Manifest, folder: str, beside: dict[str, Found]) -> dict[str, Listed]:
    """The files of a folder that its manifests list, by name.

    Raises:
        FileProblem: a manifest cannot be read.
    """
    files: dict[str, Listed] = {}
    for name, found in sorted(beside.items()):
        if not fnmatch.fnmatchcase(name, manifest.pattern):
            continue
        if found.size > _LONGEST:
            raise FileProblem(f"its manifest {name} is larger than {_LONGEST:,} bytes")
        with place.opened(found) as file:
            data = file.read(_LONGEST)
        try:
            document = json.loads(data)
            entries = document["files"] if isinstance(document, dict) else document
            files |= {one.name: one for one in map(_entry, entries)}
        except (ValueError, KeyError, TypeError):
            raise FileProblem(
                f'its manifest {name} cannot be read: it is JSON such as {{"files": [{{"name": "a.csv"}}]}}', waits=True
            ) from None
    return files


def _entry(entry: Any) -> Listed:
    if isinstance(entry, str):
        return Listed(entry.rpartition("/")[2])
    size, rows, digest = entry.get("size"), entry.get("rows"), entry.get("sha256")
    return Listed(
        str(entry["name"]).rpartition("/")[2],
        None if size is None else int(size),
        None if rows is None else int(rows),
        None if digest is None else str(digest),
    )
