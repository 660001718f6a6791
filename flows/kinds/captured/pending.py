"""Keys in the change table: a comparison counts them as pending."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from flows.access.addresses import connect
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.answers import Ends
from flows.kinds.captured.state import look
from flows.kinds.postgres.compare.both_ends import Ends as Snapshots
from flows.kinds.postgres.compare.compare import Pending
from flows.values.checksum import Key
from flows.values.identifiers import quote_identifier


@asynccontextmanager
async def pending_keys(ends: Ends[Database, Table]) -> AsyncIterator[Pending]:
    """Answers which keys are recorded and not loaded. What was recorded after the comparison's snapshot is among them:
    such a key may differ for that reason."""
    keys = ends.table.keys
    async with connect(ends.address, side="source", application=f"medallion reconcile {ends.where}") as origin:
        changes = (await look(origin, ends.source, ends.table)).names.changes
        is_there = await origin.fetchval("select to_regclass($1) is not null", changes)
        names = ", ".join(f"{quote_identifier(key)}::text" for key in keys)
        arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(keys, 1))

        async def pending(snapshots: Snapshots, asked: Sequence[Key]) -> set[Key]:
            if not is_there or ends.table.has_masked_key:
                return set()
            if await origin.fetchval(f"select exists (select from {changes} where capture_op in ('T', 'L'))"):
                return set(asked)
            rows = await origin.fetch(
                f"select distinct {names} from {changes} where ({names}) in (select * from unnest({arrays}))",
                *([key[number] for key in asked] for number, _ in enumerate(keys)),
            )
            return {tuple(row.values()) for row in rows}

        yield pending
