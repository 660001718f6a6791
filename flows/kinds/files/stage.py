"""Files → the landing table: sure rows directly, doubtful ones by way of a second table whose columns are text."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.kinds.files.content import UNREADABLE
from flows.kinds.files.doubtful import Doubtful
from flows.kinds.files.left import FileProblem, Left
from flows.kinds.files.parse import TOGETHER, Checks, FileReader, Portion, read_up_to
from flows.kinds.files.place import Found, Place
from flows.kinds.files.plan import FilesPlan
from flows.kinds.files.rows import BLOCKS, BadRow, RowTooLong
from flows.kinds.files.state import KnownFile
from flows.kinds.files.table import FILE, LINE, FileTable
from flows.landing.copy import copy_into
from flows.landing.table import create_landing, ensure_types
from flows.publish.run import LoadRun
from flows.values.identifiers import quote_identifier
from flows.values.shape import METADATA_NAMES, Column, Shape
from flows.values.widening import widens

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Small files that are parsed ahead of the one that lands.
_AHEAD = 4


class RefusedByType(Exception):
    """PostgreSQL refused a row that was taken for a sure one: all rows have to be asked about."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file whose rows landed, or that needs none to (`state`)."""

    known: KnownFile
    bad: Sequence[BadRow] = ()


@dataclass(slots=True)
class Staging:
    """A load under way. `columns` are raw's columns by name, with their types, in order."""

    run: LoadRun[Any, FileTable]
    planned: FilesPlan
    place: Place
    max_expansion: int
    careful: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    received: int = 0
    _doubtful: Doubtful | None = None
    _queue: dict[tuple[str, ...], list[bytes]] = field(default_factory=dict)
    _queued: int = 0
    _sizes: Counter[int] = field(default_factory=Counter)

    @property
    def _warehouse(self) -> Connection[Record]:
        return self.run.warehouse

    @property
    def doubtful(self) -> Doubtful:
        """The table of doubtful rows."""
        assert self._doubtful is not None  # `begin` comes first
        return self._doubtful

    def shape(self, *, owned: bool) -> Shape:
        """Raw's columns. `owned`: a row that another file brings unchanged belongs to that file from then on."""
        own = [Column(name, kind, quote_identifier(name)) for name, kind in self.columns.items()]
        marks = [Column(FILE, "text", FILE, compared=owned), Column(LINE, "bigint", LINE, compared=False)]
        return Shape((*own, *marks))

    async def begin(self) -> None:
        """Create the landing tables, with the columns that are declared and those that raw has."""
        table, target = self.run.table, self.run.target
        named = dict.fromkeys([*table.named, *([table.payload] if table.payload else []), *table.pattern.columns])
        self.columns = {name: table.raw_type(name) for name in named}
        for name, kind in (self.planned.raw or {}).items():
            if name not in self.columns and name not in (FILE, LINE, *METADATA_NAMES):
                self.columns[name] = kind
        await ensure_types(self._warehouse, target, Shape(()))
        await create_landing(self._warehouse, target, self.shape(owned=True), first=self.planned.first, bare=True)
        self._doubtful = Doubtful(self._warehouse, target)
        await self._doubtful.begin()

    async def read(self) -> None:
        """Land every pending file that is whole. The others are added to `left`."""
        session = self.run.session
        ahead: dict[str, asyncio.Task[_Begun]] = {}
        pending = list(self.planned.pending)
        self._sizes.update(one.size for one in pending)
        try:
            for place, found in enumerate(pending):
                for later in pending[place : place + _AHEAD]:
                    if later.path not in ahead and (later is found or later.size <= TOGETHER):
                        ahead[later.path] = asyncio.create_task(asyncio.to_thread(self._start, later, BLOCKS[0]))
                with session.reading():
                    try:
                        begun = await ahead.pop(found.path)
                        await self._take(found, begun)
                    except FileProblem as problem:
                        self.left.append(Left(found.path, problem.reason, problem.waits, found.quiet))
                if self.run.on_progress is not None:
                    self.run.on_progress("received", self.received)
            await self._land_queue()
        finally:
            for task in ahead.values():
                task.cancel()
                with contextlib.suppress(BaseException):
                    await task

    # -- one file

    def _start(self, found: Found, block: int) -> _Begun:
        """In a thread: the file's first rows, all of them if they are few."""
        # Its hash is known after it was read. Before, it is asked for only if it may decide that nothing is read.
        digest = _digest(self.place, found) if self._may_be_known(found) else ""
        if digest in self.planned.known.held and not self.planned.rereads:
            return _Begun(None, (), [], is_all=True, digest=digest)
        frozen = None
        if self.planned.raw is not None and self.run.table.on_drift == "freeze":
            frozen = frozenset(self.planned.raw)
        listed = self.planned.listed.get(found.at)
        reader = FileReader(self.place, found, self.run.table, Checks(listed, self.max_expansion, self.careful, frozen))
        portions = reader.portions(block)
        try:
            taken, is_all = read_up_to(portions, TOGETHER)
        except RowTooLong:
            if block == BLOCKS[-1]:
                raise FileProblem(f"a row of it is longer than {block:,} bytes: a quote is missing") from None
            return self._start(found, BLOCKS[-1])
        except FileProblem as problem:
            return _Begun(None, (), [], is_all=True, problem=problem)
        return _Begun(reader, portions, taken, is_all=is_all, digest=digest or reader.digest)

    def _may_be_known(self, found: Found) -> bool:
        if found.size in self.planned.known.sizes or self._sizes[found.size] > 1:
            return True
        return self.run.table.same_name == "refuse" and found.path in self.planned.known.now

    async def _take(self, found: Found, begun: _Begun) -> None:
        if begun.problem is not None:
            raise begun.problem
        reader, before = begun.reader, self.planned.known.now.get(found.path)
        if reader is None or any(one.known.digest == begun.digest for one in self.taken):
            self._same(found, begun.digest)
            return
        if before is not None and before.digest != begun.digest and self.run.table.same_name == "refuse":
            raise FileProblem('it was loaded before with other content, and same_name is "refuse"')
        for one in reader.values:
            await self._fit_column(one.name, one.raw_type)
        names = tuple(reader.sure_names)
        if begun.is_all:
            with self.run.session.writing():
                await self._queue_up(reader, names, begun.taken)
        else:
            await self._stream(found, reader, names, begun)
        self.received += reader.size
        state = KnownFile(found.path, reader.digest, found.signature, found.size, reader.rows, "loaded")
        self.taken.append(Taken(state, tuple(reader.bad)))

    def _same(self, found: Found, digest: str) -> None:
        before = self.planned.known.now.get(found.path)
        if before is not None and before.digest == digest:
            # Somebody touched it.
            self.taken.append(Taken(replace(before, signature=found.signature)))
            return
        self.taken.append(Taken(KnownFile(found.path, digest, found.signature, found.size, 0, "same content")))

    async def _fit_column(self, name: str, kind: str) -> None:
        """Make sure that the landing table has a column that takes values of the type.

        Raises:
            FileProblem: it has one of another type.
        """
        known, landing = self.columns.get(name), self.run.target.landing
        if known == kind or (known is not None and widens(kind, known)):
            return
        change = f"add column {quote_identifier(name)} {kind}"
        if known is not None:
            if not widens(known, kind):
                raise FileProblem(f"its column {name} is {kind}, and that of the table is {known}")
            change = f"alter column {quote_identifier(name)} type {kind}"
        self.columns[name] = kind
        with self.run.session.writing():
            await self._land_queue()
            await self._warehouse.execute(f"alter table {landing} {change}")

    # -- COPY

    async def _queue_up(self, reader: FileReader, names: tuple[str, ...], portions: Sequence[Portion]) -> None:
        rows = self._queue.setdefault(names, [])
        rows += [portion.sure for portion in portions if portion.sure]
        self._queued += sum(len(portion.sure) for portion in portions)
        doubtful = [portion.doubtful for portion in portions if portion.doubtful]
        if doubtful:
            await self.doubtful.keep(reader, doubtful)
        if self._queued > TOGETHER:
            await self._land_queue()

    async def _land_queue(self) -> None:
        for names, chunks in self._queue.items():

            async def sent(chunks: Sequence[bytes] = chunks) -> AsyncGenerator[bytes, None]:
                for chunk in chunks:
                    yield chunk

            await self._copy(names, sent())
        self._queue.clear()
        self._queued = 0

    async def _stream(self, found: Found, reader: FileReader, names: tuple[str, ...], begun: _Begun) -> None:
        """A large file in a COPY of its own, which ends with an error if the file is not whole."""
        problems: list[BaseException] = []
        rest = iter(begun.portions)
        spooled = self.doubtful.spool(reader)

        async def sent() -> AsyncGenerator[bytes, None]:
            waiting = list(begun.taken)
            following = asyncio.create_task(asyncio.to_thread(next, rest, None))
            try:
                while True:
                    for portion in waiting:
                        spooled.add(portion.doubtful)
                        if portion.sure:
                            yield portion.sure
                    portion_or_end = await following
                    if portion_or_end is None:
                        return
                    following = asyncio.create_task(asyncio.to_thread(next, rest, None))
                    waiting = [portion_or_end]
                    if self.run.on_progress is not None:
                        self.run.on_progress("received", self.received + reader.size)
            except BaseException as problem:
                problems.append(problem)
                raise
            finally:
                with contextlib.suppress(BaseException):
                    await following

        with spooled:
            try:
                await self._copy(names, sent())
            except Exception:
                if problems and isinstance(problems[0], FileProblem):
                    raise problems[0] from None
                if problems and isinstance(problems[0], RowTooLong):
                    await self._again(found, reader, names)
                    return
                raise
            with self.run.session.writing():
                await spooled.land()

    async def _again(self, found: Found, reader: FileReader, names: tuple[str, ...]) -> None:
        """Once more with larger blocks: a row was longer than one."""
        portions = reader.portions(BLOCKS[-1])
        await self._stream(found, reader, names, _Begun(reader, portions, [], is_all=False))

    async def _copy(self, names: Sequence[str], chunks: AsyncGenerator[bytes, None]) -> None:
        async with contextlib.aclosing(chunks):
            try:
                await copy_into(self._warehouse, self.run.target.landing_name, names, chunks, "csv")
            except asyncpg.DataError:
                raise RefusedByType from None


@dataclass(frozen=True, slots=True)
class _Begun:
    """A file whose first rows were read; no `reader`: raw has its content. `digest`: its hash, if it is known yet."""

    reader: FileReader | None
    portions: Iterator[Portion] | Sequence[Portion]
    taken: Sequence[Portion]
    is_all: bool
    digest: str = ""
    problem: FileProblem | None = None


def _digest(place: Place, found: Found) -> str:
    import hashlib

    try:
        with place.opened(found) as file:
            hashed = hashlib.sha256()
            while data := file.read(1 << 20):
                hashed.update(data)
    except UNREADABLE:
        raise FileProblem("it cannot be read: its place fails, or its data is damaged", waits=True) from None
    return hashed.hexdigest()
