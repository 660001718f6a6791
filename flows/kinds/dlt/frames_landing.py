"""Arrow tables of a dlt resource → the landing table, which gets new columns as needed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from flows.kinds.dlt.declared import Resource
from flows.kinds.dlt.frames import Misfit, Piece, pieces, texts
from flows.kinds.dlt.json import NotJson, no_json, value_encoder
from flows.kinds.dlt.reader import DltReader
from flows.landing import copy
from flows.landing.table import SchemaChange, create_landing, retyped
from flows.publish.session import LoadSession, Progress
from flows.quality.quarantine import Unreadable
from flows.values.errors import DataRefused, SourceError
from flows.values.identifiers import quote_identifier
from flows.values.shape import METADATA_NAMES, Column, Shape
from flows.values.widening import widens

# Rows that do not fit are read one by one. More of them than this indicate a wrong type rather than bad rows.
_MOST_UNFIT = 1_000
_UNFIT_RULE = "value_fits_type"


@dataclass(slots=True)
class FramesLanding:
    """A landing table being filled. `types` are its columns; `raw` those of the raw table, if there is one.

    A table may lack columns of others, or have them in a narrower type: each COPY continues until a table needs a
    change of the landing table.
    """

    session: LoadSession
    reader: DltReader
    resource: Resource
    raw: dict[str, str] | None
    first: bool
    extracted_at: str
    on_progress: Progress | None = None
    types: dict[str, str] = field(default_factory=dict)
    misfits: list[Misfit] = field(default_factory=list)
    rows: int = 0
    received: int = 0
    _next: Piece | None = None

    @property
    def shape(self) -> Shape:
        """The landing table's columns."""
        return Shape(tuple(Column(name, kind, quote_identifier(name)) for name, kind in self.types.items()))

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The rows that do not fit their columns, for quarantine."""
        return tuple(Unreadable(_UNFIT_RULE, misfit.text, misfit.key) for misfit in self.misfits)

    async def land(self) -> None:
        """Read the resource to its end.

        Raises:
            SourceError: it cannot be read, or lacks a declared column.
            SchemaDrift: a column has two incompatible types.
            DataRefused: too many rows do not fit.
        """
        session, target = self.session, self.session.target
        async with contextlib.aclosing(self._pieces()) as coming:
            self._next = await anext(coming, None)
            if self._next is None:
                self._take_from_raw()
            else:
                self.types = self._wanted(self._next)
            self._require_declared()
            await create_landing(session.warehouse, target, self.shape, first=self.first)
            session.pass_failpoint("after_landing_created")
            while self._next is not None:
                await self._change_landing(self._wanted(self._next))
                async with contextlib.aclosing(self._csv(coming)) as chunks:
                    columns = [*self.types, *METADATA_NAMES]
                    landed = await copy.copy_rows(session.warehouse, target, columns, chunks, "csv")
                self.rows += landed
        session.rows_read = self.rows + len(self.misfits)

    async def _pieces(self) -> AsyncGenerator[Piece, None]:
        where = self.session.target.where
        read = self.reader.batches()
        async with contextlib.aclosing(read), contextlib.aclosing(self.session.each(read)) as batches:
            async for batch in batches:
                for frame in batch.frames:
                    for piece in pieces(frame, where):
                        yield piece

    async def _csv(self, coming: AsyncGenerator[Piece, None]) -> AsyncGenerator[bytes, None]:
        """Pieces as CSV, up to one that needs a change of the landing table."""
        metadata = (self.extracted_at, self.session.target.source, str(self.session.batch_id))
        columns, encode = list(self.types), value_encoder()
        while self._next is not None and self._wanted(self._next) == self.types:
            try:
                written = texts(self._next, columns, self.resource.keys, metadata, self.resource.deleted, encode)
            except NotJson as problem:  # within a list or struct
                error = no_json(problem.kind, self.session.target.where)
                raise error from None
            self.misfits += written.misfits
            if len(self.misfits) > _MOST_UNFIT:
                raise DataRefused(
                    f"values of over {_MOST_UNFIT:,} rows do not fit their columns' types in raw",
                    where=self.session.target.where,
                    fix="cast the columns in the resource to text, or to microseconds and years from 1 to 9999",
                )
            if written.rows:
                self.received += len(written.csv)
                yield written.csv
                if self.on_progress is not None:
                    self.on_progress("received", self.received)
            self._next = await anext(coming, None)

    def _wanted(self, piece: Piece) -> dict[str, str]:
        """The landing table's columns plus those of the piece, with raw's types if they fit the piece's values."""
        wanted = dict(self.types)
        for name, kind in piece.types.items():
            in_raw = (self.raw or {}).get(name)
            present = wanted.get(name)
            if kind is None:  # only nulls: no new column, unless raw has it
                if present is None and in_raw is not None:
                    wanted[name] = in_raw
            elif present is None:
                wanted[name] = in_raw if in_raw is not None and widens(kind, in_raw) else kind
            elif present != kind and not widens(kind, present):
                if not widens(present, kind):
                    raise retyped(SchemaChange(name, "retyped", present, kind), self.session.target.where)
                wanted[name] = kind
        return wanted

    async def _change_landing(self, wanted: dict[str, str]) -> None:
        for name, kind in wanted.items():
            change = None
            if name not in self.types:
                change = f"add column {quote_identifier(name)} {kind}"
            elif self.types[name] != kind:
                change = f"alter column {quote_identifier(name)} type {kind}"
            if change is not None:
                await self.session.warehouse.execute(f"alter table {self.session.target.landing} {change}")
        self.types = wanted

    def _take_from_raw(self) -> None:
        """No table arrived, so only raw's columns are known."""
        if self.raw is None:
            raise SourceError(
                "the resource yielded no table, so its columns are not known",
                where=self.session.target.where,
                fix="run again when it has rows, or yield an empty table with its columns",
            )
        self.types = {name: kind for name, kind in self.raw.items() if name not in METADATA_NAMES}

    def _require_declared(self) -> None:
        named = [*self.resource.keys, *([] if self.resource.cursor is None else [self.resource.cursor])]
        if missing := [name for name in named if name not in self.types]:
            raise SourceError(
                f"the column {', '.join(missing)} of key or cursor is not in the resource's tables",
                where=self.session.target.where,
                fix="correct the declaration in flows/sources; names are case-sensitive",
            )
