"""What a load of a table of files would do: which files are new, complete, changed or gone. Touches nothing."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.declare import Replace
from flows.kinds.files.archives import is_archive, with_members
from flows.kinds.files.declared import Files
from flows.kinds.files.left import FileProblem, Left, in_words
from flows.kinds.files.manifest import Listed, listed_in
from flows.kinds.files.place import Found, Place
from flows.kinds.files.ready import Manifest, Marker, Ready, Settled
from flows.kinds.files.state import KnownFile, KnownFiles, read_files
from flows.kinds.files.table import FileTable
from flows.landing.table import Target, raw_columns
from flows.publish.identity import refuse_other_key, refuse_other_masks
from flows.publish.strategy import strategy_of
from flows.state import ledger, reloads
from flows.values.plan import LoadPlan

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class FilesPlan:
    """A table's next load.

    `pending` are the files to read, in order; `listed` what manifests say of them. `left` are those skipped; `gone`
    the contents that no file has any more, if their rows are to be deleted. `raw` are raw's columns, None before the
    first load. `rereads`: files are read that raw has already.
    """

    plan: LoadPlan
    target: Target
    raw: Mapping[str, str] | None
    known: KnownFiles
    pending: Sequence[Found]
    left: Sequence[Left]
    listed: Mapping[str, Listed] = field(default_factory=dict)
    present: Mapping[str, Found] = field(default_factory=dict)
    gone: Sequence[KnownFile] = ()
    rereads: bool = False

    @property
    def first(self) -> bool:
        """Whether raw has no such table yet."""
        return self.raw is None


async def plan_files(warehouse: Connection[Record], place: Place, source: Files, table: FileTable) -> FilesPlan:
    """The plan of the table's load."""
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    known, why = KnownFiles(), None
    if raw is not None:
        await refuse_other_key(warehouse, target, table.keys)
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        refuse_other_masks(state, raw, table, target.where)  # type: ignore[arg-type]  # reads masks only
        known = await read_files(warehouse, target.name)
        why = await reloads.reason(warehouse, source.name, table.name)
    left: list[Left] = []
    found = place.matching(table.pattern, left)
    complete, listed = complete_files(place, source.ready, found, left)
    complete = with_members(place, complete, table.members, source.max_expansion, left)
    present = {one.path: one for one in complete}
    there = {one.path for one in found}
    if isinstance(table.load, Replace):
        complete = complete[-1:]
    pending = [one for one in complete if why is not None or not _is_known(one, known)]
    gone = _gone(present, there, known) if table.vanished == "delete" else []
    strategy = "initial" if raw is None else "reload" if why else strategy_of(table)
    if strategy == "reload" and isinstance(table.load, Replace):
        strategy = "replace"
    plan = LoadPlan(
        source.name,
        table.name,
        strategy,
        _reason(pending, gone, known, why),
        warning=in_words(left),
    )
    return FilesPlan(plan, target, raw, known, pending, left, listed, present, gone, rereads=why is not None)


def _is_known(found: Found, known: KnownFiles) -> bool:
    """Whether nothing was written to the file since it was read, and raw still has what it holds."""
    before = known.now.get(found.path)
    return before is not None and before.signature == found.signature and before.digest in known.held


def _gone(present: Mapping[str, Found], there: set[str], known: KnownFiles) -> list[KnownFile]:
    """Contents that no file has any more. A file that was only renamed is found when it is read.

    A file that is there and not complete keeps its rows; so do the members of an archive that is.
    """

    def is_there(path: str) -> bool:
        return path in present or path in there or any(path.startswith(f"{one}/") for one in left_archives)

    opened = {one.archive for one in present.values()}
    left_archives = [path for path in there if is_archive(path) and path not in opened]
    kept = {one.digest for path, one in known.now.items() if is_there(path) or one.released}
    lost = [one for one in known.held.values() if one.digest not in kept and not one.released]
    return [one for one in lost if not is_there(one.path)]


def _reason(pending: Sequence[Found], gone: Sequence[KnownFile], known: KnownFiles, why: str | None) -> str:
    size = sum(one.size for one in pending)
    parts = [f"{len(pending):,} {'file' if len(pending) == 1 else 'files'} to read, {size / 1e6:,.1f} MB"]
    if not pending:
        parts = ["no new file"]
    if known.held:
        parts.append(f"{len(known.held):,} loaded before")
    if gone:
        parts.append(f"{len(gone):,} gone")
    if why is not None:
        parts.append(why)
    return "; ".join(parts)


def complete_files(
    place: Place, ready: Ready, found: Sequence[Found], left: list[Left]
) -> tuple[list[Found], dict[str, Listed]]:
    """The complete files, and what manifests say of them; the others are added to `left`."""
    match ready:
        case Settled() as settled:
            untold = 'its place does not tell when it was written: declare Marker, Manifest, or Settled("0 s")'
            told, silent = _split(found, lambda one: one.quiet is not None or not settled.seconds)
            complete, growing = _split(told, lambda one: (one.quiet or 0) >= settled.seconds)
            left += [Left(one.path, untold) for one in silent]
            left += [Left(one.path, "it was written to a moment ago", waits=True) for one in growing]
            return complete, {}
        case Marker() as marker:
            beside = _beside(place, found)
            # A pattern such as `*.csv*` has the markers as well, which wait for none of their own.
            markers = {folder: {marker.of(name) for name in there} for folder, there in beside.items()}
            files = [one for one in found if one.name not in markers[one.folder]]
            complete, unmarked = _split(files, lambda one: marker.of(one.name) in beside[one.folder])
            left += [Left(one.path, "its marker is not there yet", waits=True, quiet=one.quiet) for one in unmarked]
            return complete, {}
        case Manifest() as manifest:
            return _in_manifests(place, manifest, found, left)


def _split(found: Iterable[Found], is_one: Callable[[Found], bool]) -> tuple[list[Found], list[Found]]:
    """Those of which it holds, and the others."""
    yes: list[Found] = []
    no: list[Found] = []
    for one in found:
        (yes if is_one(one) else no).append(one)
    return yes, no


def _beside(place: Place, found: Sequence[Found]) -> dict[str, dict[str, Found]]:
    return {folder: place.beside(folder) for folder in {one.folder for one in found}}


def _in_manifests(
    place: Place, manifest: Manifest, found: Sequence[Found], left: list[Left]
) -> tuple[list[Found], dict[str, Listed]]:
    listed: dict[str, Listed] = {}
    broken: dict[str, FileProblem] = {}
    for folder, beside in _beside(place, found).items():
        try:
            for name, said in listed_in(place, manifest, folder, beside).items():
                listed[f"{folder}/{name}" if folder else name] = said
        except FileProblem as problem:
            broken[folder] = problem
    complete = []
    for one in found:
        if fnmatch.fnmatchcase(one.name, manifest.pattern):
            continue
        if (unread := broken.get(one.folder)) is not None:
            left.append(Left(one.path, unread.reason, unread.waits, one.quiet))
        elif one.path in listed:
            complete.append(one)
        else:
            left.append(Left(one.path, "no manifest lists it yet", waits=True, quiet=one.quiet))
    return complete, listed
