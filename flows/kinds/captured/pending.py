"""Keys in the change table: a comparison counts them as pending."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.answers import Ends
from flows.kinds.captured.plan import last_token
from flows.kinds.captured.state import look
from flows.kinds.postgres.compare.both_ends import Ends as Snapshots
from flows.kinds.postgres.compare.compare import Pending
from flows.values.checksum import Key
from flows.values.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@asynccontextmanager
async def pending_keys(ends: Ends[Database, Table]) -> AsyncIterator[Pending]:
    """Answers which keys are recorded and not loaded, as of the comparison's snapshots.

    A load may run meanwhile, and delete from the change table what it has read. So the change table is read as it was
    before raw's snapshot and as it is in the source's. If a load has emptied it between the two, raw's snapshot may
    lack what neither of them shows: then all keys that differ are pending.
    """
    keys = ends.table.keys
    async with connect(ends.address, side="source", application=f"medallion read {ends.where}") as before:
        await before.execute("begin isolation level repeatable read read only")
        state = await look(before, ends.source, ends.table)
        names = ", ".join(f"{quote_identifier(key)}::text" for key in keys)
        arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(keys, 1))
        changes, is_captured = state.names.changes, state.identity is not None

        async def recorded(session: Connection[Record], asked: Sequence[Key]) -> set[Key]:
            if await session.fetchval(f"select exists (select from {changes} where capture_op in ('T', 'L'))"):
                return set(asked)
            rows = await session.fetch(
                f"select distinct {names} from {changes} where ({names}) in (select * from unnest({arrays}))",
                *([key[number] for key in asked] for number, _ in enumerate(keys)),
            )
            return {tuple(row.values()) for row in rows}

        async def pending(snapshots: Snapshots, asked: Sequence[Key]) -> set[Key]:
            if not is_captured or ends.table.has_masked_key:
                return set()
            now = snapshots.origin
            if await last_token(before, state) != await last_token(now, state):
                return set(asked)
            return await recorded(before, asked) | await recorded(now, asked)

        yield pending
