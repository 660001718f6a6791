"""Events of files → a table beside the landing table, from which they are read back in the order of their offsets.

Files may come in any order, and several files may have the same events.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from flows.kinds.debezium.declared import Debezium, EventTable
from flows.kinds.debezium.envelope import Line, Unread, line_of
from flows.kinds.debezium.position import Position
from flows.kinds.files.content import BLOCK, Content
from flows.kinds.files.formats import Csv
from flows.kinds.files.left import FileProblem, Left
from flows.kinds.files.manifest import Listed
from flows.kinds.files.place import Found, Place
from flows.kinds.files.state import KnownFile
from flows.landing.copy import HEADER, TRAILER, copy_into
from flows.landing.table import LANDING_SCHEMA, Target
from flows.quality.quarantine import Unreadable
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_LINES = 2_000
_LONGEST_NAMED = 5
_MOST_UNREADABLE = 10_000
_ZIP = b"PK\x03\x04"
# Five fields, each after its length: partition, offset, mark, file, and the length of the event, which follows.
_ROW = struct.Struct("!hiiiqiqiii")


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event in the inbox: its position, its checksum, the number of its file, and its line there."""

    partition: int
    offset: int
    mark: int
    file: int
    event: bytes


@dataclass(slots=True)
class Inbox:
    """The events of one load. `position` is what earlier loads have read, `listed` what manifests say of files; `taken`
    are the files that were read whole. `again` counts events that were loaded before, or came twice."""

    warehouse: Connection[Record]
    target: Target
    source: Debezium
    table: EventTable
    position: Position
    listed: Mapping[str, Listed] = field(default_factory=dict)
    taken: list[KnownFile] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    rows: int = 0
    received: int = 0
    again: int = 0
    at: dict[int, int] = field(default_factory=dict)
    _late: list[tuple[int, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name in the landing schema."""
        return f"{self.target.landing_name}__i"

    @property
    def relation(self) -> str:
        """As SQL names it."""
        return qualified(LANDING_SCHEMA, self.name)

    async def fill(self, place: Place, files: Sequence[Found]) -> None:
        """Read the files.

        Raises:
            DataRefused: an offset has another event than before, or comes after later ones were loaded.
        """
        await self.warehouse.execute(f"drop table if exists {self.relation}")
        await self.warehouse.execute(
            f'create unlogged table {self.relation} (partition int, "offset" bigint, mark bigint, file int, event text)'
        )
        for number, found in enumerate(files):
            await self._read(place, found, number)
        if self._late:
            self._refuse_late()
        await self._deduplicate()
        self.rows = await self.warehouse.fetchval(f"select count(*) from {self.relation}")

    async def _read(self, place: Place, found: Found, number: int) -> None:
        """One file, which lands whole or not at all: it is read before anything of it is sent."""
        lines = FileLines(place, found, self.source.max_expansion, self.listed.get(found.path))
        reading = lines.each()
        unreadable, late, again, rows = list[Unreadable](), list[tuple[int, int]](), 0, 0

        async def sent() -> AsyncIterator[bytes]:
            nonlocal again, rows
            yield HEADER
            while texts := await asyncio.to_thread(list, islice(reading, _LINES)):
                packed = []
                for place_of_line, text in texts:
                    try:
                        line, event = line_of(text), text.decode()
                    except (Unread, UnicodeDecodeError) as problem:
                        rule = problem.rule if isinstance(problem, Unread) else "event_is_utf8"
                        unreadable.append(_of_line(rule, found.path, place_of_line, text))
                        if len(unreadable) > _MOST_UNREADABLE:
                            raise FileProblem(
                                f"more than {_MOST_UNREADABLE:,} of its lines are no events: its layout is another one"
                            ) from None
                        continue
                    if line.topic != self.table.topic:
                        continue
                    if self._is_known(line, late):
                        again += 1
                        continue
                    rows += 1
                    packed.append(_packed(line, number, event))
                yield b"".join(packed)
            yield TRAILER

        try:
            async with self.warehouse.transaction():
                columns = ["partition", "offset", "mark", "file", "event"]
                await copy_into(self.warehouse, self.name, columns, sent())
        except FileProblem as problem:
            self.left.append(Left(found.path, problem.reason, problem.waits))
            return
        self.unreadable += unreadable
        self._late += late
        self.again += again
        self.received += lines.size
        self.taken.append(
            KnownFile(found.path, lines.digest, found.signature, found.size, rows + len(unreadable), "loaded")
        )

    def _is_known(self, line: Line, late: list[tuple[int, int]]) -> bool:
        part = self.position.partitions.get(line.partition)
        if line.ts is not None:
            self.at[line.partition] = max(line.ts, self.at.get(line.partition, 0))
        if part is None or line.offset >= part.next:
            return False
        was = part.marks.get(line.offset)
        other = was is not None and was != line.mark()
        if other or (line.ts is not None and part.at is not None and line.ts > part.at):
            self._refuse_other(line.partition, line.offset)
        if not part.has(line.offset):
            late.append((line.partition, line.offset))
        return True

    def _refuse_other(self, partition: int, offset: int) -> None:
        raise DataRefused(
            f"partition {partition} of topic {self.table.topic} has another event at offset {offset} than the one that "
            "was loaded: offsets have stepped back, so the topic was made again; nothing was published",
            where=self.target.where,
            fix=f"remove the files of the former topic, and `medallion reload {self.target.where}`",
        )

    def _refuse_late(self) -> None:
        named = ", ".join(f"{partition}:{offset}" for partition, offset in self._late[:_LONGEST_NAMED])
        raise DataRefused(
            f"{len(self._late):,} events came after later ones were loaded (partition and offset: {named}): their "
            "changes cannot be put before those; nothing was published",
            where=self.target.where,
            fix=f"`medallion reload {self.target.where}` reads all files again, in the order of their offsets",
        )

    async def _deduplicate(self) -> None:
        await self.warehouse.execute(f'create index on {self.relation} (partition, "offset")')
        other = await self.warehouse.fetchrow(
            f'select partition, "offset" from {self.relation} group by 1, 2 having min(mark) <> max(mark) '
            "order by 1, 2 limit 1"
        )
        if other is not None:
            self._refuse_other(other["partition"], other["offset"])
        done = await self.warehouse.execute(
            f"delete from {self.relation} as i using {self.relation} as o "
            'where i.partition = o.partition and i."offset" = o."offset" and i.ctid > o.ctid'
        )
        self.again += int(done.split()[-1])
        # Without statistics, each of the reads by the index would be a scan and a sort.
        await self.warehouse.execute(f"analyze {self.relation}")

    async def each(self, count: int = 5_000) -> AsyncGenerator[Arrived, None]:
        """The events by partition and offset."""
        partition, offset = -1, -1
        while rows := await self.warehouse.fetch(
            f'select partition, "offset", mark, file, event from {self.relation} '
            'where (partition, "offset") > ($1, $2) order by partition, "offset" limit $3',
            partition,
            offset,
            count,
        ):
            for row in rows:
                yield Arrived(row[0], row[1], row[2], row[3], row[4].encode())
            partition, offset = rows[-1][0], rows[-1][1]

    async def partitions(self) -> list[int]:
        """Those that have new events."""
        return [row[0] for row in await self.warehouse.fetch(f"select distinct partition from {self.relation}")]

    async def drop(self) -> None:
        """After the load."""
        await self.warehouse.execute(f"drop table if exists {self.relation}")


def _packed(line: Line, number: int, event: str) -> bytes:
    data = event.encode()
    return _ROW.pack(5, 4, line.partition, 8, line.offset, 8, line.mark(), 4, number, len(data)) + data


def _of_line(rule: str, path: str, number: int, text: bytes) -> Unreadable:
    readable = text.decode("utf-8", errors="backslashreplace").replace("\0", "\\0")
    return Unreadable(rule, f"{path}, line {number}: {readable}")


class FileLines:
    """The lines of one file by their numbers. `digest` and `size` are known at the end."""

    def __init__(self, place: Place, found: Found, max_expansion: int, listed: Listed | None) -> None:
        self._place, self._found, self._max_expansion, self._listed = place, found, max_expansion, listed
        self.digest, self.size, self._count = "", 0, 0

    def each(self) -> Iterator[tuple[int, bytes]]:
        """All that are not empty.

        Raises:
            FileProblem: the file is not complete, or cannot be read.
        """
        try:
            opening = self._place.opened(self._found)
            with opening as file:
                content = Content(file, Csv(), self._max_expansion)
                yield from self._lines(content)
                self.digest, self.size = content.raw.digest(), content.size
                size = content.raw.size
        except OSError as problem:
            raise FileProblem(f"it cannot be opened ({problem.strerror})") from None
        now = self._place.look(self._found.path)
        if now is None or now.signature != self._found.signature or size != self._found.size:
            raise FileProblem("it changed while it was read", waits=True)
        if self._listed is not None:
            self._listed.hold_against(size, self._count, self.digest)

    def _lines(self, content: Content) -> Iterator[tuple[int, bytes]]:
        rest, number = b"", 0
        while block := content.read(BLOCK):
            if not number and not rest and block.startswith(_ZIP):
                raise FileProblem("it is a zip archive: pack it with gzip or zstd")
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                number += 1
                if line.strip():
                    self._count += 1
                    yield number, line
        if rest.strip():
            if not rest.rstrip().endswith(b"}"):
                raise FileProblem("its last line is cut short", waits=True)
            self._count += 1
            yield number + 1, rest
