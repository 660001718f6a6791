"""The start and end of a run: in ops.runs, in the log, in Sentry, and in lineage.

async with table_run("ingest", source.name, tables=[…]) as run:      flows of tables, side by side with others
    ...
    await run.end(status, {"tables": 3})                             else it ends as `done`, or as its error says

with model_run("transform", target=…) as run:                        flows of models, one at a time
    run.details = {"nodes": 51}
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.logging import get_run_logger

from flows.access import addresses
from flows.failures.diagnose import Failure, diagnose
from flows.observe import metrics, sentry
from flows.observe.logs import about
from flows.observe.openlineage import State
from flows.state import ledger, runs
from flows.state.active_runs import other_runs
from flows.state.transform_lock import transform_lock
from flows.state.usage import Usage
from flows.tasks import lineage
from flows.tasks.begin import current_flow_run_id, ensure_operations
from flows.tasks.correlation import correlated_run
from flows.tasks.stopped import close_stopped_run, living
from flows.tasks.usage import keep_usage
from flows.values.errors import MedallionError
from flows.values.settings import settings


@dataclass(slots=True)
class Run:
    """A running run: its number in ops.runs, and the details stored at its end. `used`: what its loads used."""

    number: int
    pipeline: str
    scope: str
    details: Mapping[str, Any] = field(default_factory=dict)
    has_ended: bool = False
    used: list[Usage] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _cpu_began: float = field(default_factory=metrics.cpu_seconds)

    async def end(self, status: str, details: Mapping[str, Any] | None = None, failure: Failure | None = None) -> None:
        """Record its end: done, failed, refused, rescheduled or stopped."""
        self.has_ended = True
        facts = failure.facts(self.number, None) if failure is not None else None
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            if facts is not None:
                await ledger.record_error(warehouse, facts)
            kept = self.details if details is None else details
            await runs.close_run(warehouse, self.number, status, facts["error_id"] if facts else None, kept or None)
            await keep_usage(warehouse, [*self.used, self._own(status)])

    def _own(self, status: str) -> Usage:
        seconds, cpu = time.monotonic() - self._began, metrics.cpu_seconds() - self._cpu_began
        return Usage("run", self.scope, self.pipeline, status, seconds, cpu, metrics.peak_memory_bytes())

    def note(self, details: Mapping[str, Any]) -> None:
        """Record details before its end, for receipts of what it builds. Not in a running event loop."""

        async def write() -> None:
            async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
                await runs.note_details(warehouse, self.number, details)

        asyncio.run(write())

    async def others(self) -> bool:
        """Whether other runs of tables are active, in any process."""
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            return await other_runs(warehouse, self.number)


async def _open(pipeline: str, scope: str, tables: Sequence[str] | None, correlation_id: str) -> Run:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        if tables is not None:
            await runs.close_dead_runs(warehouse, pipeline, scope, tables)
        number = await runs.open_run(warehouse, pipeline, scope, current_flow_run_id(), correlation_id)
        return Run(number, pipeline, scope)


@asynccontextmanager
async def table_run(
    pipeline: str, scope: str, *, where: str, tables: Sequence[str] | None = None
) -> AsyncIterator[Run]:
    """A run that may run in parallel with others. The locks of its `tables` show which earlier runs are dead.

    The flow ends it with its own status. Otherwise it ends as `done`, or with the status of the raised error.
    """
    with correlated_run(f"{pipeline} {scope}".strip(), pipeline=pipeline) as correlation_id:
        run = await _open(pipeline, scope, tables, correlation_id)
        with about(run=run.number, pipeline=pipeline):
            async with living(run.number, where):
                try:
                    yield run
                except Exception as problem:
                    if not run.has_ended:
                        failure = diagnose(problem, where)
                        await run.end(failure.status)
                        sentry.capture(failure.error)
                    raise
                if not run.has_ended:
                    await run.end("done")


@contextmanager
def model_run(pipeline: str, *, target: Path | None = None) -> Iterator[Run]:
    """A run that builds or reads models: exclusive, under the transform's lock. `target`: dbt's folder, for lineage.

    Raises:
        LoadLocked: another one was running during the full wait.
        MedallionError: the error of the block, with a text without values.
    """
    ensure_operations()
    lock = transform_lock(addresses.warehouse(), wait_seconds=settings().lock_wait_seconds)
    with correlated_run(pipeline, pipeline=pipeline) as correlation_id, lock, about(pipeline=pipeline):
        # We hold the lock: other rows that are `running` belong to dead runs.
        run = asyncio.run(_open(pipeline, "", [], correlation_id))
        told = _Lineage(pipeline, run.number, target)
        told.began()
        try:
            with about(run=run.number):
                yield run
        except Exception as problem:
            failure = diagnose(problem, pipeline)
            if type(failure.error) is MedallionError:
                # Unforeseen. The traceback is kept, the text is not: it may quote rows.
                frames = "".join(traceback.format_tb(problem.__traceback__))
                get_run_logger().error("unexpected %s (%s)\n%s", type(problem).__name__, failure.error_id, frames)
            sentry.capture(failure.error)
            asyncio.run(run.end(failure.status, failure=failure))
            told.ended("FAIL", failure.error)
            raise failure.error from None
        except BaseException as stop:
            asyncio.run(close_stopped_run(run.number, stop, pipeline))
            told.ended("ABORT")
            raise
        asyncio.run(run.end("done"))
        told.ended("COMPLETE")


class _Lineage:
    """The lineage events of a run of models; none without dbt's folder."""

    def __init__(self, pipeline: str, run_id: int, target: Path | None) -> None:
        self._target, self._since = target, time.time()
        self._run = lineage.lineage_run(pipeline, current_flow_run_id(), run_id)

    def began(self) -> None:
        if self._target is not None:
            asyncio.run(lineage.tell("START", self._run))

    def ended(self, state: State, error: MedallionError | None = None) -> None:
        if self._target is None:
            return
        if state != "ABORT":
            asyncio.run(lineage.tell_build(self._run, self._target, since=self._since))
        asyncio.run(lineage.tell(state, self._run, error))
