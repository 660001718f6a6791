"""Rooms dressed as Prefect tasks: every retry, timeout and limit on one page.

    load      4 attempts, 2 s then twice as long each time, ± half; only for errors that a retry can help
              one slot of `source-<name>` and one of `warehouse`, held for the load
              2 h at most
    reconcile as load: a comparison scans both ends, and a repair is a load
    gate      2 attempts, since a check that could not run says nothing about the data

No result is cached: data that was there a minute ago says nothing about now. Results are stored as JSON.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.asyncio import concurrency
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.tasks import Task, exponential_backoff

from flows import connections, prefect_trust
from flows.load_words import tell, told
from flows.loads.api import load_endpoint
from flows.loads.chunks import RunChunk
from flows.loads.database import load_table
from flows.loads.declared import find_source
from flows.loads.dlt import load_resource
from flows.loads.foreign import load_foreign
from flows.loads.reconcile import reconcile_table
from flows.loads.reconcile_counts import reconcile_endpoint
from flows.loads.reconcile_dlt import reconcile_resource
from flows.loads.reconcile_foreign import reconcile_foreign
from flows.observe import logs, metrics, sentry
from flows.observe.progress import report
from flows.quality import soda
from flows.recovery.circuit import CircuitOpen
from flows.recovery.failures import STRATEGIES, Strategy, diagnose
from flows.settings import PROJECT_ROOT, settings
from flows.spec import Api, DltSource
from flows.spec.errors import DataRefused, RateLimited
from flows.state import ledger

_RETRIES = settings().load_attempts - 1
_DELAYS = exponential_backoff(backoff_factor=settings().retry_first_delay_seconds)
_JITTER = 0.5
_LOAD_TIMEOUT_SECONDS = 2 * 3600
# A killed process gives its slots back after this long; Prefect allows no less.
_SLOT_LEASE_SECONDS = 60


def begin() -> None:
    """What every flow does first: nothing secret reaches a log or Sentry from here on, wherever the flow runs."""
    _leave_packages_off_the_path()
    prefect_trust.share()
    dsn = settings().sentry_dsn
    sentry.init(dsn.get_secret_value() if dsn else None, environment=settings().environment)
    logs.guard()


def _leave_packages_off_the_path() -> None:
    """A worker's process has the folder of the flow's file first on the path: there `dbt` is our package, not dbt."""
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "__init__.py").is_file()]


async def may_retry(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only failures whose strategy is to retry: a wrong password stays wrong, refused data stays refused.

    An API that asks for more patience than a run has, or whose circuit is open, is left alone until the next
    scheduled run.
    """
    try:
        await state.aresult()
    except Exception as problem:
        failure = diagnose(problem, "task")
        if isinstance(failure.error, RateLimited | CircuitOpen):
            return False
        return failure.error.retryable and STRATEGIES[failure.failure_class][0] is Strategy.RETRY
    return False


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
                    connections.warehouse(),
                    connections.api(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    on_progress=on_progress,
                )
            elif isinstance(declared, DltSource):
                result = await load_resource(
                    connections.warehouse(),
                    connections.dlt(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    on_progress=on_progress,
                )
            elif declared.engine == "postgresql":
                with _readers() as run_chunk:
                    result = await load_table(
                        connections.warehouse(),
                        connections.database(declared),
                        declared,
                        declared.table(table),
                        run_id=run_id,
                        on_progress=on_progress,
                        run_chunk=run_chunk,
                    )
            else:
                result = await load_foreign(
                    connections.warehouse(),
                    connections.database(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    on_progress=on_progress,
                )
    meter.rows, meter.bytes = result.counts.rows_read, result.counts.bytes
    tell(result, meter)
    return asdict(result)


def slots(source: str) -> AbstractAsyncContextManager[None]:
    """One slot of the source and one of the warehouse, held for a load."""
    return concurrency([f"source-{source}", "warehouse"], occupy=1, lease_duration=_SLOT_LEASE_SECONDS, strict=False)


def _readers() -> AbstractContextManager[RunChunk | None]:
    """Who reads the chunks of large tables: a Dask cluster by setting, else (None) threads of this process."""
    scheduler = settings().dask_scheduler
    if not scheduler:
        return nullcontext()
    from flows.dask_chunks import dask_readers  # imports Dask, which takes a second

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
                    connections.warehouse(),
                    connections.api(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                )
            elif isinstance(declared, DltSource):
                result = await reconcile_resource(
                    connections.warehouse(),
                    connections.dlt(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                )
            elif declared.engine != "postgresql":
                result = await reconcile_foreign(
                    connections.warehouse(),
                    connections.database(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                )
            else:
                result = await reconcile_table(
                    connections.warehouse(),
                    connections.database(declared),
                    declared,
                    declared.table(table),
                    run_id=run_id,
                    repair=repair,
                )
    text = f"{result.verdict}: {result.differences:,} differences, {result.waiting:,} waiting, {result.seconds:.1f} s"
    get_run_logger().log(logging.INFO if result.agrees else logging.WARNING, "%s.%s %s", source, table, text)
    report(f"{source}.{table}", "done" if result.agrees else "failed", text)
    return asdict(result)


@task(
    task_run_name="gate {gate}",
    retries=1,
    retry_delay_seconds=2,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
    persist_result=True,
    result_serializer="json",
)
def check_gate(gate: Literal["raw", "gold"], schema_prefix: str = "") -> list[dict[str, Any]]:
    """Run the gate's contracts. Returns every check as plain values. `schema_prefix` tells what stands beside gold.

    Gate raw checks every table that was ever loaded, also those whose latest load failed: models read them all.

    Raises:
        DataRefused: no contract was found, which must not be taken for a pass.
    """
    began = time.monotonic()
    report(f"gate {gate}", "began")
    contracts = _contracts(gate)
    if not contracts:
        raise DataRefused(
            "there is nothing to check",
            where=f"gate {gate}",
            next_move=f"run `medallion run` if nothing was loaded yet; else restore the contracts in soda/{gate}",
        )
    results = soda.verify(contracts, connections.transformer().url, gate=gate, schema_prefix=schema_prefix)
    blocking = sum(result.blocks for result in results)
    report(
        f"gate {gate}",
        "failed" if blocking else "done",
        f"{len(results)} checks, {blocking} blocking, {time.monotonic() - began:.1f} s",
    )
    return [asdict(result) | {"blocks": result.blocks} for result in results]


def _contracts(gate: str) -> list[Path]:
    paths = sorted((PROJECT_ROOT / "soda" / gate).rglob("*.yml"))
    if gate == "gold":
        return paths
    loaded = asyncio.run(_loaded())
    return [path for path in paths if (path.parent.name, path.stem) in loaded]


async def _loaded() -> set[tuple[str, str]]:
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        return await ledger.published_tables(warehouse)


def ensure_operations() -> None:
    """Bring schema `ops` up to date, before a lock is taken that an upgrade would wait for.

    Raises:
        LoadLocked: it wants an upgrade, and runs were under way all the while we waited.
    """

    async def ensured() -> None:
        async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
            await ledger.ensure_schema(warehouse)

    asyncio.run(ensured())


def current_flow_run_id() -> str | None:
    """The id of the Prefect flow run we are in."""
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else None
