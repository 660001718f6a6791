"""Rooms dressed as Prefect tasks: every retry, timeout and limit on one page.

    load      4 attempts, 2 s then twice as long each time, ± half; only for errors that a retry can help
              one slot of `source-<name>` and one of `warehouse`, held for the load
              2 h at most
    reconcile as load: a comparison scans both ends, and a repair is a load
    gate      2 attempts, since a check that could not run says nothing about the data

No result is cached: data that was there a minute ago says nothing about now. Results are stored as JSON.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.kinds.api import Api
from flows.kinds.api.compare import reconcile_endpoint
from flows.kinds.api.plan import load_endpoint
from flows.kinds.databases.compare import reconcile_foreign
from flows.kinds.databases.stage import load_foreign
from flows.kinds.dlt import DltSource
from flows.kinds.dlt.compare import reconcile_resource
from flows.kinds.dlt.stage import load_resource
from flows.kinds.postgres.compare.compare import reconcile_table
from flows.kinds.postgres.large.chunks import RunChunk
from flows.kinds.postgres.stage import load_table
from flows.observe import metrics
from flows.observe.progress import report
from flows.tasks.progress import tell, told
from flows.tasks.retry import _DELAYS, _JITTER, _LOAD_TIMEOUT_SECONDS, _RETRIES, may_retry, slots
from flows.values.settings import settings
from flows.verbs.find import find_source


@task(
    task_run_name="{source}.{table} {window}",
    retries=_RETRIES,
    retry_delay_seconds=_DELAYS,
    retry_jitter_factor=_JITTER,
    retry_condition_fn=may_retry,
    timeout_seconds=_LOAD_TIMEOUT_SECONDS,
    cache_policy=NO_CACHE,
    persist_result=True,
    result_serializer="json",
)
async def load(source: str, table: str, window: str, run_id: int) -> dict[str, Any]:
    """Bring one raw table up to date; `window` only names the run. Returns the load's facts as plain values."""
    declared = find_source(source)
    with metrics.measure() as meter, told(f"{source}.{table}") as on_progress:
        async with slots(source):
            if isinstance(declared, Api):
                result = await load_endpoint(
                    addresses.warehouse(),
                    addresses.api(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    on_progress=on_progress,
                )
            elif isinstance(declared, DltSource):
                result = await load_resource(
                    addresses.warehouse(),
                    addresses.dlt(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    on_progress=on_progress,
                )
            elif declared.engine == "postgresql":
                with _readers() as run_chunk:
                    result = await load_table(
                        addresses.warehouse(),
                        addresses.database(declared),
                        declared,
                        declared.table(table),
                        run_id=run_id,
                        on_progress=on_progress,
                        run_chunk=run_chunk,
                    )
            else:
                result = await load_foreign(
                    addresses.warehouse(),
                    addresses.database(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    on_progress=on_progress,
                )
    meter.rows, meter.bytes = result.counts.rows_read, result.counts.bytes
    tell(result, meter)
    return asdict(result)


def _readers() -> AbstractContextManager[RunChunk | None]:
    """Who reads the chunks of large tables: a Dask cluster by setting, else (None) threads of this process."""
    scheduler = settings().dask_scheduler
    if not scheduler:
        return nullcontext()
    from flows.tasks.chunks import dask_readers  # imports Dask, which takes a second

    return dask_readers(scheduler)


@task(
    task_run_name="reconcile {source}.{table}",
    retries=_RETRIES,
    retry_delay_seconds=_DELAYS,
    retry_jitter_factor=_JITTER,
    retry_condition_fn=may_retry,
    timeout_seconds=_LOAD_TIMEOUT_SECONDS,
    cache_policy=NO_CACHE,
    persist_result=True,
    result_serializer="json",
)
async def reconcile(source: str, table: str, repair: bool, run_id: int) -> dict[str, Any]:
    """Compare one table's both ends, and repair raw if asked to. Returns the comparison's facts as plain values."""
    declared = find_source(source)
    with told(f"{source}.{table}"):
        async with slots(source):
            if isinstance(declared, Api):
                result = await reconcile_endpoint(
                    addresses.warehouse(),
                    addresses.api(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                )
            elif isinstance(declared, DltSource):
                result = await reconcile_resource(
                    addresses.warehouse(),
                    addresses.dlt(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                )
            elif declared.engine != "postgresql":
                result = await reconcile_foreign(
                    addresses.warehouse(),
                    addresses.database(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                )
            else:
                result = await reconcile_table(
                    addresses.warehouse(),
                    addresses.database(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    repair=repair,
                )
    text = f"{result.verdict}: {result.differences:,} differences, {result.waiting:,} waiting, {result.seconds:.1f} s"
    get_run_logger().log(logging.INFO if result.agrees else logging.WARNING, "%s.%s %s", source, table, text)
    report(f"{source}.{table}", "done" if result.agrees else "failed", text)
    return asdict(result)
