"""Changes of the log → tables of the landing schema, one for each captured table: one read of the log for all of them.

PostgreSQL decodes all of the log from the slot's restart position with each call, whatever is asked for: 35 reads of
20,000 changes took 51 s, one of 700,000 3.3 s. So the first load of a run reads the changes of all tables of its
source, and the loads of the others find theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.access.sessions import pinned
from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.sides import Sides
from flows.kinds.changelog.capture import Capture
from flows.kinds.changelog.changes import UNCLAIMED, Changes, Wanted
from flows.kinds.changelog.pgoutput import META, Decoder
from flows.kinds.changelog.position import number, text
from flows.kinds.changelog.writer import Writer
from flows.kinds.postgres.table import CopyStream
from flows.landing.table import LANDING_SCHEMA
from flows.publish.run import LoadRun
from flows.state import table_locks
from flows.values.errors import LoadLocked, SourceUnavailable
from flows.values.identifiers import qualified, quote_identifier, quote_literal
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The name under which a source's log is locked, beside those of its tables.
LOG = "(log)"
_POLL_SECONDS = 0.1
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

# Transactions that do not wait for their WAL are in the log once it is written: up to three times this delay.
_BEHIND = (
    "select case current_setting('synchronous_commit') when 'off' then "
    "3 * extract(epoch from current_setting('wal_writer_delay')::interval)::float8 else 0 end as seconds, "
    "pg_current_wal_insert_lsn() as written"
)


@contextlib.asynccontextmanager
async def log_locked(warehouse: Connection[Record], source: Database, where: str) -> AsyncIterator[None]:
    """The lock of the source's log. A slot has one reader.

    Raises:
        LoadLocked: another load held it during the full wait.
    """
    until = time.monotonic() + settings().lock_wait_seconds
    while not await table_locks.lock_table(warehouse, source.name, LOG):
        if time.monotonic() >= until:
            raise LoadLocked(
                "another load reads the source's log",
                where=where,
                fix="wait until it ends; if its run dies, its lock is released automatically",
                retryable=True,
            )
        await asyncio.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if not warehouse.is_closed() and not warehouse.is_in_transaction():
            await table_locks.unlock_table(warehouse, source.name, LOG)


async def claim(run: LoadRun[Database, Table], wanted: Wanted) -> Changes | None:
    """The table's changes that another load of this run has read, from its position on. The lock must be held."""
    warehouse, target = run.warehouse, wanted.target
    row = await warehouse.fetchrow(
        "delete from ops.captured_changes where source_system = $1 and table_name = $2 returning run_id, begins, ends, "
        "facts::text as facts",
        target.source,
        target.table,
    )
    relation = qualified(LANDING_SCHEMA, wanted.inbox)
    usable = (
        row is not None
        and run.session.run_id is not None
        and row["run_id"] == run.session.run_id
        and number(row["begins"]) == wanted.position
        and await warehouse.fetchval("select to_regclass($1) is not null", relation)
    )
    if not usable:
        return None
    assert row is not None  # usable
    taken = await _take(warehouse, wanted)
    return Changes.of(taken, wanted.position, number(row["ends"]), json.loads(row["facts"]))


async def read(run: LoadRun[Database, Table], capture: Capture, wanted: Wanted, others: Iterable[Wanted]) -> Changes:
    """Read the log from the slot's position to its end, for this table and others. The lock must be held.

    Raises:
        SourceUnavailable: another session reads the slot, or the server ended the read.
    """
    every = [wanted, *others]
    decoder, ends = await pour(run.warehouse, run.origin, run.session, capture, every)
    for table in every[1:]:
        await _note(run, table, ends, decoder)
    facts = _facts(wanted, decoder)
    return Changes.of(await _take(run.warehouse, wanted), wanted.position, ends, facts)


async def pour(
    warehouse: Connection[Record],
    origin: Connection[Record],
    sides: Sides,
    capture: Capture,
    tables: Sequence[Wanted],
) -> tuple[Decoder, int]:
    """Write the changes of these tables, from the slot's position to the end of the log, into their inboxes. Returns
    what was decoded, and the position that it reaches."""
    for table in tables:
        await _create(warehouse, table)
    decoder, where = Decoder({table.oid: table.position for table in tables}), tables[0].target.where
    writer = Writer(warehouse, {table.oid: table for table in tables}, decoder)
    with sides.reading():
        target = await _end_of_log(origin)
        pins = pinned(origin, f"medallion read {where}")
        await origin.execute(f"begin isolation level read committed read only; {pins}")
        await _until_free(origin, capture)
    stream = CopyStream(origin, _peek(capture, target))
    try:
        async with contextlib.aclosing(aiter(stream)) as chunks, contextlib.aclosing(sides.each(chunks)) as each:
            async for chunk in each:
                await writer.write(decoder.feed(chunk))
    except asyncpg.ObjectInUseError:
        raise SourceUnavailable(
            f"another session reads slot {capture.names.slot}",
            where=where,
            fix="the load is retried automatically; if it repeats, another program uses the slot: see "
            "pg_replication_slots.active_pid at the source, or declare another one with Log(slot=…)",
            retryable=True,
        ) from None
    await writer.write(decoder.finish(), last=True)
    with sides.reading():
        await origin.execute("commit")
    return decoder, max(target, decoder.end, *(table.position for table in tables))


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


async def _end_of_log(origin: Connection[Record]) -> int:
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


async def _take(warehouse: Connection[Record], table: Wanted) -> str:
    """Rename the inbox, so that another read of the log leaves it alone. Returns the table's name."""
    claimed = qualified(LANDING_SCHEMA, table.claimed)
    await warehouse.execute(f"drop table if exists {claimed}")
    inbox = qualified(LANDING_SCHEMA, table.inbox)
    await warehouse.execute(f"alter table {inbox} rename to {quote_identifier(table.claimed)}")
    return claimed


async def _note(run: LoadRun[Database, Table], table: Wanted, ends: int, decoder: Decoder) -> None:
    await run.warehouse.execute(
        "insert into ops.captured_changes (source_system, table_name, run_id, begins, ends, facts) "
        "values ($1, $2, $3, $4, $5, $6)",
        table.target.source,
        table.target.table,
        run.session.run_id,
        text(table.position),
        text(ends),
        json.dumps(_facts(table, decoder)),
    )


def _facts(table: Wanted, decoder: Decoder) -> dict[str, Any]:
    seen = decoder.seen[table.oid]
    at = _EPOCH + timedelta(microseconds=decoder.committed_at) if decoder.committed_at else None
    counts: Counter[str] = seen.counts
    return {
        "columns": [
            name for name in seen.columns if name in table.columns
        ],  # of those that were described, if any came
        "counts": dict(counts),
        "kept": seen.kept,
        "bytes": seen.bytes,
        "committed_at": at.isoformat() if at else None,
    }
