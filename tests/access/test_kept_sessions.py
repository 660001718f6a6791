"""Sessions that a run keeps from one table to the next, and those that it must not keep."""

import asyncio

import psycopg
import pytest

from flows.access import kept_sessions
from flows.access.addresses import connect
from flows.access.kept_sessions import keeping_sessions
from flows.values.connection import DatabaseConnection
from tests.conftest import TestDatabase
from tests.eventually import eventually


@pytest.fixture
def address(warehouse: TestDatabase) -> DatabaseConnection:
    return DatabaseConnection("warehouse", warehouse.url("loader"))


async def used(address: DatabaseConnection, statement: str = "select 1", name: str = "one", keep: bool = True) -> int:
    """The server's process of a session in which the statement was run."""
    async with connect(address, side="warehouse", application=name, keep=keep) as session:
        await session.execute(statement)
        pid: int = await session.fetchval("select pg_backend_pid()")
    return pid


def sessions(warehouse: TestDatabase) -> int:
    with psycopg.connect(warehouse.url("admin")) as admin:
        row = admin.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
            "and backend_type = 'client backend'"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_the_next_table_of_a_run_uses_the_session_of_the_last_under_its_own_name(
    address: DatabaseConnection,
) -> None:
    async with keeping_sessions():
        first = await used(address, name="medallion load shop.stores")
        async with connect(address, side="warehouse", application="medallion load it's", keep=True) as session:
            assert session.get_server_pid() == first
            assert await session.fetchval("select current_setting('application_name')") == "medallion load it's"


async def test_outside_of_a_run_and_unless_asked_no_session_is_kept(address: DatabaseConnection) -> None:
    assert await used(address) != await used(address)
    async with keeping_sessions():
        assert await used(address, keep=False) != await used(address, keep=False)


@pytest.mark.parametrize("statement", ["select 1 / 0", "begin"])
async def test_a_session_that_failed_or_is_in_a_transaction_is_not_used_again(
    address: DatabaseConnection, statement: str
) -> None:
    async with keeping_sessions():
        before = None
        try:
            async with connect(address, side="warehouse", keep=True) as session:
                before = session.get_server_pid()
                await session.execute(statement)
        except Exception as problem:
            assert "division" in str(problem)  # noqa: PT017
        assert await used(address) != before


async def test_sessions_of_the_other_side_or_another_role_are_not_mixed_up(
    address: DatabaseConnection, warehouse: TestDatabase
) -> None:
    """A source's session is read-only, and the transformer may do less than the loader."""
    async with keeping_sessions():
        first = await used(address)
        async with connect(address, side="source", keep=True) as session:
            assert session.get_server_pid() != first
        assert await used(DatabaseConnection("warehouse", warehouse.url("transformer"))) != first


async def test_a_kept_session_that_the_server_ended_is_replaced(
    address: DatabaseConnection, warehouse: TestDatabase
) -> None:
    async with keeping_sessions():
        first = await used(address)
        with psycopg.connect(warehouse.url("admin")) as admin:
            admin.execute("select pg_terminate_backend(%s, 5000)", (first,))
        assert await used(address) != first


async def test_two_tables_at_once_have_a_session_each(address: DatabaseConnection) -> None:
    async with keeping_sessions():
        assert len(set(await asyncio.gather(*(used(address, "select pg_sleep(0.1)") for _ in range(3))))) == 3


async def test_no_session_is_left_after_the_run(address: DatabaseConnection, warehouse: TestDatabase) -> None:
    before = sessions(warehouse)
    async with keeping_sessions():
        await asyncio.gather(*(used(address) for _ in range(3)))
        assert sessions(warehouse) == before + 3
    assert sessions(warehouse) == before


async def test_a_session_that_no_table_needs_is_closed_before_the_run_ends(
    address: DatabaseConnection, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_sessions, "_LINGER_SECONDS", 0.1)
    before = sessions(warehouse)
    async with keeping_sessions():
        await used(address)
        await asyncio.to_thread(eventually, lambda: sessions(warehouse) == before, 10)


async def test_a_session_is_replaced_after_a_hundred_tables(
    address: DatabaseConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server keeps in it of each table would add up."""
    monkeypatch.setattr(kept_sessions, "_USES", 3)
    async with keeping_sessions():
        processes = [await used(address) for _ in range(6)]
    assert processes == [processes[0]] * 3 + [processes[3]] * 3
    assert processes[0] != processes[3]


async def test_threads_with_an_event_loop_of_their_own_open_their_own_sessions(address: DatabaseConnection) -> None:
    async with keeping_sessions():
        first = await used(address)
        other = await asyncio.to_thread(lambda: asyncio.run(used(address)))
        assert other != first
