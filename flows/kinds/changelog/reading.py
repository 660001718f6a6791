"""One read of the log for all tables of a source, from its slot's position to the log's end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.access.sessions import pinned
from flows.failures.sides import Sides
from flows.kinds.changelog.capture import Capture
from flows.kinds.changelog.changes import UNCLAIMED, Wanted
from flows.kinds.changelog.messages import Block
from flows.kinds.changelog.pgoutput import META, Decoder
from flows.kinds.changelog.position import number, text
from flows.kinds.changelog.writer import Writer
from flows.kinds.postgres.table import CopyStream
from flows.landing.table import LANDING_SCHEMA
from flows.values.errors import SourceUnavailable
from flows.values.identifiers import qualified, quote_identifier, quote_literal
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_POLL_SECONDS = 0.1
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

# Transactions that do not wait for their WAL are in the log once it is written: up to three times this delay.
_BEHIND = (
    "select case current_setting('synchronous_commit') when 'off' then "
    "3 * extract(epoch from current_setting('wal_writer_delay')::interval)::float8 else 0 end as seconds, "
    "pg_current_wal_insert_lsn()::text as written"
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a read that ends between two transactions: its end, and for each table what its inbox holds, by oid.

    `last`: nothing of the read follows, and its transaction at the source has ended. `behind`: bytes of the log up to
    the end of the read. `committed_at`: when the source committed the last transaction.
    """

    facts: Mapping[int, Mapping[str, Any]]
    ends: int
    last: bool
    behind: int
    committed_at: datetime | None


async def pour(
    warehouse: Connection[Record],
    origin: Connection[Record],
    sides: Sides,
    capture: Capture,
    tables: Sequence[Wanted],
) -> Cut:
    """Write all changes of these tables into their inboxes, which exist afterwards."""
    for table in tables:
        await _create(warehouse, table)
    async with contextlib.aclosing(read_log(warehouse, origin, sides, capture, tables)) as cuts:
        return await anext(cuts)


async def read_log(
    warehouse: Connection[Record],
    origin: Connection[Record],
    sides: Sides,
    capture: Capture,
    tables: Sequence[Wanted],
    *,
    rows: int | None = None,
) -> AsyncGenerator[Cut, None]:
    """Write the changes of these tables into their inboxes, and stop after about so many `rows` (None: at the end).

    Each cut has inboxes of its own, of the tables that changed: whoever reads them drops them. Without `rows` they
    must exist.

    Raises:
        SourceUnavailable: another session reads the slot, or the server ended the read.
    """
    decoder, where = Decoder({table.oid: table.position for table in tables}), tables[0].target.where
    writer = _Inboxes(warehouse, tables, decoder, fresh=rows is not None)
    with sides.reading():
        target = await end_of_log(origin)
        pins = pinned(origin, f"medallion read {where}")
        await origin.execute(f"begin isolation level read committed read only; {pins}")
        await _until_free(origin, capture)
    stream = CopyStream(origin, _peek(capture, target))
    try:
        async with contextlib.aclosing(aiter(stream)) as chunks, contextlib.aclosing(sides.each(chunks)) as each:
            async for chunk in each:
                await writer.write(decoder.feed(chunk))
                if rows is not None and decoder.settled and writer.rows >= rows:
                    yield await writer.cut(decoder.end, behind=max(0, target - decoder.end))
    except asyncpg.ObjectInUseError:
        raise SourceUnavailable(
            f"another session reads slot {capture.names.slot}",
            where=where,
            fix="the load is retried automatically; if it repeats, another program uses the slot: see "
            "pg_replication_slots.active_pid at the source, or declare another one with Log(slot=…)",
            retryable=True,
        ) from None
    except (asyncpg.UndefinedObjectError, asyncpg.ObjectNotInPrerequisiteStateError):
        raise SourceUnavailable(
            f"slot {capture.names.slot} was dropped or has lost its WAL while it was read",
            where=where,
            fix="the load is retried automatically: it makes the slot again, and compares the tables",
            retryable=True,
        ) from None
    await writer.write(decoder.finish())
    with sides.reading():
        await origin.execute("commit")
    yield await writer.cut(max(target, decoder.end, *(table.position for table in tables)), last=True)


