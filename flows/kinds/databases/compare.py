"""Raw against a source that is not PostgreSQL: by counts, since its hashes are not PostgreSQL's."""

from __future__ import annotations

import time

from flows.access.addresses import connect
from flows.kinds.databases import rows
from flows.kinds.databases.plan import open_source, plan_foreign
from flows.kinds.postgres import Database, Table
from flows.landing.table import Target, raw_columns
from flows.publish import raw_rows
from flows.quality import open_rows
from flows.state import ledger, reconciliations
from flows.state.reconciliations import Reconciliation
from flows.values.connection import DatabaseConnection


async def reconcile_foreign(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    *,
    run_id: int | None = None,
) -> Reconciliation:
    """Compare the source's count with the rows that raw and quarantine hold; the result is recorded.

    Up to as many rows as the next load would read are `waiting`, not missing. Nothing is repaired: a load whose keys
    do not agree reads the table whole by itself.

    Raises:
        MedallionError: the source or the warehouse does not answer.
    """
    started = time.monotonic()
    target = Target(source.name, table.name, source.raw_schema)
    found = Reconciliation(source.name, table.name, "count", "not loaded yet")
    async with connect(warehouse_address, side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        if await raw_columns(warehouse, target) is not None:
            async with open_source(source, origin_address, target.where) as reader:
                _, described, bounded, _ = await plan_foreign(warehouse, reader, source, table)
                await reader.begin()
                measured = await rows.measure(reader, described, bounded)
            kinds = {key.name: key.raw_type for key in described.keys}
            names = {"source": source.name, "table": table.name}
            aside = await open_rows.key_set_not_in_raw(warehouse, target.raw, kinds, **names)
            held = await raw_rows.count_live(warehouse, target, bounded.window.below)
            lacking = measured.below - held - aside.rows
            waiting = min(max(0, lacking), measured.rows) if table.cursor else 0
            found = Reconciliation(
                source.name,
                table.name,
                "count",
                "equal" if lacking == waiting else "different",
                source_rows=measured.below,
                raw_rows=held,
                missing=max(0, lacking - waiting),
                surplus=max(0, -lacking),
                quarantined=aside.rows,
                waiting=waiting,
                seconds=time.monotonic() - started,
                note=f"only counts: {source.engine} hashes otherwise than PostgreSQL",
            )
        await reconciliations.record(warehouse, run_id, found)
    return found
