"""What a session is asked for one table and again for the next is prepared, where the server keeps it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest

from flows.access import prepared, sessions
from flows.access.addresses import connect
from flows.access.kept_sessions import keeping_sessions
from flows.access.prepared import Session
from flows.values.connection import DatabaseConnection
from flows.values.errors import MedallionError
from infra.local.ports import any_free
from tests.conftest import TestDatabase
from tests.eventually import eventually

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
#: Of Debian: the account its servers run as. PgBouncer refuses to run as root.
UNPRIVILEGED = "nobody"


@pytest.fixture
def address(warehouse: TestDatabase) -> DatabaseConnection:
    return DatabaseConnection("warehouse", warehouse.url("loader"))


@pytest.fixture
def pooled(warehouse: TestDatabase, tmp_path: Path) -> Iterator[DatabaseConnection]:
    """The warehouse behind a PgBouncer that gives each transaction whatever session of the server is idle."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    parts, port = urlsplit(warehouse.url("loader")), any_free()
    (tmp_path / "users").write_text(f'"{parts.username}" "{parts.password}"\n')
    (tmp_path / "ini").write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {tmp_path / 'users'}\n"
        f"pool_mode = transaction\nignore_startup_parameters = {','.join(sessions._settings('source'))}\n"
    )
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    account = ["-u", UNPRIVILEGED] if os.geteuid() == 0 else []
    server = subprocess.Popen(
        [PGBOUNCER, *account, tmp_path / "ini"], stdout=subprocess.DEVNULL, stderr=(tmp_path / "log").open("wb")
    )
    try:
        eventually(lambda: "process up" in (tmp_path / "log").read_text(), 20)
        yield DatabaseConnection("warehouse", warehouse.url("loader").replace(f":{parts.port}/", f":{port}/"))
    finally:
        server.terminate()
        server.wait(20)


_COUNT = "select count(*) from pg_prepared_statements where name like 'medallion%'"


async def asked(session: asyncpg.Connection, *texts: str) -> list[object]:
    """The answers, and how many statements the session has prepared then."""
    answers = [await session.fetchval(text, 1) for text in texts]
    return [*answers, await asyncpg.Connection.fetchval(session, _COUNT)]


async def test_what_two_tables_have_in_common_is_prepared_and_what_names_one_of_them_is_not(
    address: DatabaseConnection,
) -> None:
    async with keeping_sessions():
        for table, prepares in (("a", 0), ("b", 1), ("c", 1)):
            async with connect(address, side="warehouse", keep=True) as session:
                of_table = f"select $1::integer + 1 as {table}"
                assert await asked(session, "select $1::integer", of_table, of_table) == [1, 2, 2, prepares]


async def test_a_statement_without_rows_has_the_same_status_when_it_is_prepared(address: DatabaseConnection) -> None:
    async with keeping_sessions():
        for _ in range(3):
            async with connect(address, side="warehouse", keep=True) as session, session.transaction():
                assert await session.execute("select set_config('a.b', $1, true)", "x") == "SELECT 1"
                assert [dict(row) for row in await session.fetch("select $1::text as a", "x")] == [{"a": "x"}]
                assert dict(await session.fetchrow("select $1::text as a", "y") or ()) == {"a": "y"}


async def test_a_table_with_other_columns_ends_the_attempt_and_not_the_next(
    address: DatabaseConnection, warehouse: TestDatabase
) -> None:
    admin = psycopg.connect(warehouse.url("admin"), autocommit=True)
    admin.execute(
        "create schema x; create table x.t (a integer); grant all on schema x to public; grant all on x.t to public"
    )
    text = "select a from x.t where $1::integer = 1"
    async with keeping_sessions():
        for _ in range(2):
            async with connect(address, side="warehouse", keep=True) as session:
                await session.fetch(text, 1)
        admin.execute("alter table x.t alter a type text")
        with pytest.raises(MedallionError, match="can no longer be used") as refused:
            async with connect(address, side="warehouse", keep=True) as session:
                await session.fetch(text, 1)
        assert refused.value.retryable
        async with connect(address, side="warehouse", keep=True) as session:
            assert await session.fetch(text, 1) == []


async def two_loads(pooled: DatabaseConnection) -> list[object]:
    """What a load is answered for its third table, while another load has the server's session of its second."""
    text = "select $1::integer"
    async with keeping_sessions(), connect(pooled, side="source") as other:
        for number in range(2):
            async with connect(pooled, side="source", keep=True) as session, session.transaction():
                assert await session.fetchval(text, number) == number
        async with other.transaction():
            assert await other.fetchval("select $1::integer", 7) == 7
            async with connect(pooled, side="source", keep=True) as session, session.transaction():
                return [await session.fetchval(text, 1), await session.fetchval("select 2")]


async def test_behind_a_pooler_of_transactions_nothing_is_prepared(pooled: DatabaseConnection) -> None:
    assert await two_loads(pooled) == [1, 2]


async def test_a_pooler_that_is_not_recognized_costs_one_attempt(
    pooled: DatabaseConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the look at process ids, prepared statements are lost, and the process prepares no more."""

    async def believed(_: Session) -> bool:
        return not prepared._lost

    monkeypatch.setattr(prepared, "_lost", [])
    monkeypatch.setattr(Session, "_keeps_statements", believed)
    with pytest.raises(MedallionError, match="can no longer be used"):
        await two_loads(pooled)
    assert await two_loads(pooled) == [1, 2]
