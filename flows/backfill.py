"""Story: backfill. A stretch of days of one table read again, partition by partition, beside the scheduled loads.

A backfill that was killed, or failed at a partition, goes on behind the last one that is in when it is run again.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.declare.partition import Every, Partition, partitions
from flows.failures.diagnose import diagnose
from flows.kinds.postgres.backfill import backfill_partition, refuse_unfit
from flows.observe import sentry
from flows.observe.artifacts import LoadLine, loads_table_markdown
from flows.observe.logs import correlated
from flows.observe.progress import report
from flows.state import backfills, ledger, runs
from flows.tasks import begin, retry
from flows.tasks.stopped import living
from flows.values.settings import settings
from flows.verbs.find import find_database_table


@flow(
    name="backfill",
    flow_run_name="backfill {table} {first} to {last}",
    result_serializer="json",
    persist_result=True,
    validate_parameters=True,
)
async def backfill(
    table: str, first: date, last: date, every: Every = "month", by: str | None = None, restart: bool = False
) -> list[dict[str, Any]]:
    """Load the table's partitions from day `first` to day `last` (both in it) again; return each load's facts.

    Raises:
        MedallionError: a partition could not be loaded; those before it are in, and the next run goes on behind them.
    """
    begin.begin()
    source, declared = find_database_table(table)
    column = refuse_unfit(source, declared, by)
    wanted = partitions(first, last, every)
    with correlated() as correlation_id:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            await ledger.ensure_schema(warehouse)
            await runs.close_dead_runs(warehouse, "backfill", table, [declared.name])
            run_id = await runs.open_run(warehouse, "backfill", table, begin.current_flow_run_id(), correlation_id)
            backfill_id, done = await backfills.open_backfill(
                warehouse, source.name, declared.name, column, every, (first, last), restart=restart
            )
        waiting = [partition for partition in wanted if partition.lower not in done]
        if done:
            get_run_logger().info("%s: %d of %d partitions are in already", table, len(done), len(wanted))
        loads: list[dict[str, Any]] = []
        async with living(run_id, table):
            try:
                for place, partition in enumerate(waiting, start=len(wanted) - len(waiting) + 1):
                    where = f"{place} of {len(wanted)}"
                    loads.append(await load_partition(table, column, partition, where, backfill_id, run_id))
            except Exception as problem:
                failure = diagnose(problem, table)
                await _close(run_id, failure.status, table, loads)
                sentry.capture(failure.error)
                raise
            async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
                await backfills.close_backfill(warehouse, backfill_id)
            await _close(run_id, "done", table, loads)
    return loads


@task(
    task_run_name="{table} {partition}",
    retries=settings().load_attempts - 1,
    retry_delay_seconds=settings().retry_first_delay_seconds,
    retry_condition_fn=retry.may_retry,
    cache_policy=NO_CACHE,
    persist_result=True,
    result_serializer="json",
)
async def load_partition(
    table: str, column: str, partition: Partition, place: str, backfill_id: int, run_id: int
) -> dict[str, Any]:
    """Load one partition again; `place` says which of how many. Returns the load's facts as plain values."""
    source, declared = find_database_table(table)
    name = f"{table} {partition}"
    report(name, "began", place)
    try:
        async with retry.slots(source.name):
            result = await backfill_partition(
                addresses.warehouse(),
                addresses.database(source),
                source,
                declared,
                column,
                partition,
                backfill_id,
                run_id=run_id,
            )
    except Exception as problem:
        report(name, "failed", str(diagnose(problem, table).error))
        raise
    counts = result.counts
    report(
        name,
        "done",
        f"{place}: {counts.rows_read:,} read, {counts.rows_inserted:,} new, {counts.rows_updated:,} changed, "
        f"{counts.rows_deleted:,} deleted, {counts.rows_quarantined:,} quarantined, {result.seconds:.1f} s",
    )
    return asdict(result)


async def _close(run_id: int, status: str, table: str, loads: list[dict[str, Any]]) -> None:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await runs.close_run(warehouse, run_id, status, details={"partitions": len(loads)})
    counted = [name for name in LoadLine.__dataclass_fields__ if name.startswith("rows_")] + ["bytes"]
    lines = [
        LoadLine(
            source=load["source"],
            table=f"{load['table']} {load['lower']}",
            mode=load["path"],
            status="published",
            seconds=load["seconds"],
            reconciled=load["counts"]["reconciled"],
            **{name: load["counts"][name] for name in counted},
        )
        for load in loads
    ]
    await acreate_markdown_artifact(
        key=f"backfill-{table.replace('_', '-').replace('.', '-')}",
        markdown=loads_table_markdown(lines, title=f"Backfill of {table}"),
        description=f"What became of each partition of {table}",
    )
