"""Readers have one release or the other, whole: through exchanges, kills, and beside sessions that stay long."""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from flows.access.addresses import connect
from flows.failures.failpoints import SWAP_FAILPOINTS
from flows.models import shadow
from flows.values.errors import LoadLocked
from tests.conftest import TestDatabase
from tests.flows.front_door import medallion
from tests.kinds.conformance import forking
from tests.models import shadowing
from tests.models.shadowing import build_beside, build_in_place, held, transformer
from tests.publish.two_ends import run_sql


@pytest.fixture
def shared(warehouse: TestDatabase) -> TestDatabase:
    build_in_place(warehouse, 1)
    return warehouse


@dataclass
class Seen:
    """What a reader saw: releases in one look, and what went wrong."""

    looks: list[tuple[int, ...]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self, newest: int) -> None:
        assert self.problems == []
        assert [look for look in self.looks if len(look) != 1] == [], "a look met two releases, or none"
        order = [look[0] for look in self.looks]
        assert order == sorted(order), "a look went back to an earlier release"
        assert order[-1] == newest


def one_statement(connection: psycopg.Connection) -> set[int]:
    """A join, of which each table is looked up by itself."""
    rows = connection.execute(
        "select distinct a.release, b.release, v.release, f.release from gold.a, gold.b, gold.v, gold.f", prepare=False
    ).fetchall()
    return {release for row in rows for release in row}


def a_view_first(connection: psycopg.Connection) -> set[int]:
    """It waits at the second name, when it has looked up the first."""
    rows = connection.execute(
        "select distinct v.release, m.release, a.release from gold.v, gold.m, gold.a", prepare=False
    ).fetchall()
    return {release for row in rows for release in row}


def prepared(connection: psycopg.Connection) -> set[int]:
    """A plan that was made before the exchange, and is used after it."""
    (row,) = connection.execute(shadowing.EVERYTHING.encode(), prepare=True).fetchall()
    return set(row[0])


def one_transaction(connection: psycopg.Connection) -> set[int]:
    """Statements of one transaction, with time between them."""
    found: set[int] = set()
    with connection.transaction():
        for table in ("v", "a", "f", "b"):
            found |= {release for (release,) in connection.execute(f"select release from gold.{table}".encode())}
    return found


Look = Callable[[psycopg.Connection], set[int]]


@contextmanager
def reading(database: TestDatabase, *looks: Look) -> Iterator[list[Seen]]:
    """Readers who look again and again, each by its own session, until the block ends and once after."""
    over = threading.Event()
    seen = [Seen() for _ in looks]

    def read(look: Look, into: Seen) -> None:
        with psycopg.connect(database.url("reader"), autocommit=True) as connection:
            while True:
                last = over.is_set()
                try:
                    into.looks.append(tuple(sorted(look(connection))))
                except psycopg.Error as problem:
                    into.problems.append(str(problem))
                if last:
                    return
                time.sleep(random.uniform(0, 0.02))  # readers who never pause would never let an exchange happen

    readers = [threading.Thread(target=read, args=pair) for pair in zip(looks, seen, strict=True)]
    for reader in readers:
        reader.start()
    try:
        yield seen
    finally:
        over.set()
        for reader in readers:
            reader.join()


def test_readers_never_meet_an_error_nor_two_releases_through_many_exchanges(shared: TestDatabase) -> None:
    newest = 12
    with reading(shared, one_statement, a_view_first, prepared, one_transaction) as seen:
        for number in range(2, newest + 1):
            build_beside(shared, number)
            assert held(shared) == [number - 1], "a release that is built and not swapped is seen by nobody"
            done = asyncio.run(shadowing.release(transformer(shared), number))
            assert done.schemas == ("gold", "silver")
    for reader in seen:
        reader.check(newest)
        assert len(reader.looks) > newest


def test_a_rollback_gives_readers_what_they_had_and_can_itself_be_rolled_back(shared: TestDatabase) -> None:
    build_beside(shared, 2)
    asyncio.run(shadowing.release(transformer(shared), 2))
    with reading(shared, one_statement, one_transaction) as seen:
        asyncio.run(shadowing.roll_back(transformer(shared)))
        assert held(shared) == [1]
    for reader in seen:
        assert reader.problems == []
        assert {len(look) for look in reader.looks} == {1}
    asyncio.run(shadowing.roll_back(transformer(shared)))
    assert held(shared) == [2]


