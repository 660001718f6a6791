"""The role that builds pull requests: each statement is tried as the role, against a real warehouse."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from flows.access import addresses
from flows.access.addresses import connect
from flows.models import diff
from flows.models.private_schemas import drop_private, list_private, open_private
from flows.models.shadow import has_readers
from flows.privacy.places import find_places
from flows.values.errors import DeclarationError
from flows.values.settings import settings
from infra.local.roles import grant_warehouse
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.infra.test_roles import attempt, furnish, refused
from tests.kinds.loading import at, rows

# Of one worker: the role has eight connections for the whole server.
pytestmark = pytest.mark.xdist_group("reviewer")

OPEN = "select reviews.open_schema('{}')"


@pytest.fixture(scope="module")
def shared(cluster: TestCluster) -> Iterator[TestDatabase]:
    with fresh_warehouse(cluster) as database:
        furnish(database)
        with psycopg.connect(database.url("transformer")) as transformer:
            transformer.execute("create schema dev_ada__gold; create table dev_ada__gold.mine (id int)")
            transformer.execute("create schema pr_7__gold; create table pr_7__gold.mine (id int)")
        yield database


@pytest.fixture
def opened(shared: TestDatabase) -> Iterator[psycopg.Connection]:
    """The reviewer's session, with one schema of its own; rolled back."""
    with psycopg.connect(shared.url("reviewer")) as reviewer:
        reviewer.execute(OPEN.format("pr_1__gold").encode())
        reviewer.execute("create table pr_1__gold.baskets as select * from raw_shop.baskets")
        yield reviewer
        reviewer.rollback()


@pytest.mark.parametrize(
    "table",
    ["raw_shop.baskets", "quarantine.rows", "staging.baskets", "silver.baskets", "silver_quarantine.baskets",
     "snapshots.baskets", "gold.baskets", "gold.everything"],
)  # fmt: skip
def test_it_reads_what_models_are_built_from_and_compared_with(shared: TestDatabase, table: str) -> None:
    attempt(shared.url("reviewer"), f"select * from {table}")


@pytest.mark.parametrize(
    "table", ["landing.baskets", "ops.dbt_manifests", "ops.runs", "ops.later", "dev_ada__gold.mine", "pr_7__gold.mine"]
)
def test_it_reads_nothing_else(shared: TestDatabase, table: str) -> None:
    refused(shared.url("reviewer"), f"select * from {table}")


@pytest.mark.parametrize(
    "schema",
    ["raw_shop", "ops", "quarantine", "landing", "staging", "silver", "silver_quarantine", "snapshots", "gold",
     "dev_ada__gold", "pr_7__gold"],
)  # fmt: skip
def test_it_writes_to_nothing_shared(shared: TestDatabase, schema: str) -> None:
    others = {"ops": "later", "quarantine": "later", "dev_ada__gold": "mine", "pr_7__gold": "mine"}
    table = others.get(schema, "baskets")
    for statement in (
        f"insert into {schema}.{table} values (1)",
        f"delete from {schema}.{table}",
        f"drop table {schema}.{table}",
        f"create table {schema}.another (id int)",
        f"create trigger trap before insert on {schema}.{table} for each row execute function suppress_redundant()",
    ):
        refused(shared.url("reviewer"), statement)


@pytest.mark.parametrize(
    "statement",
    ["create schema raw_new", "create schema pr_1__gold", "create schema medallion_transformer",
     "create schema if not exists gold", "create table public.mine (id int)", "create role other",
     "set role medallion_transformer", "set role medallion_loader",
     "alter schema gold rename to mine",
     "create or replace function reviews.open_schema(wanted text) returns void language sql as ''",
     "copy (select 1) to program 'true'", "select pg_read_file('/etc/passwd')",
     "select * from pg_authid"],
)  # fmt: skip
def test_it_creates_nothing_by_itself(shared: TestDatabase, statement: str) -> None:
    """Whoever may create schemas may take any name: that of a source's raw schema, or of a role's search path."""
    refused(shared.url("reviewer"), statement)


@pytest.mark.parametrize(
    "name",
    ["raw_new", "gold", "ops", "medallion_transformer", "next__gold", "dev_ada__gold", "pr_1", "pr_1__", "pr__gold",
     "PR_1__gold", "pr_1__gold\nx", "pr_1__x; drop schema gold", 'pr_1__"x', "pr_1__" + "x" * 60, "",
     "pr_7__gold"],
)  # fmt: skip
def test_no_other_name_is_opened(shared: TestDatabase, name: str) -> None:
    """`pr_7__gold` is there, of a review that the transformer runs: it is not handed over."""
    with psycopg.connect(shared.url("reviewer")) as reviewer, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reviewer.execute("select reviews.open_schema(%s)", [name])


@pytest.mark.parametrize("prefix", ["", "pr_", "pr_1", "raw_shop", "gold", "dev_ada__", "pr_%__"])
def test_no_other_prefix_is_closed(shared: TestDatabase, prefix: str) -> None:
    with psycopg.connect(shared.url("reviewer")) as reviewer, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reviewer.execute("select reviews.close_schemas(%s)", [prefix])


def test_only_the_reviewer_may_call_the_functions(shared: TestDatabase) -> None:
    for role in ("reader", "loader"):
        refused(shared.url(role), OPEN.format("pr_1__gold"))


@pytest.mark.parametrize(
    "statement",
    ["alter schema pr_1__gold rename to raw_new", "alter schema pr_1__gold owner to medallion_reviewer",
     "drop schema pr_1__gold cascade", "alter table pr_1__gold.baskets set schema gold",
     "alter table pr_1__gold.baskets owner to medallion_transformer"],
)  # fmt: skip
def test_its_own_schema_stays_what_it_was_made_for(opened: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.Error) as problem:
        opened.execute(statement.encode())
    assert problem.value.sqlstate == "42501"


