"""Files archived or deleted after the commit of their rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from flows.kinds.files.declared import Files
from flows.kinds.files.place import Found, Place
from flows.kinds.files.release import Archive
from flows.kinds.files.state import KnownFile, KnownFiles, mark_released, read_files
from flows.kinds.files.table import FileTable
from flows.publish.run import LoadRun
from flows.values.errors import SourceError

_log = logging.getLogger(__name__)


async def release_files(run: LoadRun[Files, FileTable], listed: Iterable[Found]) -> None:
    """Release every file that was listed, and lies there as it was read.

    One that cannot be moved is tried again after each load.

    They are marked before: a file that is gone and not marked would count as one that its sender removed.
    """
    place: Place = run.origin
    known = await read_files(run.warehouse, run.target.name)
    ready = _ready(listed, known)
    await mark_released(run.warehouse, run.target.name, [one.path for files in ready.values() for one in files])
    failed = []
    for path, files in ready.items():
        to = None
        try:
            if isinstance(run.source.acknowledge, Archive):
                to = await asyncio.to_thread(_free, place, f"{run.source.acknowledge.folder}/{path}", files[0].digest)
            await asyncio.to_thread(place.release, path, files[0].signature, to)
        except OSError as problem:
            failed.append(str(problem.strerror))
        except SourceError as problem:
            failed.append(problem.what)
    if failed:
        _log.warning(
            "%s: %d files could not be archived or deleted (%s): check the rights of this process; the next load tries "
            "again",
            run.target.where,
            len(failed),
            failed[0],
        )


def _ready(listed: Iterable[Found], known: KnownFiles) -> dict[str, list[KnownFile]]:
    """Listed files that were read and not written to since, by path; of an archive, if each of its members was read."""
    ready: dict[str, list[KnownFile]] = {}
    left: set[str] = set()
    for found in listed:
        one = known.now.get(found.path)
        if one is not None and one.signature == found.signature:
            ready.setdefault(found.at, []).append(one)
        else:
            left.add(found.at)
    return {path: files for path, files in ready.items() if path not in left}


def _free(place: Place, path: str, digest: str) -> str:
    """A path where nothing lies."""
    if place.look(path) is None:
        return path
    folder, _, name = path.rpartition("/")
    stem, dot, ending = name.partition(".")
    return f"{folder}/{stem}-{digest[:12]}{dot}{ending}"
