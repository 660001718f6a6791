"""The other side of `benchmarks.tables`: all tables of one source, loaded once in this process.

floor    COPY from end to end, as many at a time as an ingest loads, and nothing more
ingest   the flow, as a deployment runs it
"""

from __future__ import annotations

import asyncio
import io
import os
import sys

import asyncpg

from flows.declare import Merge, Replace, Timestamp
from flows.kinds.postgres import Database, Table

AT_ONCE = 4


def declared(count: int) -> Database:
    """A source of so many tables: by turns merged by a cursor, with and without deletes, and replaced."""
    cursor = Timestamp("updated_at", lag="10 min")
    loads = (
        {"cursor": cursor, "load": Merge()},
        {"cursor": cursor, "load": Merge(), "deletes": True},
        {"load": Replace()},
    )
    tables = [Table(name(number), key="id", **loads[number % len(loads)]) for number in range(count)]
    return Database("bench", connection="bench", tables=tables, max_parallel=AT_ONCE)


def name(number: int) -> str:
    """`table_0042`."""
    return f"table_{number:04}"


async def _floor(count: int) -> None:
    waiting = iter(range(count))

    async def work() -> None:
        origin = await asyncpg.connect(os.environ["BENCH_SOURCE"])
        target = await asyncpg.connect(os.environ["BENCH_WAREHOUSE"])
        for number in waiting:
            rows = io.BytesIO()
            await origin.copy_from_query(f"select * from {name(number)}", output=rows, format="binary")
            rows.seek(0)
            await target.execute(f"create table floor.{name(number)} (like floor.form)")
            await target.copy_to_table(name(number), schema_name="floor", source=rows, format="binary")
        await origin.close()
        await target.close()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def _ingest(count: int) -> None:
    from flows.verbs import find

    find.SOURCES = (declared(count),)  # type: ignore[assignment, attr-defined]
    from flows.ingest import ingest

    loads = asyncio.run(ingest("bench"))
    assert len(loads) == count, len(loads)
    assert {load["counts"]["reconciliation"] for load in loads} == {"match"}


if __name__ == "__main__":
    if sys.argv[1] == "floor":
        asyncio.run(_floor(int(sys.argv[2])))
    else:
        _ingest(int(sys.argv[2]))
