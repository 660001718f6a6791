"""Ordinary builds keep what was granted, revoked and filtered on the tables that they replace."""

import shutil
from pathlib import Path

import pytest

from flows.transform import transform
from flows.values.errors import WarehouseError
from tests.conftest import ROOT, TestDatabase
from tests.flows.small_project import edit
from tests.models.permissions import permissions
from tests.publish.two_ends import run_sql

# With test_release: one worker builds the shared schemas that the tests take copies of.
pytestmark = pytest.mark.xdist_group("release")

_PARTITIONED = """
{{ config(materialized='partitioned', partition_by={'column': 'sold_on', 'every': 'month', 'late_data': '1 month'}) }}
select id, ('2026-01-01'::date + (id / 5)::integer * 31) as sold_on from {{ ref('stg_sale') }}
{% if holds_partitions() %} where '2026-01-01'::date + (id / 5)::integer * 31 >= {{ late_data_from() }} {% endif %}
"""
_PROPERTIES = """
models:
  - name: parts
    config: {contract: {enforced: true}}
    columns:
      - {name: id, data_type: integer}
      - {name: sold_on, data_type: date}
"""
_BY_HAND = """
revoke select on gold.mart from medallion_reader;
grant select (id, amount), update (note) on gold.mart to medallion_reader;
grant select on gold.mart to medallion_dashboard with grant option;
revoke delete on gold.mart from medallion_transformer;
alter table gold.total enable row level security;
create policy few on gold.total for select to medallion_reader
    using (exists (select from ops_rights.seen where seen.id = total.id));
alter table gold.parts enable row level security;
create policy first_half on gold.parts to medallion_reader using (id < 6);
revoke select on gold.parts_p20260101 from medallion_reader;
comment on table gold.total is 'by hand';
revoke select on staging.stg_sale from public;
grant select on staging.stg_sale to medallion_dashboard;
alter view staging.stg_sale set (security_invoker = true);
grant select on silver.score to medallion_dashboard;
grant select on staging.codes to medallion_dashboard;
alter default privileges in schema staging grant select on tables to medallion_reader;
"""


@pytest.fixture
def granted(shared: TestDatabase, project: Path) -> TestDatabase:
    """The small project with a model of each materialization; permissions that no build would give by itself."""
    shutil.copytree(ROOT / "dbt_project" / "macros" / "partitioned", project / "macros" / "partitioned")
    (project / "models" / "gold" / "parts.sql").write_text(_PARTITIONED)
    (project / "models" / "gold" / "parts.yml").write_text(_PROPERTIES)
    (project / "seeds").mkdir()
    (project / "seeds" / "codes.csv").write_text("code,label\n1,one\n")
    (project / "seeds" / "codes.yml").write_text("seeds:\n  - {name: codes, config: {schema: staging}}\n")
    transform()
    run_sql(shared.url("transformer"), "create schema ops_rights; create table ops_rights.seen as select 1 as id")
    run_sql(shared.url("transformer"), "grant usage on schema ops_rights to medallion_reader")
    run_sql(shared.url("transformer"), "grant select on ops_rights.seen to medallion_reader")
    run_sql(shared.url("transformer"), _BY_HAND)
    return shared


SCHEMAS = ("staging", "silver", "gold")


def made(database: TestDatabase) -> dict[str, int]:
    """Which table has which name now."""
    found = run_sql(
        database.url("transformer"),
        "select relname, oid::bigint from pg_class where relnamespace = any(%s::regnamespace[]) "
        "and relkind in ('r', 'p', 'v')",
        [list(SCHEMAS)],
    )
    return dict(found)


def test_a_full_build_a_build_of_what_changed_and_a_full_refresh_keep_all_permissions(
    granted: TestDatabase, project: Path
) -> None:
    before, first = permissions(granted, *SCHEMAS), made(granted)

    transform(full=True)

    second = made(granted)
    assert {name for name in first if first[name] != second[name]} >= {"mart", "total", "stg_sale"}
    assert permissions(granted, *SCHEMAS) == before

    # A column more: whoever may read single columns does not get it.
    edit(project, "gold/mart.sql", "as note", "as note, 'secret' as later")
    transform()
    assert made(granted)["mart"] != second["mart"]
    after = permissions(granted, *SCHEMAS)
    assert {name: facts for name, facts in after.items() if name != "gold.mart"} == {
        name: facts for name, facts in before.items() if name != "gold.mart"
    }
    assert run_sql(granted.url("reader"), "select distinct note from (select null as note, id, amount from gold.mart)")
    with pytest.raises(Exception, match="permission denied"):
        run_sql(granted.url("reader"), "select later from gold.mart")

    edit(project, "gold/mart.sql", ", 'secret' as later", "")
    (project / "seeds" / "codes.csv").write_text("code,label\n1,two\n")
    transform(full_refresh=True)
    third = made(granted)
    assert {name for name in first if first[name] != third[name]} >= {"codes", "parts", "parts_p20260101"}
    assert permissions(granted, *SCHEMAS) == before
    assert run_sql(granted.url("reader"), "select count(*) from gold.total") == [(1,)]
    assert run_sql(granted.url("reader"), "select count(*), max(id) from gold.parts") == [(5, 5)]


def test_a_new_partition_has_the_grants_of_its_table_and_shows_nobody_what_a_policy_hides(
    granted: TestDatabase, project: Path
) -> None:
    edit(project, "staging/stg_sale.sql", "generate_series(1, 10)", "generate_series(1, 20)")
    transform()
    reader = granted.url("reader")
    names = [name for name in made(granted) if name.startswith("parts_p")]
    assert len(names) == 5
    assert run_sql(reader, "select count(*) from gold.parts") == [(5,)]
    newest = max(names)
    assert run_sql(granted.url("transformer"), f"select count(*) > 0 from gold.{newest}") == [(True,)]
    assert run_sql(reader, f"select count(*) from gold.{newest}") == [(0,)]


def test_a_table_that_another_tables_policy_reads_is_not_replaced_and_the_policy_is_named(
    granted: TestDatabase,
) -> None:
    """To drop the former table would drop the policy."""
    run_sql(
        granted.url("transformer"),
        "create policy by_mart on gold.parts to medallion_reader using (exists (select from gold.mart as m "
        "where m.id = parts.id))",
    )
    before = permissions(granted, *SCHEMAS)
    with pytest.raises(WarehouseError, match=r"the permissions of gold\.mart cannot be kept: .*policy by_mart of gold"):
        transform(full=True)
    after = permissions(granted, *SCHEMAS)
    assert after["gold.mart"] == before["gold.mart"]
    assert after["gold.parts"] == before["gold.parts"]