def test_readers_may_look_into_the_release_in_force_and_into_no_other(shared: TestDatabase) -> None:
    """Usage of the schema and what will be granted on tables to come belong to the schema, which changes its name."""
    for number in (2, 3):
        build_beside(shared, number)
        for schema in ("next__gold", "previous__gold")[: number - 1]:
            with (
                psycopg.connect(shared.url("reader")) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute(f"select * from {schema}.a".encode())
        asyncio.run(shadowing.release(transformer(shared), number))
        assert held(shared) == [number]
        run_sql(shared.url("transformer"), "create table gold.later as select 1 as release")
        assert run_sql(shared.url("reader"), "select release from gold.later") == [(1,)]
    asyncio.run(shadowing.roll_back(transformer(shared)))
    run_sql(shared.url("transformer"), "create table gold.latest as select 1 as release")
    assert run_sql(shared.url("reader"), "select release from gold.latest") == [(1,)]


def test_what_was_granted_on_a_table_by_hand_is_granted_on_its_successor(shared: TestDatabase) -> None:
    run_sql(shared.url("transformer"), "grant usage on schema silver to medallion_reader")
    run_sql(shared.url("transformer"), "grant select on silver.s to medallion_reader")
    build_beside(shared, 2)
    asyncio.run(shadowing.release(transformer(shared), 2))
    assert run_sql(shared.url("reader"), "select distinct release from silver.s") == [(2,)]


def test_the_release_in_force_is_told_by_the_schema_itself(shared: TestDatabase) -> None:
    """A note in another table could be lost between two commits; this one cannot be apart from what it tells."""

    async def labels() -> list[object]:
        async with connect(transformer(shared), side="warehouse") as warehouse:
            return [(await shadow.label_of(warehouse, name)).get("release") for name in ("gold", "previous__gold")]

    assert asyncio.run(labels()) == [None, None]
    for number in (2, 3):
        build_beside(shared, number)
        asyncio.run(shadowing.release(transformer(shared), number))
    assert asyncio.run(labels()) == [3, 2]
    asyncio.run(shadowing.roll_back(transformer(shared)))
    assert asyncio.run(labels()) == [2, 3]


def test_a_reader_who_stays_is_waited_for_and_named_and_nothing_changes(shared: TestDatabase) -> None:
    build_beside(shared, 2)
    with psycopg.connect(shared.url("reader"), application_name="a dashboard") as staying:
        staying.execute("select * from gold.a")
        with reading(shared, one_transaction) as seen, pytest.raises(LoadLocked, match="a dashboard") as refused:
            asyncio.run(shadowing.release(transformer(shared), 2, wait_seconds=1.5))
        seen[0].check(1)
        assert refused.value.retryable
        assert held(shared) == [1]
    asyncio.run(shadowing.release(transformer(shared), 2))
    assert held(shared) == [2]


def test_a_reader_who_holds_one_table_and_wants_another_is_not_ended_for_a_deadlock(shared: TestDatabase) -> None:
    """It holds what the exchange waits for, and waits for what the exchange holds; also when readers are to queue."""
    build_beside(shared, 2)
    exchanging = threading.Thread(target=lambda: asyncio.run(shadowing.release(transformer(shared), 2)))
    with psycopg.connect(shared.url("reader")) as reader:
        reader.execute("select * from gold.f")
        exchanging.start()
        until = time.monotonic() + 2.8
        while time.monotonic() < until:
            reader.execute("select * from gold.a, gold.b, gold.v")
            reader.execute("savepoint looked")
            reader.execute("rollback to looked")
        assert exchanging.is_alive(), "the reader's transaction is open: it must not have been passed by"
        reader.commit()
        exchanging.join()
    assert held(shared) == [2]


@pytest.mark.parametrize("failpoint", SWAP_FAILPOINTS)
def test_an_exchange_killed_anywhere_leaves_one_release_whole(shared: TestDatabase, failpoint: str) -> None:
    build_beside(shared, 2)
    variables = {"MEDALLION_WAREHOUSE_URL": shared.url("transformer"), "MEDALLION_FAILPOINT": failpoint}

    with reading(shared, one_statement, one_transaction) as seen:
        killed = forking.run("tests.models.shadowing", ["release", "2"], variables)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = failpoint == "after_swap"
    for reader in seen:
        reader.check(2 if done else 1)
    if not done:
        asyncio.run(shadowing.release(transformer(shared), 2))
    killed = forking.run("tests.models.shadowing", ["roll_back"], variables)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert held(shared) == ([1] if done else [2])


def test_the_command_goes_back_and_says_what_readers_have_now(shared: TestDatabase) -> None:
    """It needs no Prefect server and no dbt: it is for the night in which something is wrong."""
    build_beside(shared, 1)
    asyncio.run(shadowing.release(transformer(shared), 1))
    variables = {
        "MEDALLION_WAREHOUSE_URL": shared.url("loader"),
        "MEDALLION_WAREHOUSE_TRANSFORMER_URL": shared.url("transformer"),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    back = medallion("rollback", "models", "--by", "Ada", variables=variables)
    assert back.code == 0, back.text
    assert "readers now see the tables built in place; release 1 is kept" in back.out
    assert run_sql(shared.url("loader"), "select pipeline, status, details ->> 'by' from ops.runs") == [
        ("rollback", "done", "Ada")
    ]
    dropped = medallion("rollback", "models", "--drop", variables=variables)
    assert "dropped the previous gold, silver" in dropped.out, dropped.text
    assert medallion("rollback", "models", variables=variables).code == 3


def test_what_was_before_the_previous_release_goes_and_the_rest_stays(shared: TestDatabase) -> None:
    for number in (2, 3, 4):
        build_beside(shared, number)
        asyncio.run(shadowing.release(transformer(shared), number))
    assert {"previous__gold", "discarded__gold"} <= shadowing.schemas(shared)
    build_beside(shared, 5)
    assert "discarded__gold" not in shadowing.schemas(shared)
    assert run_sql(shared.url("transformer"), "select distinct release from previous__gold.b") == [(3,)]
