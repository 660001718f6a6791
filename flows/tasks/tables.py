"""Loads and comparisons as Prefect tasks: every retry, timeout and limit in one place.

    load      4 attempts, 2 s then twice as long each time, ± half; only for retryable errors
              one slot of `source-<name>` and one of `warehouse`, held for the load: see slots.py
              2 h at most
    reconcile as load: a comparison scans both ends, and a repair is a load
    gate      2 attempts, since a check that could not run has no result about the data

No result is cached: data of a minute ago may be outdated. Results are stored as JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.kinds.kind import Kind
from flows.kinds.registry import kind_of
from flows.observe import metrics
from flows.observe.logs import about
from flows.observe.progress import report
from flows.observe.tracing import span
from flows.tasks.budgets import stopped_at_budget
from flows.tasks.preload import rows_changed
from flows.tasks.progress import tell, told
from flows.tasks.retry import _DELAYS, _JITTER, _LOAD_TIMEOUT_SECONDS, _RETRIES, may_retry
from flows.tasks.slots import slots
from flows.values.settings import settings
from flows.verbs.compare import compare_table
from flows.verbs.find import find_source
from flows.verbs.load import load_table


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
    """Bring one raw table up to date; `window` is only for the run's name. Returns the load's facts as plain values."""
    declared = find_source(source)
    kind = kind_of(declared)
    where = f"{source}.{table}"
    with (
        about(source=source, table=table, run=run_id),
        span(f"load {where}", source=source, table=table, run=run_id) as loading,
    ):
        with metrics.measure() as meter, told(where) as on_progress:
            async with slots(source):
                with _readers(kind) as run_chunk:
                    result = await load_table(
                        addresses.warehouse(),
                        kind.address(declared),
                        declared,
                        declared.table(table),
                        run_id=run_id,
                        on_progress=on_progress,
                        run_chunk=run_chunk,
                    )
        meter.rows, meter.bytes = result.counts.rows_read, result.counts.bytes
        loading.set(strategy=result.strategy, batch=result.batch_id, rows_read=meter.rows, bytes=meter.bytes)
        tell(result, meter)
    used = {"cpu_seconds": meter.cpu_seconds, "memory_bytes": meter.peak_memory_bytes}
    counts = result.counts
    if counts.rows_inserted or counts.rows_updated or counts.rows_deleted:
        rows_changed()
    facts = {**asdict(result), "used": used}
    return facts if result.stopped is None else stopped_at_budget(facts)  # type: ignore[return-value]


def _readers(kind: Kind[Any, Any]) -> AbstractContextManager[Callable[[Any], Awaitable[Any]] | None]:
    """The readers of chunks of large tables: a Dask cluster if configured, else (None) threads of this process."""
    scheduler = settings().dask_scheduler
    if not scheduler or not kind.reads_in_chunks:
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
    """Compare one table with its source, and repair raw on request. Returns the comparison's facts as plain values."""
    declared = find_source(source)
    where = f"{source}.{table}"
    with (
        about(source=source, table=table, run=run_id),
        span(f"compare {where}", source=source, table=table, run=run_id, repair=repair) as comparing,
        told(where),
    ):
        async with slots(source):
            result = await compare_table(
                addresses.warehouse(),
                kind_of(declared).address(declared),
                declared,
                declared.table(table),
                run_id=run_id,
                repair=repair,
            )
        comparing.set(result=result.result, differences=result.differences)
        text = (
            f"{result.result}: {result.differences:,} differences, {result.pending:,} pending, {result.seconds:.1f} s"
        )
        get_run_logger().log(logging.INFO if result.agrees else logging.WARNING, "%s %s", where, text)
        report(where, "done" if result.agrees else "failed", text)
    return asdict(result)
