"""Source and raw of one table, each in one snapshot, with facts about the table.

Raw's snapshot is taken first, with its cursor, then the source's. So everything that a load publishes in between is
beyond that cursor: comparing takes no lock, and loads continue in parallel.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare import Overwrite
from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import explain
from flows.kinds.postgres.reading import settled, start_reading
from flows.kinds.postgres.table import describe
from flows.kinds.postgres.trust import trusted_window
from flows.landing.table import Target, raw_columns
from flows.publish.evolution import beside_scheduled_loads
from flows.publish.identity import refuse_other_masks
from flows.state import ledger
from flows.values.checksum import PROBE
from flows.values.connection import DatabaseConnection
from flows.values.plan import CursorState
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(slots=True)
class Ends:
    """Two connections in the snapshots to compare.

    `shape` has the columns of both sides, `whole_shape` all of the source's; `not_compared` names those that raw does
    not have yet, or has with another type. `next_read` is SQL over the source table: the rows that the next load
    reads. `portable`: source and warehouse hash text differently.
    """

    warehouse: Connection[Record]
    origin: Connection[Record]
    target: Target
    shape: Shape
    whole_shape: Shape
    state: CursorState
    next_read: str
    portable: bool
    not_compared: tuple[str, ...] = ()


def _reads_a_part(table: Table, state: CursorState) -> bool:
    """Whether the next load reads by cursor or by partition; with full reads, no row is pending."""
    return isinstance(table.load, Overwrite) or (table.cursor is not None and state.value is not None)


@asynccontextmanager
async def snapshots(
    warehouse_address: DatabaseConnection, origin_address: DatabaseConnection, source: Database, table: Table
) -> AsyncIterator[Ends | None]:
    """Source and raw, read-only and each in one snapshot; None if raw has no such table yet.

    Raises:
        SchemaDrift: a column now has another type at the source, so its text cannot be compared.
    """
    target = Target(source.name, table.name, source.raw_schema)
    side = "warehouse"
    try:
        async with connect(
            warehouse_address, side="warehouse", application=f"medallion reconcile {target.where}"
        ) as ours:
            await ours.transaction(isolation="repeatable_read", readonly=True).start()
            known = await raw_columns(ours, target)
            if known is None:
                yield None
                return
            state = await ledger.read_cursor(ours, source.name, table.name)
            refuse_other_masks(state, known, table, target.where)
            probe = await ours.fetchrow(PROBE)
            # Named like a load's reader, so that it does not hold back a load's cursor.
            async with connect(origin_address, side="source", application=f"medallion read {target.where}") as theirs:
                side = "source"
                async with settled(theirs, source, table):
                    shape = await describe(theirs, source.name, source.raw_schema, table)
                    beside_scheduled_loads(shape, known, table, target.where)
                    window, doubt = await trusted_window(theirs, table, shape, state, target.where)
                    portable = await theirs.fetchrow(PROBE) != probe
                if doubt:
                    # The next load may read all rows again; until then, differences are reported and can be repaired.
                    window = replace(window, condition="false")
                await start_reading(theirs, origin_address, source, table, shape)
                yield Ends(
                    ours,
                    theirs,
                    target,
                    replace(shape, columns=tuple(one for one in shape.columns if known.get(one.name) == one.raw_type)),
                    shape,
                    state,
                    window.condition if _reads_a_part(table, state) else "false",
                    portable,
                    tuple(one.name for one in shape.columns if known.get(one.name) != one.raw_type),
                )
    except Exception as problem:
        error = explain(problem, target.where, side)
        if error is problem:
            raise
        raise error from None  # the cause's text may quote rows
