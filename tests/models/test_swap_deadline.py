"""One deadline holds for the whole exchange, however many tables are locked."""

import asyncio
import threading
import time

import psycopg

from tests.conftest import TestDatabase
from tests.models import shadowing
from tests.models.shadowing import build_beside, build_in_place, transformer
from tests.publish.two_ends import run_sql


def test_readers_of_many_tables_who_leave_one_after_the_other_hold_up_nobody_for_long(warehouse: TestDatabase) -> None:
    """A limit for each lock would let the exchange hold the first table while it waits for all others in turn.

    Each reader stays until the exchange queues for its table, and a moment longer: less than any limit of a lock.
    """
    build_in_place(warehouse, 1)
    tables = [f"x{number}" for number in range(8)]
    run_sql(warehouse.url("transformer"), "; ".join(f"create table gold.{name} (id integer)" for name in tables))
    build_beside(warehouse, 2)
    over, waits = threading.Event(), []

    def stay(table: str) -> None:
        with psycopg.connect(warehouse.url("reader")) as staying, psycopg.connect(warehouse.url("admin")) as watching:
            watching.autocommit = True
            staying.execute(f"select from gold.{table}".encode())
            ready.wait()
            waited = f"select 1 from pg_locks where relation = 'gold.{table}'::regclass and not granted "
            waited += "and waitstart < clock_timestamp() - interval '50 ms'"
            until = time.monotonic() + 25
            while not watching.execute(waited.encode()).fetchone() and time.monotonic() < until and not over.is_set():
                time.sleep(0.01)
            time.sleep(0.1)
            staying.commit()

    def ask() -> None:
        with psycopg.connect(warehouse.url("reader"), autocommit=True) as asking:
            while not over.is_set():
                began = time.monotonic()
                asking.execute("select from gold.a")
                waits.append(time.monotonic() - began)
                time.sleep(0.01)

    ready = threading.Barrier(len(tables) + 1)
    threads = [threading.Thread(target=stay, args=(table,)) for table in tables] + [threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        asyncio.run(shadowing.release(transformer(warehouse), 2, wait_seconds=30))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    # Eight times 0.15 s, were the limit one of each lock.
    assert max(waits) < 0.8
