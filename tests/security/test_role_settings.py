"""What a role changes of its own defaults: running the role files again puts it back, and says what it was."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flows.access.rotation import ensure_account
from infra.local import roles
from tests.conftest import TestDatabase
from tests.private_cluster import PrivateCluster, private_cluster
from tests.security.test_role_bounds import fill
from tests.sessions import run_alone

SETTINGS = "select rolname, rolconnlimit, rolconfig from pg_roles where rolname like 'medallion%' order by 1"


@pytest.fixture(scope="module")
def private() -> Iterator[PrivateCluster]:
    """A server of its own: roles are the cluster's, and other tests log in as them."""
    with private_cluster() as made:
        yield made


def apply(private: PrivateCluster) -> list[str]:
    return roles.apply_all(
        lambda database: private.cluster.url(roles.ADMIN, database),
        {role: private.cluster.passwords[role] for role in roles.ROLES},
    )


def value(database: TestDatabase, role: str, setting: str) -> str:
    return str(run_alone(database.url(role), f"select current_setting('{setting}')")[0][0])


def test_what_a_role_changed_of_its_defaults_is_put_back_and_told(private: PrivateCluster) -> None:
    warehouse = private.warehouse("warehouse_drifted")
    apply(private)
    before = run_alone(warehouse.url("admin"), SETTINGS)
    for role, statement in (
        ("reader", "alter role current_user set statement_timeout = 0"),
        ("reviewer", "alter role current_user set lock_timeout = 0"),
        ("reviewer", f"alter role current_user in database {warehouse.name} set statement_timeout = 0"),
        ("loader", "alter role current_user set work_mem = '8GB'"),
    ):
        run_alone(warehouse.url(role), statement)
    assert [value(warehouse, "reader", "statement_timeout"), value(warehouse, "reviewer", "lock_timeout"),
            value(warehouse, "reviewer", "statement_timeout"), value(warehouse, "loader", "work_mem"),
           ] == ["0", "0", "0", "8GB"]  # fmt: skip

    told = apply(private)

    assert sorted(told) == [
        "put back what was changed of medallion_loader: work_mem=8GB",
        "put back what was changed of medallion_reader: statement_timeout=0",
        "put back what was changed of medallion_reviewer: lock_timeout=0",
        "put back what was changed of medallion_reviewer: statement_timeout=0",
    ]
    assert run_alone(warehouse.url("admin"), SETTINGS) == before
    assert value(warehouse, "reviewer", "statement_timeout") == "10min"
    assert apply(private) == []


def test_without_the_reset_it_would_stay(private: PrivateCluster) -> None:
    """The control: to set ours again changes nothing of what is set for one database, or what we do not set."""
    warehouse = private.warehouse("warehouse_not_reset")
    run_alone(warehouse.url("reviewer"), f"alter role current_user in database {warehouse.name} set lock_timeout = 0")
    run_alone(warehouse.url("loader"), "alter role current_user set work_mem = '8GB'")
    without = roles.cluster_file().decode().replace(" reset all'", " set tcp_user_timeout = 0'")
    private.cluster.connection.execute(without.encode())
    assert (value(warehouse, "reviewer", "lock_timeout"), value(warehouse, "loader", "work_mem")) == ("0", "8GB")
    private.cluster.connection.execute(roles.cluster_file())
    assert value(warehouse, "reviewer", "lock_timeout") == "30s"


def test_a_second_account_still_acts_as_its_role(private: PrivateCluster) -> None:
    """That is a setting, too."""
    ensure_account(private.cluster.connection, "medallion_reader", "medallion_reader_clone", "second")
    warehouse = private.warehouse("warehouse_second")
    apply(private)
    url = warehouse.url("reader").replace(
        f"medallion_reader:{private.cluster.passwords['medallion_reader']}", "medallion_reader_clone:second"
    )
    assert run_alone(url, "select current_user, session_user") == [("medallion_reader", "medallion_reader_clone")]


def test_the_extractor_takes_no_more_connections_than_loads_need(private: PrivateCluster) -> None:
    shop = private.shop("shop_crowded")
    with ExitStack() as crowd:
        assert fill(crowd, shop.url("extractor"), "too many connections for role") == 40


def test_prefect_keeps_its_database_while_others_take_all_connections(private: PrivateCluster) -> None:
    shop = private.shop("shop_full")
    roles.ensure_prefect_database(private.cluster.connection)
    with ExitStack() as crowd:
        fill(crowd, shop.url("app"), "reserved for roles with privileges of")
        url = private.cluster.url(roles.PREFECT_ROLE, roles.PREFECT_DATABASE)
        assert run_alone(url, "select current_user") == [(roles.PREFECT_ROLE,)]
