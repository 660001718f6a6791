"""One read of the bench's log in a process of its own: by following until caught up, by a load, or raw.

`python -m benchmarks.changes_once follow|load|raw`, with the addresses in the environment; prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time

import psycopg

from flows.declare import Log, Merge
from flows.kinds.changelog import Database, Table
from flows.kinds.registry import kind_of
from flows.publish.following import Following, Progress
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table

SOURCE = Database(
    "bench",
    connection="bench",
    capture=Log(slot="bench", publication="bench", max_retained="100 GB"),
    tables=[Table("items", key="id", load=Merge())],
)


def addresses() -> tuple[DatabaseConnection, DatabaseConnection]:
    """Warehouse and source."""
    return (
        DatabaseConnection("warehouse", os.environ["BENCH_WAREHOUSE"]),
        DatabaseConnection("bench", os.environ["BENCH_SOURCE"]),
    )


async def _load(_: str = "") -> None:
    await load_table(*addresses(), SOURCE, SOURCE.table("items"))


async def follow(stop: asyncio.Event, *, until_caught_up: bool) -> Progress:
    """Follow the bench's source."""
    warehouse, source = addresses()

    async def nothing(_: list[int] | Progress) -> None:
        return None

    following = Following(
        warehouse=warehouse,
        address=source,
        source=SOURCE,
        tables=SOURCE.tables,
        run_id=None,
        load=_load,
        stretch_ended=nothing,
        tell=lambda _: None,
        note=nothing,
        until_caught_up=until_caught_up,
        stop=stop,
    )
    await kind_of(SOURCE).follow(following)
    return following.progress


def _raw() -> None:
    """The log's messages, sent and thrown away."""
    query = (
        b"copy (select data from pg_logical_slot_peek_binary_changes('bench', null, null, 'proto_version', '1', "
        b"'publication_names', 'bench')) to stdout binary"
    )
    with psycopg.connect(os.environ["BENCH_SOURCE"]) as session, session.cursor().copy(query) as copy:
        while copy.read():
            pass


def main() -> None:
    """Do it, and say what it took."""
    logging.basicConfig()
    began, before = time.monotonic(), time.process_time()
    match sys.argv[1]:
        case "raw":
            _raw()
        case "load":
            asyncio.run(_load())
        case "follow":
            asyncio.run(follow(asyncio.Event(), until_caught_up=True))
    facts = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - before,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
