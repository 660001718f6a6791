"""Whatever dbt does to a table that is in use waits for it and names who uses it, for every kind of node."""

import shutil
from pathlib import Path

import psycopg
import pytest

from flows.models.lock_waits import NO_LOCK, lock_wait
from flows.models.project import DBT_PROJECT, Invocation, run_dbt
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.publish.two_ends import run_sql

#: Each on its own, so that none is skipped for another.
NODES = {
    "models/replaced.sql": "{{ config(materialized='table') }} select 1 as id",
    "models/shown.sql": "{{ config(materialized='view') }} select 1 as id",
    "models/grown.sql": "{{ config(materialized='incremental', on_schema_change='append_new_columns') }} "
    "select 1 as id",
    "models/parted.sql": "{{ config(materialized='partitioned', contract={'enforced': true}, "
    "partition_by={'column': 'day', 'every': 'month', 'late_data': '1 month'}) }} select date '2026-01-01' as day",
    "models/parted.yml": "models: [{name: parted, columns: [{name: day, data_type: date}]}]",
    "snapshots/versions.sql": "{% snapshot versions %} "
    "{{ config(unique_key='id', strategy='check', check_cols='all') }} select 1 as id {% endsnapshot %}",
    "seeds/given.csv": "id\n1\n",
    "tests/kept.sql": "{{ config(store_failures=true) }} select 1 as id where false",
}
#: Those that keep their table gain a column, so that they change it, too.
GAIN = ("models/grown.sql", "snapshots/versions.sql")
NAMES = {"replaced", "shown", "grown", "parted", "versions", "given", "kept"}


WAIT_SECONDS = 0.5
#: As dbt's own macros would have it, and as everything is that the macro is not asked about.
WITHOUT_A_WAIT = "{% macro wait_for_lock(relation, ddl) %}{{ ddl }}{% endmacro %}"


@pytest.fixture
def project(tmp_path: Path, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings(), "build_lock_wait_seconds", WAIT_SECONDS)
    # What does not wait by the macro fails after the role's lock_timeout: in a second here, else in two minutes.
    run_sql(
        warehouse.url("admin"),
        f"alter role medallion_transformer in database {warehouse.name} set lock_timeout = '1s'",
    )
    for name, text in NODES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    (tmp_path / "dbt_project.yml").write_text("name: waits\nprofile: medallion\n")
    shutil.copy(DBT_PROJECT / "profiles.yml", tmp_path)
    (tmp_path / "macros").mkdir()
    for name in (
        "keep_permissions.sql",
        "wait_for_lock.sql",
        "partitioned/partitioned.sql",
        "partitioned/partitions.sql",
    ):
        shutil.copy(DBT_PROJECT / "macros" / name, tmp_path / "macros")
    return tmp_path


def tables(warehouse: TestDatabase) -> list[tuple[object, ...]]:
    """Those of the nodes: their names, what they are, and their columns."""
    return run_sql(
        warehouse.url("transformer"),
        "select n.nspname || '.' || c.relname, c.oid, array_agg(a.attname::text order by a.attnum) "
        "from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid "
        "inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 where c.relkind in ('r', 'v', 'p') "
        "and n.nspname not in ('ops', 'pg_catalog', 'information_schema') and not c.relispartition "
        "and c.relname like any(%s) group by 1, 2 order by 1",
        [[f"{name}%" for name in sorted(NAMES)]],
    )


def test_every_kind_of_node_waits_names_who_uses_its_table_and_leaves_it_as_it_was(
    warehouse: TestDatabase, project: Path
) -> None:
    def build() -> Invocation:
        return run_dbt(["build"], url=warehouse.url("transformer"), target=project / "target", project=project)

    macro = project / "macros/wait_for_lock.sql"
    waits = macro.read_text()
    declared = waits.index("{% macro wait_for_lock"), waits.index("{%- endmacro %}") + len("{%- endmacro %}")
    macro.write_text(waits[: declared[0]] + WITHOUT_A_WAIT + waits[declared[1] :])
    assert build().ok
    for name in GAIN:
        (project / name).write_text(NODES[name].replace("1 as id", "1 as id, 2 as gained"))
    before = tables(warehouse)
    assert len(before) == len(NAMES)
    with psycopg.connect(warehouse.url("transformer"), application_name="an analyst") as idle:
        for relation, *_ in before:
            leaves = "select relid::regclass::text from pg_partition_tree(%s) where isleaf"
            # Who reads a partition alone keeps its table, too.
            for (read,) in run_sql(warehouse.url("transformer"), leaves, [relation]) or [(relation,)]:
                idle.execute(f"select * from {read}".encode())
        # The control: without the wait each node queues for as long as the server lets it, and names nobody.
        queued = build()
        assert {(node.name, lock_wait(node.message)) for node in queued.nodes} == {(name, NO_LOCK) for name in NAMES}

        macro.write_text(waits)
        blocked = build()
        assert {node.name for node in blocked.nodes} == NAMES
        for node in blocked.nodes:
            assert node.status == "error", (node.name, node.status)
            told = lock_wait(node.message)
            assert told is not None, (node.name, node.message)
            assert (
                f"{node.name} is in use: session {idle.info.backend_pid} of medallion_transformer (an analyst)" in told
            )
            assert "idle in transaction" in told
            assert node.seconds >= WAIT_SECONDS, node.name
        assert tables(warehouse) == before
    assert build().ok
    assert run_sql(warehouse.url("transformer"), "select gained from staging.grown order by 1") == [(2,), (None,)]


def test_of_a_message_only_what_the_macro_wrote_is_passed_on() -> None:
    told = (
        "gold.mart is in use: session 12 of medallion_reader (psql) with AccessShareLock since 2026-05-04 08:00:00 UTC"
        ", idle in transaction; session 13 of dba () with AccessShareLock since before 2026-05-04 08:00:00 UTC"
    )
    assert lock_wait(f"Database Error in model mart (models/mart.sql)\n  {told}\n  CONTEXT:  PL/pgSQL function") == told
    assert lock_wait(f"Failing row contains (x {told}, secret).") is None
    assert lock_wait("  secret is in use: session of ours, secret\n") is None
    assert lock_wait("canceling statement due to lock timeout\nCONTEXT: while updating (secret)") == NO_LOCK
