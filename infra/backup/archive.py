"""The archived write-ahead log: its extent, its gaps, and fetching it back."""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.backup.catalog import Backup, Catalog
from infra.backup.encrypted import CHUNK, decrypted, decrypted_bytes
from infra.backup.errors import Damaged, LogGap, OutOfReach
from infra.backup.kept import get
from infra.backup.key import Keys
from infra.backup.lsn import Branch, branches, format_lsn, parse_segment, runs, segment_name, timeline_of

PARTIAL = ".partial"
#: A position may stand behind the header of a page of which nothing is written yet; the longest has 40 bytes.
PAGE_HEADER = 40
# The first page of a segment (xlog_internal.h): magic, flags, timeline, address; then the system and the sizes.
_HEADER = struct.Struct("=HHIQI4xQI")
_AT_ONCE = 4


@dataclass(frozen=True)
class Stretch:
    """The WAL from a backup on: segments by number, their objects, and the first missing one.

    `missing` are ranges of missing numbers before later ones.
    """

    chain: Sequence[Branch]
    objects: Mapping[int, str]
    missing: Sequence[tuple[int, int]]
    segment_bytes: int

    @property
    def timeline(self) -> int:
        return self.chain[0].timeline

    @property
    def whole_until(self) -> int:
        """The position up to which no segment is missing."""
        last = self.missing[0][0] if self.missing else max(self.objects, default=-1) + 1
        return last * self.segment_bytes


def histories(catalog: Catalog, keys: Keys) -> dict[int, str]:
    """The history file of each timeline that has one."""
    names = [name for name in catalog.segments() if name.endswith(".history")]
    return {
        int(name[:8], 16): decrypted_bytes(get(catalog.store, catalog.wal(name)), keys, name).decode() for name in names
    }


def stretch(
    catalog: Catalog, backup: Backup, known: Mapping[int, str], *, timeline: int | None = None, until: int | None = None
) -> Stretch:
    """The log from a backup to the end of a timeline (default: the youngest), or to the position `until`.

    Raises OutOfReach where the timeline does not come from the backup's.
    """
    size = backup.segment_bytes
    kept = catalog.segments()
    found = [parsed for name in kept if (parsed := parse_segment(name.removesuffix(PARTIAL), size)) is not None]
    youngest = max([backup.timeline, *known, *(timeline_ for timeline_, _ in found)])
    chain = branches(timeline if timeline is not None else youngest, known)
    ours = next((branch for branch in chain if branch.timeline == backup.timeline), None)
    if ours is None or timeline_of(backup.end // size, chain, size) < backup.timeline:
        raise OutOfReach(
            f"timeline {chain[0].timeline} does not branch from this backup's timeline {backup.timeline}",
            where=f"backup {backup.label}",
            fix="choose another --timeline or another --backup: `medallion backup list` shows them",
        )
    first = backup.start // size
    last = max((number for line, number in found if line == timeline_of(number, chain, size)), default=first - 1)
    mark = catalog.watermark()
    if mark is not None and mark.timeline == chain[0].timeline:
        # What the mark says was received must be here, also where nothing came after it yet.
        last = max(last, (mark.position - PAGE_HEADER - 1) // size)
    if until is not None:
        last = max(min(last, until // size), first)
    objects: dict[int, str] = {}
    for number in range(first, last + 1):
        name = segment_name(timeline_of(number, chain, size), number, size)
        # Half a segment counts only at the very end: anywhere else the other half is missing.
        if name in kept or (number == last and name + PARTIAL in kept):
            objects[number] = name if name in kept else name + PARTIAL
    missing = runs(set(range(first, last + 1)) - set(objects))
    return Stretch(chain, objects, missing, size)


def refuse_gap(found: Stretch, where: str) -> None:
    """Raise LogGap where segments are missing."""
    if not found.missing:
        return
    first, _ = found.missing[0]
    count = sum(last - first + 1 for first, last in found.missing)
    raise LogGap(
        f"{count} WAL segments are missing, the first is "
        f"{segment_name(timeline_of(first, found.chain, found.segment_bytes), first, found.segment_bytes)}",
        where=where,
        fix=f"the WAL is complete up to {format_lsn(found.whole_until)}: recover to an earlier moment with --to "
        "or --to-lsn, or from a backup made after the gap; a new `medallion backup` makes later moments recoverable",
    )


def fetch(
    catalog: Catalog,
    found: Stretch,
    keys: Keys,
    folder: Path,
    system: str,
    on_segment: Callable[[], None] = lambda: None,
) -> None:
    """Bring the segments into `folder` under PostgreSQL's names, each checked to be what its name says.

    Raises Damaged, KeyRefused, LogGap, StoreFailed.
    """

    def one(number: int) -> None:
        _fetch_segment(catalog, found, number, keys, folder, system)
        on_segment()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(one, number) for number in found.objects]:
            done.result()


def _fetch_segment(catalog: Catalog, found: Stretch, number: int, keys: Keys, folder: Path, system: str) -> None:
    name, size = found.objects[number], found.segment_bytes
    path = folder / name.removesuffix(PARTIAL)
    try:
        with (
            catalog.store.read(catalog.wal(name)) as sealed,
            decrypted(sealed, keys, name) as plain,
            path.open("wb") as file,
        ):
            while chunk := plain.read(CHUNK):
                file.write(chunk)
            file.truncate(size)  # a partial one comes without the zeros behind it
    except FileNotFoundError:
        # It grew up between our looking and our reading.
        if not name.endswith(PARTIAL):
            raise _not_itself(name) from None
        grown = Stretch(found.chain, {**found.objects, number: name.removesuffix(PARTIAL)}, (), size)
        _fetch_segment(catalog, grown, number, keys, folder, system)
        return
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    _, _, timeline, address, _, system_found, size_found = _HEADER.unpack(header)
    # Of the segment in which a timeline begins, the first pages are its parent's.
    timelines = {branch.timeline for branch in found.chain}
    if (address, system_found, size_found) != (number * size, int(system), size) or timeline not in timelines:
        raise _not_itself(name)


def _not_itself(name: str) -> Damaged:
    return Damaged(
        "it does not contain the segment in its name",
        where=name,
        fix="restore an older version of that file, or recover to an earlier moment, or from another backup",
    )


def write_histories(known: Mapping[int, str], folder: Path) -> None:
    """Put every history file where recovery looks for them: it must know which timelines are taken."""
    for timeline, text in known.items():
        with suppress(FileExistsError):
            descriptor = os.open(folder / f"{timeline:08X}.history", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
