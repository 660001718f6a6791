"""Why a transform failed: each cause is made on a real warehouse, through dbt and the gates, and classified by it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from prefect.client.schemas.objects import State

from flows.cli.watch import explained
from flows.transform import transform
from flows.values.errors import FailureClass, MedallionError
from tests.conftest import TestDatabase
from tests.flows.small_project import edit
from tests.kinds.loading import rows
from tests.publish.two_ends import run_sql

# The worker that has built the small warehouse for test_release.
pytestmark = pytest.mark.xdist_group("release")

CANARY = "canary-7f3a"
TRANSFORMER = "medallion_transformer"

#: A model that fails, what it answers, its class, and words of its fix.
BROKEN: Mapping[str, tuple[str, str, FailureClass, str]] = {
    "no_grant": ("select id from raw_shop.closed", "42501", FailureClass.PERMANENT,
                 f"grant select on raw_shop.closed to {TRANSFORMER};"),
    "no_schema": ("select id from raw_secret.t", "42501", FailureClass.PERMANENT,
                  f"grant usage on schema raw_secret to {TRANSFORMER}"),
    "not_loaded": ("select id from raw_shop.never", "42P01", FailureClass.SCHEMA, "medallion run"),
    "no_column": ("select nothing from raw_shop.open", "42703", FailureClass.SCHEMA, "correct the names"),
    "misspelt": ("selekt 1 as id", "42601", FailureClass.PERMANENT, "correct the model's SQL"),
    "no_number": ("select v::int as id from raw_shop.open", "22P02", FailureClass.DATA, "find the rows"),
    "no_divisor": ("select 1 / (id - 1) as id from raw_shop.open", "22012", FailureClass.DATA, "find the rows"),
    "raising": (f"select raw_shop.refuse('{CANARY}') as id", "P0001", FailureClass.PERMANENT, "P0001"),
    "locked": ("{{ config(pre_hook=\"set local lock_timeout = '100ms'\") }} select id from raw_shop.held", "55P03",
               FailureClass.TRANSIENT, "again"),
    "slow": ("{{ config(pre_hook=\"set local statement_timeout = '100ms'\") }} select pg_sleep(60)::text as id",
             "57014", FailureClass.RESOURCE, "why the model is slow"),
    "large": ("{{ config(pre_hook=\"set local work_mem = '64kB'\") }} select id "
              "from generate_series(1, 300000) as g (id) order by md5(id::text)",
              "53400", FailureClass.RESOURCE, "free disk or memory"),
    "cut_off": ("select pg_terminate_backend(pg_backend_pid()) as id", "connection to the warehouse was lost",
                FailureClass.TRANSIENT, "again"),
}  # fmt: skip


@pytest.fixture
def troubled(shared: TestDatabase, project: Path) -> Iterator[TestDatabase]:
    """The warehouse with tables for each trouble, one of them held by a session that does not let go."""
    run_sql(
        shared.url("loader"),
        f"""
        create schema raw_shop;
        create table raw_shop.open (id int, v text);
        insert into raw_shop.open values (1, '{CANARY}');
        create table raw_shop.held (id int);
        create table raw_shop.closed (id int);
        revoke select on raw_shop.closed from {TRANSFORMER};
        create schema raw_secret;
        create table raw_secret.t (id int);
        revoke usage on schema raw_secret from {TRANSFORMER};
        create function raw_shop.refuse(v text) returns int language plpgsql as
        $$ begin raise exception 'cannot take %', v; end $$;
        grant execute on function raw_shop.refuse to {TRANSFORMER};
        """,
    )
    with psycopg.connect(shared.cluster.url("medallion_admin", "postgres"), autocommit=True) as admin:
        admin.execute(f"alter role {TRANSFORMER} in database {shared.name} set temp_file_limit = '64kB'".encode())
    with holding(shared, "raw_shop.held"):
        yield shared


@contextmanager
def holding(database: TestDatabase, table: str) -> Iterator[None]:
    with psycopg.connect(database.url("loader")) as session:
        session.execute(f"lock table {table} in access exclusive mode".encode())
        yield


def failed() -> MedallionError:
    """The error that a transform ends with, as the command line shows it."""
    state: State[Any] = transform(return_state=True)
    with pytest.raises((MedallionError, asyncpg.PostgresError)) as caught:
        state.result()
    return explained(caught.value)


def test_each_node_is_classified_by_what_postgresql_answered_to_it(troubled: TestDatabase, project: Path) -> None:
    for name, (query, *_) in BROKEN.items():
        (project / "models" / "gold" / f"{name}.sql").write_text(query)

    error = failed()

    parts: dict[str, MedallionError] = error.__dict__["parts"]
    assert set(parts) == set(BROKEN)
    for name, (_, state, failure_class, fix) in BROKEN.items():
        told = (name, parts[name].what, parts[name].fix)
        assert state in parts[name].what, told
        assert parts[name].failure_class is failure_class, told
        assert parts[name].retryable is (failure_class is FailureClass.TRANSIENT), told
        assert fix in parts[name].fix, told
    assert CANARY not in str(error)
    # One that needs a person decides for all; what readers have of the other models is built.
    assert (error.failure_class, error.retryable, error.exit_code) == (FailureClass.PERMANENT, False, 3)
    assert rows(troubled, "select failure_class, retryable from ops.errors") == [
        {"failure_class": "permanent", "retryable": False}
    ]
    assert rows(troubled, "select distinct amount from gold.mart") == [{"amount": 1}]


def test_one_missing_grant_is_one_line_however_many_nodes_meet_it(troubled: TestDatabase, project: Path) -> None:
    """Tests of dbt's among them."""
    for number in range(3):
        (project / "models" / "gold" / f"reads_{number}.sql").write_text("select id from raw_shop.closed")
    (project / "tests").mkdir()
    (project / "tests" / "nothing_closed.sql").write_text("select id from raw_shop.closed")

    error = failed()

    assert error.what.startswith("4 nodes could not be built (4 times (")
    assert error.what.count("permission denied for table closed") == 1
    assert f"grant select on raw_shop.closed to {TRANSFORMER};" in error.fix
    assert error.fix.count("grant select") == 1


