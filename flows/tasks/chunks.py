"""Chunks of large tables read by a Dask cluster: each is a Prefect task that runs on one of its workers.

The workers are deployed as ours are: the same code, and the same addresses in their environment or among the blocks.
Only names and numbers travel to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.access import addresses
from flows.kinds.postgres import Database
from flows.kinds.postgres.large.chunks import ChunkJob, RunChunk, stage_chunk
from flows.observe import logs, sentry
from flows.state.reads import Chunk
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from flows.verbs.find import find_source


@task(
    task_run_name="read {job.source}.{job.table} {job.lower} to {job.upper}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def read_chunk(job: ChunkJob) -> Chunk:
    """Stage one chunk, on whichever worker this runs."""
    dsn = settings().sentry_dsn
    sentry.init(dsn.get_secret_value() if dsn else None, environment=settings().environment)
    logs.guard()
    source = find_source(job.source)
    assert isinstance(source, Database)  # only databases are read in chunks
    ends = addresses.warehouse(), addresses.database(source)
    return asyncio.run(stage_chunk(*ends, source, source.table(job.table), job))


@contextmanager
def dask_readers(scheduler: str) -> Iterator[RunChunk]:
    """Readers on the cluster whose scheduler has this address, such as `tcp://scheduler:8786`.

    Raises:
        ConfigurationError: the extra `dask` is not installed, or nobody answers there.
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
                "no Dask scheduler answers",
                where="settings",
                fix="start it, or correct MEDALLION_DASK_SCHEDULER, or unset it to read in threads",
            ) from None

        async def run(job: ChunkJob) -> Chunk:
            future = runner.submit(read_chunk, parameters={"job": job})
            try:
                chunk: Chunk = await asyncio.to_thread(future.result)
            except asyncio.CancelledError:
                # One that has begun goes on to its end; the next attempt waits for it in the warehouse.
                future.wrapped_future.cancel()
                raise
            return chunk

        yield run
