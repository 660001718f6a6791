"""What one session may take from the others: time, locks, connections, bounded for each role where it logs in."""

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql

from flows.dbt.project import run_dbt
from flows.rotate import ensure_account
from flows.spec import Merge, Table
from infra.local import roles
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.flows.small_project import write_project
from tests.load.two_ends import TwoEnds, run_sql
from tests.private_cluster import PrivateCluster, private_cluster

BOUNDS = "select name, setting from pg_settings where source = 'user' order by name"
STORES = Table("stores", key="store_id", load=Merge())


@pytest.fixture(scope="module")
def warehouse(cluster: TestCluster) -> Iterator[TestDatabase]:
    with fresh_warehouse(cluster) as database:
        yield database


@pytest.mark.parametrize(("role", "setting", "value"), [
    ("reader", "idle_in_transaction_session_timeout", "1min"),
    ("reader", "statement_timeout", "15min"),
    ("reader", "lock_timeout", "5s"),
    ("reader", "temp_file_limit", "10GB"),
    ("reader", "tcp_keepalives_idle", "60"),
    ("transformer", "lock_timeout", "2min"),
    ("transformer", "idle_in_transaction_session_timeout", "5min"),
    ("loader", "lock_timeout", "1min"),
])  # fmt: skip
def test_a_role_is_bounded_where_it_logs_in(warehouse: TestDatabase, role: str, setting: str, value: str) -> None:
    assert run_sql(warehouse.url(role), f"select current_setting('{setting}')") == [(value,)]


def test_the_second_account_of_a_role_is_bounded_alike_from_the_start_and_after_the_files_were_run_again(
    cluster: TestCluster, warehouse: TestDatabase
) -> None:
    """It logs in under its own name, and settings are those of who logs in."""
    account = "medallion_reader_clone"
    url = cluster.url("medallion_reader", warehouse.name).replace(
        f"medallion_reader:{cluster.passwords['medallion_reader']}", f"{account}:second"
    )
    try:
        ensure_account(cluster.connection, "medallion_reader", account, "second")
        bounds = run_sql(warehouse.url("reader"), BOUNDS)
        assert ("statement_timeout", "900000") in bounds
        assert [row for row in run_sql(url, BOUNDS) if row[0] != "role"] == bounds
        limits = "select rolname, rolconnlimit from pg_roles where rolname like 'medallion_reader%' order by 1"
        assert run_sql(warehouse.url("admin"), limits) == [("medallion_reader", 20), (account, 20)]

        cluster.connection.execute(sql.SQL("alter role {} reset statement_timeout").format(sql.Identifier(account)))
        assert [row for row in run_sql(url, BOUNDS) if row[0] != "role"] != bounds, "otherwise this would prove nothing"
        cluster.connection.execute(roles.cluster_file())
        assert [row for row in run_sql(url, BOUNDS) if row[0] != "role"] == bounds
    finally:
        cluster.connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(account)))


@pytest.mark.parametrize(
    "function",
    ["pg_advisory_lock(bigint)", "pg_try_advisory_lock(int, int)", "lo_unlink(oid)", "lo_from_bytea(oid, bytea)"],
)
def test_readers_take_no_locks_by_functions_where_a_superuser_made_the_roles(
    warehouse: TestDatabase, function: str
) -> None:
    """They could fill the server's lock table, which then is full for all."""
    for role, may in (("reader", False), ("loader", True), ("transformer", True)):
        asked = f"select has_function_privilege('medallion_{role}', 'pg_catalog.{function}', 'execute')"
        assert run_sql(warehouse.url("admin"), asked) == [(may,)], role


@pytest.fixture(scope="module")
def small() -> Iterator[PrivateCluster]:
    """A server with as many connections as tests of their exhaustion need."""
    with private_cluster({"max_connections": "80"}) as private:
        yield private


async def test_readers_take_as_many_connections_as_they_can_and_load_and_build_still_run(
    small: PrivateCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ends = TwoEnds(small.warehouse("warehouse_crowded"), small.shop("shop_crowded"))
    with ExitStack() as crowd:
        assert fill(crowd, ends.warehouse.url("reader"), "too many connections for role") == 20
        assert (await ends.load(STORES)).counts.rows_inserted
        # Somebody without a limit takes every other connection that is left.
        assert fill(crowd, ends.shop.url("app"), "reserved for roles with privileges of") > 0
        for role in ("loader", "transformer"):
            run_sql(ends.warehouse.url(role), "select 1")
        folder = tmp_path_factory.mktemp("crowded")
        built = run_dbt(
            ["build"], url=ends.warehouse.url("transformer"), target=folder / "target", project=write_project(folder)
        )
        assert built.ok, (built.problem, built.nodes)


def fill(crowd: ExitStack, url: str, refusal: str) -> int:
    """Open connections until the server refuses one; how many it took."""
    taken: list[psycopg.Connection] = []

    def take_all() -> None:
        while True:
            taken.append(crowd.enter_context(psycopg.connect(url)))

    with pytest.raises(psycopg.OperationalError, match=refusal):
        take_all()
    return len(taken)
