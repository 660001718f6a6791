"""A warehouse for all tests of the transform: building one takes half a minute."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.local import roles
from tests.conftest import WAREHOUSE_ROLES, TestCluster, TestDatabase
from tests.dbt_project.warehouse_story import Story, Warehouse, tell


@pytest.fixture(scope="session")
def transformed(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The story of tests/dbt_project/warehouse_story.py, lived through once. Tests look; they do not touch."""
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


@pytest.fixture
def empty(warehouse: TestDatabase, tmp_path: Path) -> Warehouse:
    """A warehouse of one test, nothing loaded."""
    return Warehouse(warehouse, tmp_path)
