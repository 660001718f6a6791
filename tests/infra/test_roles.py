"""Who may do what, tried for real: each statement runs as the role, against a database like the real one."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import TestCluster, TestDatabase, fresh_shop, fresh_warehouse


@pytest.fixture(scope="module")
def furnished(cluster: TestCluster) -> Iterator[TestDatabase]:
    """A warehouse with one table in every room, created by whoever owns the room, after the roles were granted.

    One for all tests here: what is refused leaves nothing behind, and `attempt` rolls back.
    """
    with fresh_warehouse(cluster) as database:
        furnish(database)
        yield database


@pytest.fixture(scope="module")
def source(cluster: TestCluster) -> Iterator[TestDatabase]:
    with fresh_shop(cluster) as database:
        yield database


def furnish(warehouse: TestDatabase) -> None:
    with psycopg.connect(warehouse.url("loader")) as loader:
        loader.execute("create schema raw_shop")
        loader.execute("create table raw_shop.baskets (id int)")
        loader.execute("create table landing.baskets (id int)")
        loader.execute("create table quarantine.later (id int)")
        loader.execute("create table ops.later (id int)")
    with psycopg.connect(warehouse.url("transformer")) as transformer:
        for schema in ("staging", "silver", "silver_quarantine", "snapshots", "gold"):
            transformer.execute(f"create table {schema}.baskets as select * from raw_shop.baskets")
        transformer.execute("create view gold.everything as select * from silver.baskets")


def attempt(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement)
        connection.rollback()


def refused(url: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        attempt(url, statement)


@pytest.mark.parametrize(
    "table",
    ["raw_shop.baskets", "landing.baskets", "silver.baskets", "silver_quarantine.baskets", "staging.baskets",
     "snapshots.baskets", "quarantine.later", "quarantine.rows", "ops.later", "ops.runs"],
)  # fmt: skip
def test_the_reader_reads_nothing_but_gold(furnished: TestDatabase, table: str) -> None:
    refused(furnished.url("reader"), f"select * from {table}")


def test_the_reader_reads_gold_created_after_the_grant_and_views_over_silver(furnished: TestDatabase) -> None:
    attempt(furnished.url("reader"), "select * from gold.baskets")
    attempt(furnished.url("reader"), "select * from gold.everything")


@pytest.mark.parametrize(
    "statement",
    ["insert into gold.baskets values (1)", "delete from gold.baskets", "create table gold.mine (id int)",
     "create schema mine", "create temporary table mine (id int)", "create table public.mine (id int)"],
)  # fmt: skip
def test_the_reader_writes_nowhere(furnished: TestDatabase, statement: str) -> None:
    refused(furnished.url("reader"), statement)


@pytest.mark.parametrize("table", ["raw_shop.baskets", "quarantine.later", "quarantine.rows", "ops.later", "ops.loads"])
def test_the_transformer_reads_what_the_loader_wrote(furnished: TestDatabase, table: str) -> None:
    attempt(furnished.url("transformer"), f"select * from {table}")


@pytest.mark.parametrize(
    "statement",
    ["insert into raw_shop.baskets values (1)", "truncate raw_shop.baskets", "drop table raw_shop.baskets",
     "create table raw_shop.mine (id int)", "delete from quarantine.rows", "delete from ops.cursors",
     "update ops.loads set status = 'published'"],
)  # fmt: skip
def test_the_transformer_changes_nothing_of_the_loaders(furnished: TestDatabase, statement: str) -> None:
    refused(furnished.url("transformer"), statement)


def test_the_transformer_does_not_see_rows_that_have_not_passed_the_checks(furnished: TestDatabase) -> None:
    refused(furnished.url("transformer"), "select * from landing.baskets")


def test_the_transformer_creates_the_schemas_dbt_asks_for(furnished: TestDatabase) -> None:
    attempt(furnished.url("transformer"), "create schema dbt_test__audit")
    attempt(furnished.url("transformer"), "create temporary table fct_lines__tmp (id int)")


@pytest.mark.parametrize("schema", ["staging", "silver", "silver_quarantine", "snapshots", "gold"])
def test_the_loader_neither_reads_nor_writes_what_is_transformed(furnished: TestDatabase, schema: str) -> None:
    refused(furnished.url("loader"), f"select * from {schema}.baskets")
    refused(furnished.url("loader"), f"insert into {schema}.baskets values (1)")
    refused(furnished.url("loader"), f"create table {schema}.mine (id int)")


@pytest.mark.parametrize(
    "role",
    ["medallion_loader", "medallion_transformer", "medallion_reader", "medallion_reviewer", "medallion_dashboard"],
)
def test_roles_of_the_warehouse_do_not_reach_the_shop(cluster: TestCluster, source: TestDatabase, role: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        attempt(cluster.url(role, source.name), "select 1")


@pytest.mark.parametrize("role", ["medallion_extractor", "shop_app"])
def test_roles_of_the_shop_do_not_reach_the_warehouse(cluster: TestCluster, furnished: TestDatabase, role: str) -> None:
    for database in (furnished.name, "postgres"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            attempt(cluster.url(role, database), "select 1")


@pytest.mark.parametrize(
    "statement",
    ["update products set product_type = 'x'", "insert into stores values (1, 'x')", "delete from basket_items",
     "truncate basket_items", "create table mine (id int)", "create temporary table mine (id int)",
     "create schema mine"],
)  # fmt: skip
def test_the_extractor_writes_nothing(source: TestDatabase, statement: str) -> None:
    refused(source.url("extractor"), statement)


def test_the_extractor_reads_tables_the_application_creates_later(source: TestDatabase) -> None:
    with psycopg.connect(source.url("app")) as application:
        application.execute("create table loyalty (id int)")
    attempt(source.url("extractor"), "select * from loyalty")
    attempt(source.url("extractor"), "select * from basket_items")


def test_the_extractor_sees_since_when_foreign_transactions_run(source: TestDatabase) -> None:
    """A load's upper bound rests on this: without it the start of the application's transaction would be null."""
    with psycopg.connect(source.url("app")) as application, psycopg.connect(source.url("extractor")) as extractor:
        application.execute("select 1")
        seen = extractor.execute(
            "select xact_start from pg_stat_activity where pid = %s", [application.info.backend_pid]
        ).fetchone()
    assert seen is not None
    assert seen[0] is not None


@pytest.mark.parametrize(
    "role",
    [
        "medallion_extractor",
        "medallion_loader",
        "medallion_transformer",
        "medallion_reader",
        "medallion_reviewer",
        "medallion_dashboard",
        "shop_app",
    ],
)
def test_no_role_can_rise_above_its_station(cluster: TestCluster, role: str) -> None:
    found = cluster.connection.execute(
        "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls, "
        "array(select pg_has_role(roles.rolname, other.oid, 'member') from pg_roles as other "
        "      where other.rolname like 'medallion%%' and other.rolname <> roles.rolname) "
        "from pg_roles as roles where rolname = %s",
        [role],
    ).fetchone()
    assert found is not None
    may, memberships = found
    assert not may
    assert not any(memberships)


def test_a_wrong_password_is_refused(cluster: TestCluster, furnished: TestDatabase) -> None:
    wrong = furnished.url("loader").replace(cluster.passwords["medallion_loader"], "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        attempt(wrong, "select 1")
