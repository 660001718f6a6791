"""A read in chunks: each is staged and committed separately, by several readers, and all are published together.

Committed chunks are not read again: a new attempt at the batch resumes, with the recorded facts of the first attempt.
Most important is its window: a row that changed and moved meanwhile is beyond the cursor to be stored, so the next
load reads it.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.postgres.identity import same_source
from flows.kinds.postgres.large.chunk_size import ChunkSize
from flows.kinds.postgres.large.chunks import ChunkJob, RunChunk
from flows.kinds.postgres.large.slices import MOST_EDGES, Grid, edge_grid, page_grid
from flows.kinds.postgres.large.volume import Volume
from flows.kinds.postgres.large.within_budget import Steps, rows_apart
from flows.landing.table import Stamp, create_landing, relation_columns, stamp_landing
from flows.publish.budget import Spending
from flows.publish.run import LoadRun
from flows.publish.session import LoadSession
from flows.state import reads
from flows.state.reads import Chunk, Read
from flows.values.errors import WarehouseError
from flows.values.plan import LoadPlan, Reading, Window
from flows.values.settings import settings
from flows.values.shape import METADATA

if TYPE_CHECKING:
    from asyncpg import Connection, Record


_ANY = 1 << 62
# How often chunks are read if something else takes their rows away.
_MOST_READS = 3


class Gathering:
    """The chunks of one read: committed and pending ones."""

    def __init__(
        self, session: LoadSession, read: Read, chunks: list[Chunk], reading: Reading, spending: Spending
    ) -> None:
        self.session, self.read, self.window = session, read, read.window
        self.chunks = chunks
        self.grid = Grid.from_facts(read.grid)
        self._reading = reading
        self._size = ChunkSize.within(settings(), reading.bytes, self.grid.steps)
        self._gaps = _gaps(chunks, self.grid.steps)
        # A read that could not resume would never get any further.
        width, rows = max(1.0, reading.bytes / max(1, reading.rows)), self.grid.apart or reading.rows / self.grid.steps
        self._steps = Steps(spending if reading.restarts else Spending(""), rows, rows * width)

    @property
    def rows(self) -> int:
        """Rows staged so far, by all attempts."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def bytes(self) -> int:
        """Bytes received so far, by all attempts."""
        return sum(chunk.bytes for chunk in self.chunks)

    async def run(self, snapshot: str, run_chunk: RunChunk, load: LoadRun[Database, Table]) -> None:
        """Stage all chunks, as many in parallel as there are readers; a chunk that is short afterwards is read again.

        Raises:
            BudgetReached: the next chunk would exceed a budget; committed chunks are kept.
            MedallionError: a chunk failed; the others have ended, and their commits are kept.
        """
        warehouse, landing = self.session.warehouse, self.session.target.landing
        for _ in range(_MOST_READS):
            await self._read(snapshot, run_chunk, load)
            if not await reads.discard_short(warehouse, self.read.batch_id, landing):
                return
            self.chunks = await reads.chunks_of(warehouse, self.read.batch_id)
            self._gaps = _gaps(self.chunks, self.grid.steps)
        raise WarehouseError(
            "rows of committed chunks are missing in the landing table, also after they were read again",
            where=self.session.target.where,
            fix=f"find out what else writes to {landing}; the load is retried automatically",
            retryable=True,
        )

    async def _read(self, snapshot: str, run_chunk: RunChunk, load: LoadRun[Database, Table]) -> None:
        under_way: set[asyncio.Task[Chunk]] = set()
        try:
            while self._gaps or under_way:
                while self._gaps and len(under_way) < self._reading.readers:
                    first = not load.spending.rows and not under_way
                    if not (fitting := self._steps.within(_ANY, first=first)):
                        break
                    job = self._next(snapshot, fitting)
                    self._steps.reserve(job.upper - job.lower)
                    under_way.add(asyncio.ensure_future(run_chunk(job)))
                if not under_way:
                    done_steps = sum(chunk.upper - chunk.lower for chunk in self.chunks)
                    share = f"{100 * done_steps // self.grid.steps} % of the read, which is published at its end"
                    raise load.spending.reached(f"after {share}", int(self._steps.rows), int(self._steps.size))
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                # All exceptions are retrieved before one is raised: asyncio prints others, with the rows they quote.
                problems = [problem for task in done if (problem := task.exception()) is not None]
                for task in done:
                    if task.exception() is None:
                        self._take(task.result(), load)
                if problems:
                    raise problems[0]
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _next(self, snapshot: str, fitting: int) -> ChunkJob:
        lower, end = self._gaps[0]
        left = sum(upper - begin for begin, upper in self._gaps)
        # At the end readers share the rest, rather than wait for the one with most of it.
        steps = min(fitting, self._size.steps, max(1, -(-left // self._reading.readers)))
        upper = min(end, lower + steps)
        self._gaps = ([(upper, end)] if upper < end else []) + self._gaps[1:]
        target = self.session.target
        return ChunkJob(
            target.source,
            target.table,
            self.read.batch_id,
            self.read.attempt,
            snapshot,
            lower,
            upper,
            self._size.aim,
            self._size.reason,
        )

    def _take(self, chunk: Chunk, load: LoadRun[Database, Table]) -> None:
        self.chunks.append(chunk)
        self._steps.reserve(chunk.lower - chunk.upper)
        if self._reading.restarts:
            load.spend(chunk.rows, chunk.bytes)
        self._size.learn(chunk.upper - chunk.lower, chunk.bytes, chunk.seconds, chunk.memory)
        self.session.rows_read = self.rows
        if load.on_progress is not None:
            load.on_progress("copied", self.bytes)


def _gaps(chunks: list[Chunk], steps: int) -> list[tuple[int, int]]:
    """The ranges of steps that no chunk has."""
    gaps, reached = [], 0
    for chunk in sorted(chunks, key=lambda chunk: chunk.lower):
        if chunk.lower > reached:
            gaps.append((reached, chunk.lower))
        reached = max(reached, chunk.upper)
    return [*gaps, (reached, steps)] if reached < steps else gaps


async def open_gathering(
    load: LoadRun[Database, Table], plan: LoadPlan, window: Window, volume: Volume, extracted_at: str
) -> Gathering:
    """Resume the batch's interrupted read if it is still valid; else start a new one.

    The source's session is inside the transaction whose snapshot the chunks are read in.
    """
    session, table, spending = load.session, load.table, load.spending
    shape, reading, warehouse = plan.shape, plan.reading, session.warehouse
    assert shape is not None  # plan_table always describes
    interrupted = await reads.find_read(warehouse, session.batch_id)
    if interrupted is not None and await _goes_on(session, interrupted, plan, window, volume):
        # Rows that something deleted from the landing table are read again, instead of being published short.
        await reads.discard_short(warehouse, session.batch_id, session.target.landing)
        chunks = await reads.chunks_of(warehouse, session.batch_id)
        # Rows staged by the first attempt keep its time; new rows get ours.
        for moment in (interrupted.opened_at.isoformat(), extracted_at):
            await stamp_landing(warehouse, session.target, Stamp(moment, session.batch_id))
        return Gathering(session, interrupted, chunks, reading, spending)
    with session.reading():
        grid = await _cut(load.origin, table, window, reading, volume, spending)
    await create_landing(warehouse, session.target, shape, first=plan.strategy == "initial", bare=True)
    read = await reads.open_read(
        warehouse, session.batch_id, plan.strategy, asdict(grid), window, session.target.landing
    )
    return Gathering(session, read, [], reading, spending)


async def _goes_on(session: LoadSession, read: Read, plan: LoadPlan, window: Window, volume: Volume) -> bool:
    """Whether the rows staged by an earlier attempt are a part of what this one would read."""
    grid = Grid.from_facts(read.grid)
    assert plan.shape is not None  # plan_table always describes
    same_cut = (grid.by, grid.columns) == (plan.reading.by, plan.reading.columns)
    same_file = grid.by != "page" or grid.file == volume.file  # otherwise rows have moved
    if not (plan.reading.restarts and read.strategy == plan.strategy and same_cut and same_file):
        return False
    if read.window.lower != plan.lower:
        return False
    if not same_source(read.window.next.identity, window.next.identity, session.target.where):
        return False
    columns = [(column.name, column.raw_type) for column in plan.shape.columns]
    landed = list((await relation_columns(session.warehouse, session.target.landing)).items())
    return landed in (columns, columns + list(METADATA)) and await reads.landing_stands(
        session.warehouse, read, session.target.landing
    )


async def _cut(
    origin: Connection[Record], table: Table, window: Window, reading: Reading, volume: Volume, spending: Spending
) -> Grid:
    if reading.by == "page":
        return page_grid(volume.pages, volume.file)
    limits = settings()
    width = max(1.0, reading.bytes / max(1, reading.rows))
    apart = rows_apart(int(limits.chunk_min_mb * 1e6 / width), spending, width)
    assert reading.by == "key"  # windows are cut when they are published
    apart = max(apart, reading.rows // MOST_EDGES)
    return await edge_grid(origin, table, "key", reading.columns, window.condition, apart)
