"""Open transactions that keep tables from being changed, as `medallion status` shows them."""

import asyncio
import time
from collections.abc import Callable
from io import StringIO

import psycopg
from rich.console import Console

from flows.access.addresses import connect
from flows.cli.stack_tables import blockers_table
from flows.state.blockers import Blocker, blockers
from flows.values.connection import DatabaseConnection
from tests.conftest import TestDatabase
from tests.publish.two_ends import run_sql


async def seen(warehouse: TestDatabase) -> list[Blocker]:
    async with connect(DatabaseConnection("warehouse", warehouse.url("loader")), side="warehouse") as loader:
        return await blockers(loader)


async def until_seen(
    warehouse: TestDatabase, *, waiting: bool, meanwhile: Callable[[], object] = lambda: None
) -> Blocker:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        meanwhile()
        for found in await seen(warehouse):
            if found.role == "medallion_reader" and bool(found.waiting) == waiting:
                return found
        await asyncio.sleep(0.1)
    raise AssertionError("nobody seen")


async def test_who_keeps_a_table_is_shown_while_somebody_waits_and_when_idle_for_long(warehouse: TestDatabase) -> None:
    run_sql(warehouse.url("transformer"), "create table gold.mart as select 1 as id")
    with psycopg.connect(warehouse.url("reader"), application_name="a notebook") as reader:
        reader.execute("select * from gold.mart")
        assert await seen(warehouse) == [], "a moment is nothing to speak of"
        with psycopg.connect(warehouse.url("transformer")) as building:
            wanting = asyncio.create_task(asyncio.to_thread(building.execute, "drop table gold.mart"))
            # It is at work, so never idle for long: seen only because somebody waits for it.
            blocker = await until_seen(warehouse, waiting=True, meanwhile=lambda: reader.execute("select 1"))
            assert (blocker.session, blocker.waiting) == (reader.info.backend_pid, (building.info.backend_pid,))
            assert "(a notebook) with gold.mart since 20" in str(blocker)
            assert str(blocker).endswith("UTC, idle in transaction")
            building.cancel_safe()
            await asyncio.wait([wanting])
            assert isinstance(wanting.exception(), psycopg.errors.QueryCanceled)
        blocker = await until_seen(warehouse, waiting=False)
    screen = StringIO()
    Console(width=200, file=screen).print(blockers_table([blocker]))
    for shown in (str(blocker.session), "medallion_reader", "a notebook", "idle in transaction", "gold.mart"):
        assert shown in screen.getvalue()
    assert await seen(warehouse) == []
