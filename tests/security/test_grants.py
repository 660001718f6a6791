"""What the catalog says that roles may, beside what tests/infra/test_roles.py tries: nothing granted by forgetting."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from flows.connections import connect
from flows.dbt.project import DBT_PROJECT
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.loads.loading import at, rows

ROLES = ("medallion_extractor", "medallion_loader", "medallion_transformer", "medallion_reader")


@pytest.fixture(scope="module")
def made(cluster: TestCluster) -> Iterator[TestDatabase]:
    """A warehouse in which both roles have made a function after the grants."""
    with fresh_warehouse(cluster) as warehouse:
        for role, schema in (("loader", "ops"), ("transformer", "gold")):
            with psycopg.connect(warehouse.url(role), autocommit=True) as connection:
                connection.execute(f"create function {schema}.later() returns int language sql as 'select 1'".encode())
        yield warehouse


def test_the_public_may_nothing_in_the_warehouse(made: TestDatabase) -> None:
    """`public` is every role of the cluster, those of other people's databases too."""
    granted = rows(
        made,
        "select 'database' as what, datname::text as name, privilege_type from pg_database, aclexplode(datacl) "
        "where datname = current_database() and grantee = 0 "
        "union all select 'schema', nspname, privilege_type from pg_namespace, "
        "aclexplode(coalesce(nspacl, acldefault('n', nspowner))) "
        "where grantee = 0 and nspname not in ('pg_catalog', 'information_schema') "
        "union all select 'table', oid::regclass::text, privilege_type from pg_class, aclexplode(relacl) "
        "where grantee = 0 and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)",
    )
    assert granted == []


def test_functions_made_later_are_nobody_elses_to_call(made: TestDatabase) -> None:
    open_to_all = rows(
        made,
        "select p.oid::regprocedure::text as name from pg_proc as p, "
        "aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0 and proname = 'later'",
    )
    assert open_to_all == []


def test_no_function_acts_as_its_owner_and_each_of_ours_says_where_it_looks(made: TestDatabase) -> None:
    """A function that acts as its owner, called with a schema of the caller's in front, does the caller's work."""
    mine = rows(
        made,
        "select proname, prosecdef, coalesce(array_to_string(proconfig, ','), '') as config from pg_proc "
        "where pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) "
        "and proname <> 'later'",
    )
    assert [row["proname"] for row in mine] == ["refuse_change"]
    assert not any(row["prosecdef"] for row in mine)
    assert all("search_path=pg_catalog" in row["config"] for row in mine)


def test_a_schema_called_like_another_role_is_not_looked_into(made: TestDatabase) -> None:
    """The loader may create schemas. One called like the transformer stands first in that role's default path, and a
    function in it that fits better than the system's would run with the transformer's rights."""
    with psycopg.connect(made.url("loader"), autocommit=True) as loader:
        for role in ("medallion_transformer", "medallion_loader"):
            loader.execute(f"create schema {role}; grant usage on schema {role} to medallion_transformer".encode())
            loader.execute(
                f"create function {role}.upper(int) returns text language sql as $$ select 'trap' $$".encode()
            )
            loader.execute(f"grant execute on function {role}.upper(int) to medallion_transformer".encode())
    with psycopg.connect(made.url("transformer")) as unguarded:
        assert unguarded.execute("select upper(1)").fetchone() == ("trap",), "otherwise this would prove nothing"

    async def ask(role: str) -> None:
        async with connect(at(made, role), side="warehouse") as connection:
            await connection.fetchval("select upper(1)")

    for role in ("loader", "transformer"):
        with pytest.raises(Exception, match="does not exist"):
            asyncio.run(ask(role))
    assert "search_path: pg_catalog" in (DBT_PROJECT / "profiles.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_no_role_creates_where_others_look(cluster: TestCluster, made: TestDatabase, role: str) -> None:
    found = rows(made, f"select has_schema_privilege('{role}', 'public', 'create') as may")
    assert found == [{"may": False}]


@pytest.mark.parametrize("role", ["reader", "transformer"])
@pytest.mark.parametrize("table", ["ops.erasures", "ops.retentions"])
def test_only_the_loader_adds_to_the_logs(made: TestDatabase, role: str, table: str) -> None:
    with psycopg.connect(made.url(role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"insert into {table} default values".encode())
