"""An API's endpoint compared by counts: an API shows its records page by page, so content would mean reading all."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.kinds.api import Api, Endpoint, Since
from flows.kinds.api.pages.endpoint import HttpLimits, count_records, read_pages
from flows.kinds.api.plan import since_of
from flows.landing.table import Target, raw_columns
from flows.publish import raw_rows
from flows.quality import open_rows
from flows.state import ledger, reconciliations
from flows.state.reconciliations import Reconciliation
from flows.values.connection import ApiConnection, DatabaseConnection
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def reconcile_endpoint(
    warehouse_address: DatabaseConnection,
    api_connection: ApiConnection,
    source: Api,
    endpoint: Endpoint,
    *,
    run_id: int | None = None,
) -> Reconciliation:
    """Compare the API's own count with the records raw and quarantine hold; the result is recorded.

    Nothing can be repaired: an API is not asked for single records.

    Raises:
        MedallionError: the API or the warehouse does not answer.
    """
    started = time.monotonic()
    target = Target(source.name, endpoint.name, source.raw_schema)
    limits = HttpLimits(wait_budget_seconds=settings().api_wait_budget_seconds)
    note = "only counts: an API shows its records page by page"
    result = Reconciliation(source.name, endpoint.name, "count", "not loaded yet", note=note)
    async with connect(warehouse_address, side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        if await raw_columns(warehouse, target) is not None:
            kinds = {field.name: field.type for field in endpoint.key_fields}
            aside = await open_rows.key_set_not_in_raw(
                warehouse, target.raw, kinds, source=source.name, table=endpoint.name
            )
            held = await raw_rows.count_live(warehouse, target, "true")
            total = await count_records(source, endpoint, api_connection, limits=limits)
            lacking = 0 if total is None else total - held - aside.rows
            waiting = 0
            if lacking > 0:
                waiting = min(lacking, await _not_read_yet(warehouse, target, source, endpoint, api_connection, limits))
            verdict = "source gives no count" if total is None else "equal" if lacking == waiting else "different"
            result = replace(
                result,
                verdict=verdict,
                source_rows=total,
                raw_rows=held,
                missing=max(0, lacking - waiting),
                surplus=max(0, -lacking),
                quarantined=aside.rows,
                waiting=waiting,
            )
        result = replace(result, seconds=time.monotonic() - started)
        await reconciliations.record(warehouse, run_id, result)
    return result


async def _not_read_yet(
    warehouse: Connection[Record],
    target: Target,
    source: Api,
    endpoint: Endpoint,
    connection: ApiConnection,
    limits: HttpLimits,
) -> int:
    """How many more records the API has than raw since the cursor: those the next load brings."""
    since = since_of(endpoint, await ledger.read_cursor(warehouse, source.name, endpoint.name))
    if since is None or not isinstance(endpoint.cursor, Since):
        return 0
    async with contextlib.aclosing(read_pages(source, endpoint, connection, since=since, limits=limits)) as pages:
        coming = (await anext(pages)).total or 0
    cursor = endpoint.cursor
    window = f"{quote_identifier(cursor.column)} >= {quote_literal(since)}::{cursor.raw_type}"
    return max(0, coming - await raw_rows.count_live(warehouse, target, window))