def test_it_cannot_let_others_look_into_what_it_copied(opened: psycopg.Connection, shared: TestDatabase) -> None:
    """Raw holds personal data, which readers must not get by way of a pull request."""
    opened.execute("grant select on pr_1__gold.baskets to public")
    opened.execute("grant usage on schema pr_1__gold to public")  # a warning: there is nothing that it could grant
    row = opened.execute("select has_schema_privilege('medallion_reader', 'pr_1__gold', 'usage')").fetchone()
    assert row == (False,)


def test_closing_drops_its_own_schemas_with_all_in_them_and_leaves_the_transformer_s(shared: TestDatabase) -> None:
    async def story() -> tuple[list[str], list[str], list[str]]:
        async with connect(at(shared, "reviewer"), side="warehouse") as reviewer:
            await open_private(reviewer, ["pr_7__silver", "pr_70__gold"])
            await reviewer.execute("create view pr_7__silver.seen as select * from gold.baskets")
            assert len(await list_private(reviewer, "pr_7__")) == 2
            return (
                await drop_private(reviewer, "pr_7__"),
                [found.name for found in await list_private(reviewer, "pr_7")],
                await drop_private(reviewer, "pr_70__"),
            )

    dropped, left, last = asyncio.run(story())
    assert dropped == ["pr_7__silver"]
    assert left == ["pr_70__gold", "pr_7__gold"]
    assert last == ["pr_70__gold"]


def test_a_model_that_leaves_its_prefix_is_told_so(shared: TestDatabase) -> None:
    async def wanted() -> None:
        async with connect(at(shared, "reviewer"), side="warehouse") as reviewer:
            await open_private(reviewer, ["raw_new"])

    with pytest.raises(DeclarationError, match="is not allowed to create the schema raw_new"):
        asyncio.run(wanted())


def test_its_sessions_are_bounded(shared: TestDatabase) -> None:
    with psycopg.connect(shared.url("reviewer")) as reviewer:
        row = reviewer.execute(
            "select current_setting('statement_timeout'), current_setting('lock_timeout'), "
            "current_setting('idle_in_transaction_session_timeout'), "
            "(select rolconnlimit from pg_roles where rolname = current_user)"
        ).fetchone()
    assert row == ("10min", "30s", "1min", 8)


def test_what_it_made_is_never_read_as_another_role(shared: TestDatabase) -> None:
    """A policy or a trigger of its table runs as who reads or deletes there: erasure reports such a table instead."""
    with psycopg.connect(shared.url("reviewer"), autocommit=True) as reviewer:
        reviewer.execute(OPEN.format("pr_9__gold").encode())
        reviewer.execute("create table pr_9__gold.trap as select 1 as household_id")
        reviewer.execute("grant select, delete on pr_9__gold.trap to public")
    try:
        with psycopg.connect(shared.url("transformer")) as transformer:
            may = transformer.execute("select has_table_privilege('pr_9__gold.trap', 'select')").fetchone()
            assert may == (True,), "else there would be nothing to see"

        async def look() -> dict[str, bool]:
            async with connect(at(shared, "transformer"), side="warehouse") as connection:
                return {place.told: place.readable for place in await find_places(connection)}

        found = asyncio.run(look())
        assert found["gold.baskets"]
        assert not found["pr_9__gold.trap"]
    finally:
        attempt_closed(shared, "pr_9__")


def attempt_closed(database: TestDatabase, prefix: str) -> None:
    with psycopg.connect(database.url("reviewer"), autocommit=True) as reviewer:
        reviewer.execute("select reviews.close_schemas(%s)", [prefix])


def test_its_right_to_look_makes_no_schema_wait_for_readers(shared: TestDatabase) -> None:
    """A release waits for whoever reads what it exchanges; not for a review."""

    async def look() -> list[bool]:
        async with connect(at(shared, "transformer"), side="warehouse") as connection:
            return [await has_readers(connection, schema) for schema in ("silver", "gold")]

    assert asyncio.run(look()) == [False, True]


def test_a_warehouse_older_than_the_role_gets_its_grants(warehouse: TestDatabase) -> None:
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as admin:
        admin.execute("drop schema reviews cascade")
        for role in ("medallion_loader", "medallion_transformer"):
            for what in ("schemas", "tables"):
                forget = f"alter default privileges for role {role} revoke all on {what} from medallion_reviewer"
                admin.execute(forget.encode())
        admin.execute("revoke all on schema gold, ops from medallion_reviewer")
        furnish(warehouse)
        refused(warehouse.url("reviewer"), "select * from raw_shop.baskets, gold.baskets")
        grant_warehouse(admin)
    attempt(warehouse.url("reviewer"), "select * from raw_shop.baskets, gold.baskets")
    refused(warehouse.url("reviewer"), "select * from landing.baskets")
    assert rows(warehouse, "select to_regproc('reviews.open_schema') is not null as there") == [{"there": True}]


def test_a_review_comes_as_the_reviewer_wherever_there_is_one(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL", warehouse.url("transformer"))
    settings.cache_clear()
    try:
        assert "medallion_transformer" in addresses.reviewer().url
        monkeypatch.delenv("MEDALLION_WAREHOUSE_URL")
        monkeypatch.delenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL")
        monkeypatch.setenv("MEDALLION_WAREHOUSE_REVIEWER_URL", warehouse.url("reviewer"))
        settings.cache_clear()
        assert addresses.reviewer().url == warehouse.url("reviewer")
        assert asyncio.run(diff.clean("12")) == [], "nothing but the reviewer's address is asked for"
    finally:
        settings.cache_clear()