def test_a_gate_that_may_not_look_says_which_grant_is_missing_and_nothing_of_the_data(
    shared: TestDatabase, project: Path
) -> None:
    run_sql(shared.url("loader"), f"revoke select on ops.schema_version from {TRANSFORMER}")

    error = failed()

    assert re.search("1 dataset could not be checked .*42501.*permission denied for table schema_version", error.what)
    assert (error.failure_class, error.retryable, error.exit_code) == (FailureClass.PERMANENT, False, 3)
    assert f"grant select on ops.schema_version to {TRANSFORMER};" in error.fix
    run = rows(shared, "select status from ops.runs order by run_id desc limit 1")
    assert run == [{"status": "failed"}]
    assert rows(shared, "select failure_class from ops.errors") == [{"failure_class": "permanent"}]


def test_a_loader_that_may_not_write_operations_is_told_which_role_lacks_what(shared: TestDatabase) -> None:
    run_sql(shared.url("loader"), "revoke insert on ops.runs from medallion_loader")

    error = failed()

    assert "42501" in error.what
    assert (error.failure_class, error.exit_code) == (FailureClass.PERMANENT, 3)
    assert "grant insert on ops.runs to medallion_loader;" in error.fix


def test_a_project_that_dbt_cannot_read_is_the_models_fault_and_no_unexpected_error(
    shared: TestDatabase, project: Path
) -> None:
    edit(project, "gold/mart.sql", "ref('stg_sale')", "ref('stg_sail')")

    error = failed()

    assert error.what == "dbt stopped with TargetNotFoundError"
    assert "correct the model" in error.fix
    assert (error.failure_class, error.exit_code) == (FailureClass.PERMANENT, 3)
