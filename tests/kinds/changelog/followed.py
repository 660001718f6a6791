"""Following in this process: `LogEnds` followed until a test has seen what it waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import psycopg

from flows.kinds.registry import kind_of
from flows.publish.following import Following, Progress
from flows.verbs.load import load_table
from tests.kinds.changelog.log_ends import LogEnds

SECONDS = 60


def following(ends: LogEnds, **options: object) -> Following:  # type: ignore[type-arg]
    """What a flow gives: loads are those of `ends`, and what is told is kept in `ends.told`."""
    declared = ends.declared

    async def load(table: str) -> None:
        await load_table(ends.warehouse_address, ends.address, declared, declared.table(table), run_id=ends.run_id)

    async def ended(batches: list[int]) -> None:
        ends.stretches.extend(batches)

    async def note(progress: Progress) -> None:
        ends.noted = progress

    return Following(
        warehouse=ends.warehouse_address,
        address=ends.address,
        source=declared,
        tables=declared.tables,
        run_id=ends.run_id,
        load=load,
        stretch_ended=ended,
        tell=ends.told.append,
        note=note,
        **options,  # type: ignore[arg-type]
    )


@contextlib.asynccontextmanager
async def followed(ends: LogEnds) -> AsyncIterator[Following]:  # type: ignore[type-arg]
    """Followed within the block, and stopped at its end as by SIGTERM."""
    given = following(ends)
    task = asyncio.create_task(kind_of(given.source).follow(given))
    try:
        yield given
    finally:
        given.stop.set()
        await task


async def catch_up(ends: LogEnds) -> Progress:
    """Followed until everything is loaded that is committed now."""
    given = following(ends, until_caught_up=True)
    await asyncio.wait_for(kind_of(given.source).follow(given), SECONDS)
    return given.progress


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds: what following does, it does by itself."""

    def answer() -> bool:
        with contextlib.suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return holds()
        return False

    async with asyncio.timeout(SECONDS):
        # In a thread: the question may wait for a lock of what runs in this loop.
        while not await asyncio.to_thread(answer):  # noqa: ASYNC110 - it is a question to a database
            await asyncio.sleep(0.05)