class _Inboxes:
    """The tables' inboxes while the log is read, from one cut to the next. `rows`: changes since the last one."""

    def __init__(
        self, warehouse: Connection[Record], tables: Sequence[Wanted], decoder: Decoder, *, fresh: bool
    ) -> None:
        self._warehouse, self._decoder, self._fresh = warehouse, decoder, fresh
        self._tables = {table.oid: table for table in tables}
        self._writer = Writer(warehouse, self._tables, decoder)
        self._made: set[int] = set()
        self.rows = 0

    async def write(self, blocks: list[Block]) -> None:
        for block in blocks:
            self.rows += block.rows
            if self._fresh and block.oid not in self._made:
                self._tables[block.oid].columns.clear()
                await _create(self._warehouse, self._tables[block.oid])
                self._made.add(block.oid)
        await self._writer.write(blocks)

    async def cut(self, ends: int, *, last: bool = False, behind: int = 0) -> Cut:
        await self._writer.write([], last=True)
        at = _EPOCH + timedelta(microseconds=self._decoder.committed_at) if self._decoder.committed_at else None
        oids = self._made if self._fresh else self._tables
        facts = {oid: self._facts(oid, at) for oid in oids}
        for seen in self._decoder.seen.values():
            seen.counts, seen.bytes, seen.kept = Counter(), 0, False
        self._made, self.rows = set(), 0
        return Cut(facts, ends, last, behind, at)

    def _facts(self, oid: int, at: datetime | None) -> dict[str, Any]:
        seen, table = self._decoder.seen[oid], self._tables[oid]
        return {
            # Of those that were described, if any came.
            "columns": [name for name in seen.columns if name in table.columns],
            "counts": dict(seen.counts),
            "kept": seen.kept,
            "bytes": seen.bytes,
            "committed_at": at.isoformat() if at else None,
        }


async def _until_free(origin: Connection[Record], capture: Capture) -> None:
    """Wait for the reader of a load that died: the server has not yet noticed that it is gone."""
    until = time.monotonic() + settings().lock_wait_seconds
    query = "select active_pid is null from pg_replication_slots where slot_name = $1"
    while True:
        if time.monotonic() >= until or await origin.fetchval(query, capture.names.slot):
            return
        await asyncio.sleep(_POLL_SECONDS)


def _peek(capture: Capture, target: int) -> str:
    slot, publication = capture.names.slot, quote_identifier(capture.names.publication)
    return (
        f"select data from pg_logical_slot_peek_binary_changes({quote_literal(slot)}, '{text(target)}', null, "
        f"'proto_version', '1', 'publication_names', {quote_literal(publication)})"
    )


async def end_of_log(origin: Connection[Record]) -> int:
    """The position up to which the log is on disk, with every transaction that has ended before this call."""
    row = await origin.fetchrow(_BEHIND)
    assert row is not None  # a select without a table
    until = time.monotonic() + row["seconds"]
    while True:
        flushed = await origin.fetchval("select pg_current_wal_flush_lsn()::text")
        if time.monotonic() >= until or number(flushed) >= number(row["written"]):
            return number(flushed)
        await asyncio.sleep(0.02)


async def _create(warehouse: Connection[Record], table: Wanted) -> None:
    relation = qualified(LANDING_SCHEMA, table.inbox)
    if table.suffix == UNCLAIMED:
        await warehouse.execute(
            "delete from ops.captured_changes where source_system = $1 and table_name = $2",
            table.target.source,
            table.target.table,
        )
    await warehouse.execute(f"drop table if exists {relation}")
    columns = ", ".join(f"{name} {kind}" for name, kind in META)
    await warehouse.execute(f"create unlogged table {relation} ({columns})")
