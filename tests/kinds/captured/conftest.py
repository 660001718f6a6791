"""A PostgreSQL or MariaDB source with triggers, and an empty warehouse."""

from collections.abc import Iterator

import pytest

from tests.conftest import TestDatabase
from tests.kinds.captured.captured_ends import CapturedEnds
from tests.kinds.captured.mariadb_ends import Ends
from tests.kinds.databases.loading import MariaDb, running_mariadb


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> CapturedEnds:
    return CapturedEnds(warehouse, shop)


@pytest.fixture(scope="session")
def server() -> Iterator[MariaDb]:
    """Tests that use it are in the group `mariadb`, so that it is started once."""
    with running_mariadb() as database:
        database.run(
            "create user owner@'127.0.0.1' identified by 'o'; grant all on *.* to owner@'127.0.0.1' with grant option",
            "-Dmysql",
        )
        yield database


@pytest.fixture
def erp(server: MariaDb, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Ends:
    server.run("drop database erp; create database erp character set utf8mb4", "-Dmysql")
    # Rights to single tables outlive their database.
    server.run("delete from tables_priv; delete from procs_priv; flush privileges", "-Dmysql")
    monkeypatch.setenv("MEDALLION_SOURCE_ERP_URL", server.url)
    return Ends(server, warehouse)
