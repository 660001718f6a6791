"""One chunk of a table: read in a shared snapshot, staged and recorded in its own transaction.

A chunk may be read by this thread, another one, or another machine. The job is a few numbers; connection URLs and the
declaration are looked up where it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from flows.access.addresses import connect
from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import diagnose
from flows.failures.failpoints import pass_failpoint
from flows.failures.sides import Sides
from flows.kinds.postgres.large.slices import Grid
from flows.kinds.postgres.reading import join_reading
from flows.kinds.postgres.rows import refuse_other_count, watched
from flows.kinds.postgres.table import CopyStream, select_rows
from flows.landing import copy
from flows.landing.table import Target
from flows.observe.metrics import peak_memory_bytes
from flows.publish.identity import declared_masks
from flows.state import reads
from flows.state.reads import Chunk
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, LoadLocked
from flows.values.settings import settings


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """Steps `lower` (inclusive) to `upper` (exclusive) of a batch's read, in an exported snapshot of the source.

    `size` in bytes and `reason` are how the chunk's extent was chosen; they are recorded with it.
    """

    source: str
    table: str
    batch_id: int
    attempt: int
    snapshot: str
    lower: int
    upper: int
    size: int
    reason: str


RunChunk = Callable[[ChunkJob], Awaitable[Chunk]]
"""Stages a chunk, in this process or in another one."""


async def stage_chunk(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    job: ChunkJob,
) -> Chunk:
    """Copy the chunk's rows into the landing table and record the chunk, in one transaction.

    Raises:
        MedallionError: with a text without values; nothing of the chunk was staged.
        LoadLocked: a newer attempt has taken over the load.
    """
    worker = _Worker(source, table, job)
    try:
        return await worker.stage(warehouse_address, origin_address)
    except Exception as problem:
        # Diagnosed here, where the failing side is known: the error crosses threads and processes.
        raise diagnose(problem, worker.target.where, worker.side).error from None


class _Worker(Sides):
    def __init__(self, source: Database, table: Table, job: ChunkJob) -> None:
        self.source, self.table, self.job = source, table, job
        self.target = Target(source.name, table.name, source.raw_schema)

    async def stage(self, warehouse_address: DatabaseConnection, origin_address: DatabaseConnection) -> Chunk:
        started, memory = time.monotonic(), peak_memory_bytes()
        job, target = self.job, self.target
        async with contextlib.AsyncExitStack() as ends:
            ours = await ends.enter_async_context(
                connect(warehouse_address, side="warehouse", application=f"medallion load {target.where}")
            )
            with self.reading():
                origin = await ends.enter_async_context(
                    connect(origin_address, side="source", application=f"medallion read {target.where}")
                )
                shape = await join_reading(origin, self.source, self.table, job.snapshot)
            async with ours.transaction():
                if not await reads.join_read(ours, job.batch_id, job.attempt):
                    raise _superseded(target.where)
                read = await reads.find_read(ours, job.batch_id)
                assert read is not None  # join_read has found it
                self._refuse_other_masks(read.window.next.identity.get("masked") or {})
                within = Grid.from_facts(read.grid).condition(job.lower, job.upper)
                condition = f"({read.window.condition}) and {within}"
                stream = CopyStream(origin, select_rows(self.table, shape, condition))
                async with contextlib.aclosing(watched(stream, self)) as chunks:
                    landed = await copy.copy_rows(ours, target, shape.names, chunks)
                refuse_other_count(stream.rows, landed, target.where)
                seconds, growth = time.monotonic() - started, peak_memory_bytes() - memory
                chunk = Chunk(job.lower, job.upper, landed, stream.bytes, seconds, growth, job.size, job.reason)
                await reads.record_chunk(ours, job.batch_id, job.attempt, chunk)
                pass_failpoint("in_chunk_before_commit", settings().failpoint)
        pass_failpoint("after_chunk_commit", settings().failpoint)
        return chunk

    def _refuse_other_masks(self, of_load: Mapping[str, str]) -> None:
        """A worker elsewhere may have other code, or another key: its rows would be in plain, or of another person."""
        if declared_masks(self.table) != of_load:
            raise ConfigurationError(
                "this worker masks other columns than the load that it reads for, or has another key",
                where=self.target.where,
                fix="deploy the same version, with the same MEDALLION_MASK_KEY, to all workers",
            )


def _superseded(where: str) -> LoadLocked:
    return LoadLocked(
        "another attempt has taken over this load",
        where=where,
        fix="none needed: the newer attempt resumes from the committed chunks",
        retryable=False,
    )


class _InThread:
    """Work on its own event loop, which another thread can cancel."""

    def __init__(self, work: Coroutine[None, None, Chunk]) -> None:
        self._work = work
        self._task: asyncio.Task[Chunk] | None = None
        self._cancelled = False

    def run(self) -> Chunk:
        async def supervised() -> Chunk:
            self._task = asyncio.create_task(self._work)
            if self._cancelled:
                self._task.cancel()
            return await self._task

        return asyncio.run(supervised())

    def cancel(self) -> None:
        self._cancelled = True
        if (task := self._task) is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just ended
                task.get_loop().call_soon_threadsafe(task.cancel)


class Threads:
    """Runs chunks in threads of this process, each with its own event loop and connections."""

    def __init__(
        self,
        warehouse_address: DatabaseConnection,
        origin_address: DatabaseConnection,
        source: Database,
        table: Table,
        readers: int,
    ) -> None:
        self._ends, self._source, self._table = (warehouse_address, origin_address), source, table
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix=f"read-{source.name}.{table.name}")

    async def __call__(self, job: ChunkJob) -> Chunk:
        running = _InThread(stage_chunk(*self._ends, self._source, self._table, job))
        future = asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, running.run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            running.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await future
            raise

    def close(self) -> None:
        """End the threads; all chunks have ended by now."""
        self._pool.shutdown(wait=False, cancel_futures=True)
