"""Flow backfill: reload a range of days of one table, partition by partition, in parallel with scheduled loads.

A backfill that was killed, or failed at a partition, resumes after the last completed partition when it is run again.
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
from flows.observe.artifacts import LoadLine, loads_table_markdown
from flows.observe.progress import report
from flows.state import backfills
from flows.tasks import begin, retry
from flows.tasks.runs import Run, table_run
from flows.tasks.slots import shared_slots, slots
from flows.values.settings import settings
from flows.verbs.backfill import backfill_partition, dividing_column
from flows.verbs.find import find_table


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
    """Reload the table's partitions from day `first` to day `last` (inclusive); return each load's facts.

    Raises:
        MedallionError: a partition could not be loaded; earlier ones are complete, and the next run resumes after them.
    """
    begin.begin()
    source, declared = find_table(table)
    column = dividing_column(source, declared, by)
    wanted = partitions(first, last, every)
    loads: list[dict[str, Any]] = []
    async with table_run("backfill", table, where=table, tables=[declared.name]) as run:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            backfill_id, done = await backfills.open_backfill(
                warehouse, source.name, declared.name, column, every, (first, last), restart=restart
            )
        waiting = [partition for partition in wanted if partition.lower not in done]
        if done:
            get_run_logger().info("%s: %d of %d partitions are already complete", table, len(done), len(wanted))
        try:
            async with shared_slots(source.name, run.others):
                for place, partition in enumerate(waiting, start=len(wanted) - len(waiting) + 1):
                    where = f"{place} of {len(wanted)}"
                    loads.append(await load_partition(table, column, partition, where, backfill_id, run.number))
        except Exception:
            await _show(run, table, loads)
            raise
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            await backfills.close_backfill(warehouse, backfill_id)
        await _show(run, table, loads)
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
    """Reload one partition; `place` is its number and the total. Returns the load's facts as plain values."""
    source, declared = find_table(table)
    name = f"{table} {partition}"
    report(name, "began", place)
    try:
        async with slots(source.name):
            result = await backfill_partition(source, declared, column, partition, backfill_id, run_id=run_id)
    except Exception as problem:
        report(name, "failed", str(diagnose(problem, table).error))
        raise
    counts = result.counts
    report(
        name,
        "done",
        f"{place}: {counts.rows_read:,} read, {counts.rows_inserted:,} inserted, {counts.rows_updated:,} updated, "
        f"{counts.rows_deleted:,} deleted, {counts.rows_quarantined:,} quarantined, {result.seconds:.1f} s",
    )
    return asdict(result)


async def _show(run: Run, table: str, loads: list[dict[str, Any]]) -> None:
    run.details = {"partitions": len(loads)}
    counted = [name for name in LoadLine.__dataclass_fields__ if name.startswith("rows_")] + ["bytes"]
    lines = [
        LoadLine(
            source=load["source"],
            table=f"{load['table']} {load['lower']}",
            strategy=load["strategy"],
            status="published",
            seconds=load["seconds"],
            reconciliation=load["counts"]["reconciliation"],
            note=load["warning"] or "",
            **{name: load["counts"][name] for name in counted},
        )
        for load in loads
    ]
    await acreate_markdown_artifact(
        key=f"backfill-{table.replace('_', '-').replace('.', '-')}",
        markdown=loads_table_markdown(lines, title=f"Backfill of {table}"),
        description=f"Loads of the partitions of {table}",
    )
