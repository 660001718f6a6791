"""Blocks of changes → the tables' inboxes in the landing schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from flows.kinds.changelog.changes import Wanted
from flows.kinds.changelog.messages import Block
from flows.kinds.changelog.pgoutput import META, Decoder
from flows.landing.copy import HEADER, TRAILER, copy_into
from flows.landing.table import LANDING_SCHEMA
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_BUFFERED = 8_000_000


class Writer:
    """Writes blocks of changes to the tables' inboxes, some MB at a time."""

    def __init__(self, warehouse: Connection[Record], tables: Mapping[int, Wanted], decoder: Decoder) -> None:
        self._warehouse, self._tables, self._decoder = warehouse, tables, decoder
        self._blocks: dict[tuple[int, tuple[str, ...]], list[bytes]] = {}
        self._size = 0

    async def write(self, blocks: list[Block], *, last: bool = False) -> None:
        """Keep the blocks, and write all once they are enough."""
        for block in blocks:
            self._blocks.setdefault((block.oid, block.names), []).append(block.data)
            self._size += len(block.data)
        if self._size < _BUFFERED and not last:
            return
        for (oid, names), parts in self._blocks.items():
            await self._copy(self._tables[oid], names, parts)
        self._blocks, self._size = {}, 0

    async def _copy(self, table: Wanted, names: tuple[str, ...], parts: list[bytes]) -> None:
        new = [name for name in self._decoder.seen[table.oid].columns if name not in table.columns]
        if new:
            added = ", ".join(f"add column {quote_identifier(name)} text" for name in new)
            await self._warehouse.execute(f"alter table {qualified(LANDING_SCHEMA, table.inbox)} {added}")
            table.columns.update(new)

        async def rows() -> AsyncIterator[bytes]:
            yield HEADER
            for part in parts:
                yield part
            yield TRAILER

        columns = [name for name, _ in META] + list(names)
        await copy_into(self._warehouse, table.inbox, columns, rows())
