"""Chunks of large tables read by a Dask cluster: each is a Prefect task that runs on one of its workers.

The workers need the same code, and the same connection URLs in their environment or blocks. Only names and numbers
are sent to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.access import addresses
from flows.kinds.answers import Ends
from flows.kinds.registry import kind_of
from flows.observe import logs, sentry, tracing
from flows.values.correlation import handed_down, taken_over
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from flows.verbs.find import find_source


@task(
    task_run_name="read {job.source}.{job.table} {job.lower} to {job.upper}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def read_chunk(job: Any, handed: Mapping[str, str]) -> Any:
    """Stage one chunk, on any worker, under the run's correlation id, which is `handed` down."""
    dsn = settings().sentry_dsn
    sentry.init(dsn.get_secret_value() if dsn else None, environment=settings().environment)
    logs.write_as(settings().log_format)
    logs.guard()
    tracing.start(settings().environment)
    source = find_source(job.source)
    kind = kind_of(source)
    ends = Ends(addresses.warehouse(), kind.address(source), source, source.table(job.table))
    with taken_over(handed):
        return asyncio.run(kind.stage_chunk(ends, job))


@contextmanager
def dask_readers(scheduler: str) -> Iterator[Callable[[Any], Awaitable[Any]]]:
    """Readers on the cluster with this scheduler, such as `tcp://scheduler:8786`.

    Raises:
        ConfigurationError: the extra `dask` is not installed, or the scheduler does not respond.
    """
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise ConfigurationError(
            "MEDALLION_DASK_SCHEDULER is set, and the extra `dask` is not installed",
            where="settings",
            fix="install it with `uv sync --extra dask`, or unset the variable to read in threads",
        ) from None
    runner = DaskTaskRunner(address=scheduler, client_kwargs={"timeout": settings().connect_timeout_seconds})
    with runner:
        try:
            _ = runner.client
        except (OSError, TimeoutError):
            raise ConfigurationError(
                "the Dask scheduler does not respond",
                where="settings",
                fix="start it, or correct MEDALLION_DASK_SCHEDULER, or unset it to read in threads",
            ) from None

        async def run(job: Any) -> Any:
            future = runner.submit(read_chunk, parameters={"job": job, "handed": handed_down()})
            try:
                chunk = await asyncio.to_thread(future.result)
            except asyncio.CancelledError:
                # A started chunk runs to its end; the next attempt waits for it in the warehouse.
                future.wrapped_future.cancel()
                raise
            return chunk

        yield run
