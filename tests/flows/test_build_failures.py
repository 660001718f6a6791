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
from flows.values.settings import settings
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


#: What puts a value of a row into PostgreSQL's own message, by the SQLSTATE that is told instead.
VALUES_IN_MESSAGES: Mapping[str, tuple[str, str]] = {
    "no_array": ("select v::int[] from raw_shop.open", "22P02"),
    "no_zone": ("select now() at time zone v as id from raw_shop.open", "22023"),
    "no_year": ("select to_date(v, 'YYYY') as id from raw_shop.open", "22007"),
    "no_path": ("select '{}'::jsonb @? v::jsonpath as id from raw_shop.open", "42601"),
    "no_json": ("select v::jsonb as id from raw_shop.open", "22P02"),
    "no_date": ("select v::date as id from raw_shop.open", "22007"),
    "no_interval": ("select v::interval as id from raw_shop.open", "22007"),
    "no_bits": ("select v::bit(3) as id from raw_shop.open", "22P02"),
    "no_address": ("select v::inet as id from raw_shop.open", "22P02"),
    "no_pattern": ("select 'a' ~ ('(' || v) as id from raw_shop.open", "2201B"),
    "no_encoding": ("select convert_to('a', v) as id from raw_shop.open", "22023"),
    "no_unit": ("select date_trunc(v, now()) as id from raw_shop.open", "22023"),
    "no_setting": ("select current_setting(v) as id from raw_shop.open", "42704"),
    "no_relation": ("select v::regclass as id from raw_shop.open", "42P01"),
    "no_role": ("select v::regrole as id from raw_shop.open", "42704"),
    "no_type": ("select v::regtype as id from raw_shop.open", "42601"),
    "no_operator": ("select ('=' || v)::regoper as id from raw_shop.open", "42883"),
    "no_namespace": ("select v::regnamespace as id from raw_shop.open", "3F000"),
    "no_file": ("select pg_read_file(v) as id from raw_shop.open", "42501"),
    "marked": ("select ('id\" ' || v || ' \"id')::regclass as id from raw_shop.open", "42602"),
    "raised": ("select raw_shop.refuse_as(v, '42P01') as id from raw_shop.open", "42P01"),
    "raised_as_data": ("select raw_shop.refuse_as(v, '22012') as id from raw_shop.open", "22012"),
    "composed": ("select raw_shop.composed(v) as id from raw_shop.open", "42601"),
    "twice": ("{{ config(post_hook='create unique index on {{ this }} (v)') }} "
              "select v from raw_shop.open union all select v from raw_shop.open", "23505"),
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
        create function raw_shop.refuse_as(v text, state text) returns int language plpgsql as
        $$ begin raise notice 'saw %', v; raise warning 'saw %', v; raise exception using errcode = state, message = v,
        detail = v, hint = v; end $$;
        create function raw_shop.composed(v text) returns int language plpgsql as
        $$ begin execute 'select "' || v || '" is not here'; return 1; end $$;
        grant execute on all functions in schema raw_shop to {TRANSFORMER};
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


def test_no_message_of_the_server_brings_a_value_of_a_row_into_any_log(
    troubled: TestDatabase, project: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not because they are masked: masking knows the messages that somebody has thought of."""
    monkeypatch.setattr("flows.observe.logs.redact", lambda text: text)
    caplog.set_level("DEBUG")
    for name, (query, _) in VALUES_IN_MESSAGES.items():
        (project / "models" / "gold" / f"{name}.sql").write_text(query)
    (project / "models" / "gold" / "misnamed.sql").write_text("select nothing_like_it from raw_shop.open")

    error = failed()

    parts: dict[str, MedallionError] = error.__dict__["parts"]
    assert {name: part.what for name, part in parts.items() if name != "misnamed"} == {
        name: part.what for name, part in parts.items() if state_of(name) in part.what
    }
    assert set(parts) == {*VALUES_IN_MESSAGES, "misnamed"}
    target = settings().home / "dbt"
    for told in (str(error), caplog.text, (target / "run_results.json").read_text()):
        assert "canary" not in told, told[max(0, told.index("canary") - 300) : told.index("canary") + 100]
    for name in VALUES_IN_MESSAGES:
        assert f"model {name} " in caplog.text, "the log has dbt's words about each"
    # What is about the model's own names is told in full.
    assert '42703 UndefinedColumn: column "nothing_like_it" does not exist' in caplog.text


def state_of(name: str) -> str:
    return VALUES_IN_MESSAGES[name][1] if name in VALUES_IN_MESSAGES else "-"


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
