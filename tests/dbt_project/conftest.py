"""A warehouse for all tests of the transform: building one takes half a minute."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.local import roles
from tests.conftest import WAREHOUSE_ROLES, TestCluster, TestDatabase, fresh_warehouse
from tests.dbt_project.built_warehouse import Story, Warehouse, tell


@pytest.fixture(scope="session")
def transformed(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The story of tests/dbt_project/built_warehouse.py, lived through once. Tests look; they do not touch."""
    name = f"warehouse_{secrets.token_hex(6)}"
    cluster.connection.execute(
        sql.SQL("create database {} template warehouse_template strategy wal_log").format(sql.Identifier(name))
    )
    database = TestDatabase(name, cluster, WAREHOUSE_ROLES)
    try:
        with psycopg.connect(database.url("admin")) as connection:
            roles.grant_warehouse(connection)
        yield tell(Warehouse(database, tmp_path_factory.mktemp("dbt")))
    finally:
        cluster.connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def real(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A slice of the real data: 60 households and their 35,000 lines, built once. Tests look; they do not touch."""
    with fresh_warehouse(cluster) as database:
        warehouse = Warehouse(database, tmp_path_factory.mktemp("real"))
        warehouse.load_real_slice()
        # Most redemptions are of households outside the slice, and are quarantined.
        build = warehouse.build(share=1.0)
        assert build.exit_code == 0, build.output
        yield warehouse


@pytest.fixture
def empty(warehouse: TestDatabase, tmp_path: Path) -> Warehouse:
    """A warehouse of one test, nothing loaded."""
    return Warehouse(warehouse, tmp_path)
