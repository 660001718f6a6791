"""What one session may take from the others: time, locks, connections, bounded for each role where it logs in."""

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql

from flows.access.rotation import ensure_account
from flows.declare import Merge
from flows.kinds.postgres import Table
from flows.models.project import run_dbt
from flows.values.settings import Settings
from infra.local import roles
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.flows.small_project import write_project
from tests.private_cluster import PrivateCluster, private_cluster
from tests.publish.two_ends import TwoEnds
from tests.sessions import run_alone

BOUNDS = "select name, setting from pg_settings where source = 'user' order by name"
STORES = Table("stores", key="store_id", load=Merge())
#: A machine that is gone is noticed after 90 s.
KEEPALIVES = {"tcp_keepalives_idle": "60", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
#: All that is set for a role, so that a bound can neither be lost nor come without a line here.
BOUNDED = {
    "reader": {
        "idle_in_transaction_session_timeout": "1min", "statement_timeout": "15min", "lock_timeout": "5s",
        "temp_file_limit": "10GB",
    },
    "reviewer": {
        "idle_in_transaction_session_timeout": "1min", "statement_timeout": "10min", "lock_timeout": "30s",
        "temp_file_limit": "10GB",
    },
    "dashboard": {
        "idle_in_transaction_session_timeout": "1min", "statement_timeout": "10s", "lock_timeout": "2s",
        "temp_file_limit": "1GB",
    },
    "transformer": {
        "idle_in_transaction_session_timeout": "5min", "statement_timeout": "2h", "lock_timeout": "2min",
    },
    "loader": {"idle_in_transaction_session_timeout": "15min", "lock_timeout": "1min"},
    "extractor": {
        "idle_in_transaction_session_timeout": "15min", "statement_timeout": "2h", "lock_timeout": "30s",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def warehouse(cluster: TestCluster) -> Iterator[TestDatabase]:
    with fresh_warehouse(cluster) as database:
        yield database


@pytest.mark.parametrize("role", BOUNDED)
def test_a_role_is_bounded_where_it_logs_in(
    cluster: TestCluster, warehouse: TestDatabase, shop: TestDatabase, role: str
) -> None:
    url = cluster.url(f"medallion_{role}", (shop if role == "extractor" else warehouse).name)
    found = run_alone(url, "select name, current_setting(name) from pg_settings where source = 'user'")
    assert dict(found) == BOUNDED[role] | KEEPALIVES


def seconds(url: str, setting: str) -> float:
    ((found,),) = run_alone(url, f"select extract(epoch from current_setting('{setting}')::interval)::float8")
    return float(found)


def test_whoever_waits_is_more_patient_than_what_it_waits_for(warehouse: TestDatabase) -> None:
    """Either bound alone looks harmless to change; together they decide who fails."""
    idle = max(seconds(warehouse.url(role), "idle_in_transaction_session_timeout") for role in ("reader", "reviewer"))
    assert idle < Settings().build_lock_wait_seconds, "a build outlasts who leaves one open"
    waits = {role: seconds(warehouse.url(role), "lock_timeout") for role in ("transformer", "loader")}
    assert waits["loader"] < waits["transformer"], "a model that reads raw outlasts a load that waits to change it"


def test_a_reader_may_not_lift_the_limit_of_its_temporary_files(warehouse: TestDatabase) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run_alone(warehouse.url("reader"), "set temp_file_limit = -1")


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
        bounds = run_alone(warehouse.url("reader"), BOUNDS)
        assert ("statement_timeout", "900000") in bounds
        assert [row for row in run_alone(url, BOUNDS) if row[0] != "role"] == bounds
        limits = "select rolname, rolconnlimit from pg_roles where rolname like 'medallion_reader%' order by 1"
        assert run_alone(warehouse.url("admin"), limits) == [("medallion_reader", 20), (account, 20)]

        for lifted in ("alter role {} reset statement_timeout", "alter role {} connection limit -1"):
            cluster.connection.execute(sql.SQL(lifted).format(sql.Identifier(account)))
        assert [row for row in run_alone(url, BOUNDS) if row[0] != "role"] != bounds, (
            "otherwise this would prove nothing"
        )
        cluster.connection.execute(roles.cluster_file())
        assert [row for row in run_alone(url, BOUNDS) if row[0] != "role"] == bounds
        assert run_alone(warehouse.url("admin"), limits) == [("medallion_reader", 20), (account, 20)]
    finally:
        cluster.connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(account)))


@pytest.mark.parametrize(
    "function",
    ["pg_advisory_lock(bigint)", "pg_try_advisory_lock(int, int)", "lo_from_bytea(oid, bytea)", "loread(int, int)",
     "lowrite(int, bytea)"],
)  # fmt: skip
def test_readers_take_no_locks_by_functions_where_a_superuser_made_the_roles(
    warehouse: TestDatabase, function: str
) -> None:
    """They could fill the server's lock table, which then is full for all."""
    for role, may in (("reader", False), ("loader", True), ("transformer", True)):
        asked = f"select has_function_privilege('medallion_{role}', 'pg_catalog.{function}', 'execute')"
        assert run_alone(warehouse.url("admin"), asked) == [(may,)], role


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
            run_alone(ends.warehouse.url(role), "select 1")
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
