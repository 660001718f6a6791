"""A dlt resource compared by counts, where its declaration names a function that asks the source for one."""

from __future__ import annotations

import time
from dataclasses import replace

from flows.access.addresses import connect
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.dlt.stage import opened_resource
from flows.landing.table import Target, raw_columns
from flows.publish import raw_rows
from flows.quality import open_rows
from flows.state import ledger, reconciliations
from flows.state.reconciliations import Reconciliation
from flows.values.connection import ApiConnection, DatabaseConnection


async def reconcile_resource(
    warehouse_address: DatabaseConnection,
    connection: ApiConnection | None,
    source: DltSource,
    resource: Resource,
    *,
    run_id: int | None = None,
) -> Reconciliation:
    """Compare the source's own count with the records raw and quarantine hold; the result is recorded.

    Nothing can be repaired: a resource is not asked for single records. Records that came to the source since the last
    load look like missing ones, since only the resource knows which it would yield.

    Raises:
        MedallionError: the source or the warehouse does not answer.
    """
    started = time.monotonic()
    target = Target(source.name, resource.name, source.raw_schema)
    note = "only counts: a dlt resource yields what is new, not what is there"
    result = Reconciliation(source.name, resource.name, "count", "not loaded yet", note=note)
    async with connect(warehouse_address, side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        raw = await raw_columns(warehouse, target)
        if raw is not None:
            total, keys = None, resource.keys
            if resource.count is not None:
                opened = opened_resource(warehouse, target, connection, source, resource)
                async with opened as (reader, known, _):
                    total, keys = await reader.count(), known.keys
            kinds = {key: raw[key] for key in keys if key in raw}
            names = {"source": source.name, "table": resource.name}
            aside = (await open_rows.key_set_not_in_raw(warehouse, target.raw, kinds, **names)).rows
            held = await raw_rows.count_live(warehouse, target, "true")
            lacking = 0 if total is None else total - held - aside
            verdict = "source gives no count" if total is None else "equal" if lacking == 0 else "different"
            result = replace(
                result,
                verdict=verdict,
                source_rows=total,
                raw_rows=held,
                missing=max(0, lacking),
                surplus=max(0, -lacking),
                quarantined=aside,
            )
        result = replace(result, seconds=time.monotonic() - started)
        await reconciliations.record(warehouse, run_id, result)
    return result
