"""Counts of a MySQL or MariaDB table and of raw: keys that were recorded and not loaded are pending."""

from __future__ import annotations

from dataclasses import replace

from flows.access.addresses import connect
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.answers import Ends
from flows.kinds.captured.foreign_names import quote
from flows.kinds.captured.foreign_state import ForeignState, beside_the_table, look_foreign
from flows.kinds.databases import rows
from flows.kinds.databases.connection import Reader, open_reader
from flows.kinds.databases.plan import plan_foreign
from flows.landing.table import Target
from flows.publish.counts import Totals, compare_counts
from flows.state.reconciliations import Reconciliation
from flows.values.settings import settings


async def compare_foreign(ends: Ends[Database, Table]) -> Reconciliation:
    """Compare by counts. Rows that raw lacks or has too many are pending, up to as many as were recorded."""
    source, table, seconds = ends.source, ends.table, settings().connect_timeout_seconds
    async with (
        connect(ends.warehouse, side="warehouse") as warehouse,
        open_reader(source.engine, ends.address, ends.where, seconds) as reader,
    ):
        planned = await plan_foreign(warehouse, reader, source, table)
        state = await look_foreign(reader, source, table)
        await reader.begin()
        measured = await rows.measure(reader, planned.described, planned.bounded)
        there, gone = (0, 0) if state.identity is None else await _recorded(reader, state, table)

        async def coming(_: int) -> int:
            return there

        totals = Totals(
            measured.below,
            {key.name: key.raw_type for key in planned.described.keys},
            planned.bounded.window.below,
            coming,
            f"only counts: {source.engine} hashes otherwise than PostgreSQL",
            newest=table.on_duplicate == "newest",
        )
        found = await compare_counts(warehouse, Target(source.name, table.name, source.raw_schema), totals)
    if 0 < found.extra <= gone and not found.duplicate:
        return replace(found, result="match", extra=0, pending=found.extra)
    return found


async def _recorded(reader: Reader, state: ForeignState, table: Table) -> tuple[int, int]:
    """Recorded keys that the table has, and those that it does not have any more."""
    joined, is_missing = beside_the_table(state, reader, table)
    keys = ", ".join(f"s.{quote(name)}" for name, _ in state.statements.keys)
    query = f"select cast(count(distinct {keys}) as signed) as n from {joined} where "
    ((there,), (gone,)) = await reader.rows(f"{query} not {is_missing}"), await reader.rows(query + is_missing)
    return int(there["n"]), int(gone["n"])
