"""What the catalog says that roles may, beside what tests/infra/test_roles.py tries: nothing granted by forgetting."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from flows.access.addresses import connect
from flows.models.project import DBT_PROJECT, run_dbt
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.kinds.loading import at, rows

ROLES = ("medallion_extractor", "medallion_loader", "medallion_transformer", "medallion_reader",
         "medallion_reviewer", "medallion_dashboard")  # fmt: skip


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


def test_only_the_functions_of_reviews_and_answers_act_as_their_owner_and_each_of_ours_says_where_it_looks(
    made: TestDatabase,
) -> None:
    """A function that acts as its owner, called with a schema of the caller's in front, does the caller's work."""
    mine = rows(
        made,
        "select proname, prosecdef, coalesce(array_to_string(proconfig, ','), '') as config from pg_proc "
        "where pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) "
        "and proname <> 'later'",
    )
    invoker = (
        *("is_held", "refuse_change", "refuse_definition", "refuse_partitions", "release_lock", "take_lock"),
        *("fire_alert", "resolve_alerts", "alerts_of_load", "alerts_of_run", "alerts_of_checks", "alerts_of_circuit"),
        *("alerts_of_reconciliation", "alerts_of_schema_changes", "let_dashboard_read"),
        *("alerts_of_decision", "expire_decisions", "has_approvers", "add_usage_of_day"),
    )
    reviews = ("close_schemas", "newest_build", "open_schema", "read_manifest", "tables_changed_since")
    # Whoever answers a question may not write to it: only members of medallion_approver may call this one.
    expected = dict.fromkeys(invoker, False) | dict.fromkeys((*reviews, "answer_decision"), True)
    assert {row["proname"]: row["prosecdef"] for row in mine} == expected
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


def test_dbt_builds_every_kind_of_thing_without_looking_into_other_schemas(made: TestDatabase, tmp_path: Path) -> None:
    """A seed, a table, an incremental model twice, a snapshot; and a model that would fall into the trap above."""
    project = tmp_path / "project"
    for folder in ("models", "seeds", "snapshots"):
        (project / folder).mkdir(parents=True)
    shutil.copy(DBT_PROJECT / "profiles.yml", project)
    (project / "dbt_project.yml").write_text("name: seen\nprofile: medallion\n")
    (project / "seeds/given.csv").write_text("id,name\n1,a\n")
    (project / "models/kept.sql").write_text("{{ config(materialized='table') }} select * from {{ ref('given') }}")
    (project / "models/grown.sql").write_text(
        "{{ config(materialized='incremental', unique_key='id') }} select id, now() as at from {{ ref('kept') }}"
    )
    (project / "snapshots/versions.yml").write_text(
        "snapshots: [{name: versions, relation: ref('kept'), "
        "config: {unique_key: id, strategy: check, check_cols: all}}]"
    )
    url, target = made.url("transformer"), tmp_path / "target"
    for _ in range(2):
        built = run_dbt(["build"], url=url, target=target, project=project)
        assert built.ok, (built.problem, built.nodes)
    assert rows(made, "select count(*) as n from staging.grown") == [{"n": 1}]

    (project / "models/trapped.sql").write_text("select upper(1) as caught")
    with psycopg.connect(made.url("loader"), autocommit=True) as loader:
        loader.execute("create schema if not exists medallion_transformer")
        loader.execute("grant usage on schema medallion_transformer to medallion_transformer")
        trap = "create or replace function medallion_transformer.upper(int) returns text language sql as 'select $$x$$'"
        loader.execute(trap.encode())
        loader.execute("grant execute on function medallion_transformer.upper(int) to medallion_transformer")
    trapped = run_dbt(
        ["run", "-s", "trapped"], url=made.url("transformer"), target=tmp_path / "target", project=project
    )
    assert "does not exist" in trapped.nodes[0].message


@pytest.mark.parametrize("role", ROLES)
def test_no_role_creates_where_others_look(cluster: TestCluster, made: TestDatabase, role: str) -> None:
    found = rows(made, f"select has_schema_privilege('{role}', 'public', 'create') as may")
    assert found == [{"may": False}]


@pytest.mark.parametrize("role", ["reader", "transformer"])
@pytest.mark.parametrize("table", ["ops.erasures", "ops.retentions"])
def test_only_the_loader_adds_to_the_logs(made: TestDatabase, role: str, table: str) -> None:
    with psycopg.connect(made.url(role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"insert into {table} default values".encode())
