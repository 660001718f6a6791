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
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.changelog.capture import Capture
from flows.kinds.changelog.changes import Changes, Wanted
from flows.kinds.changelog.position import number, text
from flows.kinds.changelog.reading import Cut, pour
from flows.landing.table import LANDING_SCHEMA
from flows.publish.run import LoadRun
from flows.state import table_locks
from flows.values.errors import LoadLocked
from flows.values.identifiers import qualified, quote_identifier
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The name under which a source's log is locked, beside those of its tables.
LOG = "(log)"
_POLL_SECONDS = 0.1


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
    cut = await pour(run.warehouse, run.origin, run.session, capture, every)
    for table in every[1:]:
        await _note(run, table, cut)
    return Changes.of(await _take(run.warehouse, wanted), wanted.position, cut.ends, cut.facts[wanted.oid])


async def _take(warehouse: Connection[Record], table: Wanted) -> str:
    """Rename the inbox, so that another read of the log leaves it alone. Returns the table's name."""
    claimed = qualified(LANDING_SCHEMA, table.claimed)
    await warehouse.execute(f"drop table if exists {claimed}")
    inbox = qualified(LANDING_SCHEMA, table.inbox)
    await warehouse.execute(f"alter table {inbox} rename to {quote_identifier(table.claimed)}")
    return claimed


async def _note(run: LoadRun[Database, Table], table: Wanted, cut: Cut) -> None:
    await run.warehouse.execute(
        "insert into ops.captured_changes (source_system, table_name, run_id, begins, ends, facts) "
        "values ($1, $2, $3, $4, $5, $6)",
        table.target.source,
        table.target.table,
        run.session.run_id,
        text(table.position),
        text(cut.ends),
        json.dumps(cut.facts[table.oid]),
    )
