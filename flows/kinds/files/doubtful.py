"""Rows of which PostgreSQL is asked whether their texts are values of the declared types, before it takes them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from flows.kinds.files.parse import MOST_REFUSED, FileReader
from flows.kinds.files.table import FILE, LINE
from flows.kinds.files.values import Values
from flows.landing.copy import copy_into
from flows.landing.table import LANDING_SCHEMA, Target
from flows.quality.quarantine import Unreadable
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified, quote_identifier
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The rule that a row breaks whose text is no value of its column's type.
MISFIT = "value_fits_type"
_IN_MEMORY = 8_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Pair:
    """Where the table has a column: its text as PostgreSQL reads it, and as it was written."""

    read: str
    written: str | None
    values: Values | None


class Doubtful:
    """A table of texts beside the landing table, made when the first row needs it."""

    def __init__(self, warehouse: Connection[Record], target: Target) -> None:
        self._warehouse = warehouse
        self._target = target
        self._name = f"{target.landing_name}__t"
        self._relation = qualified(LANDING_SCHEMA, self._name)
        self._pairs: dict[str, _Pair] = {}
        self._exists = False

    async def begin(self) -> None:
        """Drop what an interrupted load left."""
        await self._warehouse.execute(f"drop table if exists {self._relation}")

    async def drop(self) -> None:
        """Drop the table after a load."""
        if self._exists:
            await self._warehouse.execute(f"drop table if exists {self._relation}")

    async def keep(self, reader: FileReader, chunks: Iterable[bytes]) -> None:
        """Land the doubtful rows of a file."""

        async def sent() -> AsyncGenerator[bytes, None]:
            for chunk in chunks:
                yield chunk

        names = await self._columns(reader)
        async with contextlib.aclosing(sent()) as source:
            await copy_into(self._warehouse, self._name, names, source, "csv")

    def spool(self, reader: FileReader) -> Spool:
        """A place for doubtful rows of a file whose sure rows are landing."""
        return Spool(self, reader)

    async def _columns(self, reader: FileReader) -> list[str]:
        if not self._exists:
            await self._warehouse.execute(f"create unlogged table {self._relation} ({FILE} text, {LINE} bigint)")
            self._exists = True
        known: list[tuple[str, Values | None]] = [(one.name, one) for one in reader.values]
        known += [(name, None) for name in reader.made]
        for name, values in known:
            if name not in self._pairs:
                number = len(self._pairs)
                pair = _Pair(f"c{number}", f"o{number}" if values and values.keeps_original else None, values)
                self._pairs[name] = pair
                added = [f"add column {one} text" for one in (pair.read, pair.written) if one]
                await self._warehouse.execute(f"alter table {self._relation} {', '.join(added)}")
        own = [self._pairs[name] for name in reader.columns]
        return [
            *(pair.read for pair in own),
            *(self._pairs[name].read for name in reader.made),
            FILE,
            LINE,
            *(pair.written for pair in own if pair.written),
        ]

    async def land(self, shape: Shape) -> int:
        """Valid rows → the landing table. Returns how many."""
        if not self._exists:
            return 0
        names, values = [FILE, LINE], [FILE, LINE]
        for name, pair in self._pairs.items():
            column = shape.column(name)
            assert column is not None  # every column of a file is one of raw
            names.append(quote_identifier(name))
            values.append(f"{pair.read}::{column.raw_type}")
        # A text that is no value must not be cast, whatever the planner evaluates first.
        chosen = f"(select * from {self._relation} where {self._valid} offset 0) as t"
        done = await self._warehouse.execute(
            f"insert into {self._target.landing} ({', '.join(names)}) select {', '.join(values)} from {chosen}"
        )
        return int(done.split()[-1])

    async def refused(self, keys: Sequence[str]) -> list[Unreadable]:
        """The other rows, as they were written.

        Raises:
            DataRefused: there are so many that the declared types must be wrong.
        """
        if not self._exists:
            return []
        columns = [f"{FILE}, {LINE}"]
        columns += [f"{pair.written or pair.read} as {quote_identifier(name)}" for name, pair in self._pairs.items()]
        key = ", ".join(f"t.{self._pairs[name].read}" if name in self._pairs else "null" for name in keys)
        found = await self._warehouse.fetch(
            f"select (select to_jsonb(d)::text from (select {', '.join(columns)} from (select t.*) as t) as d) "
            f"as document, array[{key}]::text[] as key from {self._relation} as t where not {self._valid} "
            f"order by {FILE}, {LINE} limit {MOST_REFUSED + 1}"
        )
        if len(found) > MOST_REFUSED:
            raise DataRefused(
                f"values of more than {MOST_REFUSED:,} rows do not fit their columns' types ({await self._misfits()}); "
                "nothing was published",
                where=self._target.where,
                fix="correct the types in columns, or how numbers and dates are written in format=Csv(…)",
            )
        return [Unreadable(MISFIT, row["document"], tuple(row["key"]) or None, is_document=True) for row in found]

    @property
    def _valid(self) -> str:
        checks = [pair.values.valid(pair.read) for pair in self._pairs.values() if pair.values is not None]
        checks = [check for check in checks if check != "true"]
        return f"({' and '.join(checks)})" if checks else "true"

    async def _misfits(self) -> str:
        counts = [
            f"count(*) filter (where not {pair.values.valid(pair.read)}) as {quote_identifier(name)}"
            for name, pair in self._pairs.items()
            if pair.values is not None and pair.values.valid(pair.read) != "true"
        ]
        row = await self._warehouse.fetchrow(f"select {', '.join(counts)} from {self._relation}")
        assert row is not None  # an aggregate always answers one row
        return ", ".join(f"{name}: {count:,}" for name, count in row.items() if count)


class Spool:
    """Doubtful rows of one file, in memory or beyond some megabytes in a temporary file."""

    def __init__(self, doubtful: Doubtful, reader: FileReader) -> None:
        self._doubtful = doubtful
        self._reader = reader
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by the context

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, rows: bytes) -> None:
        """Keep rows for later."""
        self._file.write(rows)

    async def land(self) -> None:
        """Land them."""
        if not self._file.tell():
            return
        self._file.seek(0)
        await self._doubtful.keep(self._reader, iter(lambda: self._file.read(_BLOCK), b""))


def document(file: str, line: int, text: str | None) -> str:
    """What quarantine keeps of a row that could not be divided into columns; no text if it may hold masked values."""
    return json.dumps({FILE: file, LINE: line} | ({} if text is None else {"text": text}), ensure_ascii=False)
