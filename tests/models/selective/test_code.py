"""Code of every kind that decides what a model holds: an edit builds the model, and so does what it depends on."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.models.selective.small_project import ALL, SmallWarehouse

pytestmark = pytest.mark.xdist_group("selective")

_NODES = {
    "macros__shown": "{% macro shown() %}'first'{% endmacro %}",
    # `execute` is false while dbt parses: it does not record this call.
    "silver__late": "select {% if execute %}{{ shown() }}{% else %}'-'{% endif %} as v",
    "silver__grown": "{{ config(materialized='incremental') }} select {% if is_incremental() %}{{ shown() }}"
    "{% else %}'-'{% endif %} as v",
    "silver__early": "select {{ shown() }} as v",
    "macros__chooser": "{% macro chooser() %}{% set chosen = shown %}{{ chosen() }}{% endmacro %}",
    "silver__chosen": "select {{ chooser() }} as v",
    "macros__everywhere": "{% macro everywhere() %}1{% endmacro %}",
    "silver__scoped": "select '{{ var('scoped') }}' as v, {{ everywhere() }} as w",
    # What only records the build, also by others, says nothing about the rows.
    "macros__recorded_at": "{% macro recorded_at() %}select now(), count(*) from raw_shop.notes{% endmacro %}",
    "macros__recording": "{% macro recording() %}{{ recorded_at() }}{% endmacro %}",
    "silver__recorded": "{{ config(post_hook='{{ recording() }}') }} select 0 as v",
}
#: Each depends on more than its inputs, and does not say so.
_UNSURE = {
    "silver__stamped": "{{ config(post_hook='update {{ this }} set v = now()::text') }} select '-'::text as v",
    "silver__dashes": "select 'a--b' as v, now() as at",
    "silver__aged": "select age(max(day)) as v from (values (date '2020-02-29')) as days (day)",
    "silver__early_today": "select 'today 00:00'::timestamptz as v",
    "silver__sampled": "select id as v from {{ ref('kept') }} tablesample system (50)",
    "macros__highest": "{% macro highest() %}(select max(id) from raw_shop.orders){% endmacro %}",
    "silver__high": "select {{ highest() }} as v",
    "silver__hooked": "{{ config(post_hook='update {{ this }} set v = (select count(*) from raw_shop.notes)') }} "
    "select 0::bigint as v",
    "silver__recorded_and_not_said": "{{ config(post_hook='{{ recorded_at() }}') }} select 0 as v",
    "silver__comma": "select n.id as v from {{ ref('stg_notes') }} as s, raw_shop.notes as n where n.id = s.id",
    "silver__bracket": "select n.id as v from ((raw_shop.notes as n cross join {{ ref('stg_notes') }} as s))",
    "silver__only": "select id as v from only raw_shop.notes",
    # What their names are is known once they are compiled.
    "silver__by_part": "select id as v from raw_{{ 'shop' }}.notes",
    "silver__by_target": "select id as v from {{ target.dbname }}.{{ 'raw_shop' }}.notes",
    "silver__by_hidden_clock": "select {{ 'n' ~ 'ow()' }} as v",
    "silver__selected": "select '{{ selected_resources | length }}' as v",
    "silver__asking": "select {{ 1 if graph['nodes'] else 2 }} as v",
    # In what is built into the statement of another model, and in what it reads through.
    "silver__inlined": "{{ config(materialized='ephemeral') }} select now() as v",
    "silver__of_inlined": "select v from {{ ref('inlined') }}",
    "staging__passing": "select now() as v",
    "silver__of_passing": "select v from {{ ref('passing') }}",
    "silver__by_function": "select raw_shop.highest() as v",
}
_ALWAYS = {name.partition("__")[2] for name in _UNSURE if not name.startswith("macros")} - {"inlined"}
_YAML = """
macros:
  - name: recording
    config: {meta: {records_build: true}}
models:
  - name: early
    columns:
      - name: v
        data_tests:
          - not_null: {config: {where: "current_date > '2020-02-29'"}}
          - accepted_values: {arguments: {values: ['first', 'second', "{{ var('step') }}"]}}
"""


@pytest.fixture(scope="module")
def coded(built: SmallWarehouse) -> Iterator[SmallWarehouse]:
    built.sql("loader", "create function raw_shop.highest() returns integer stable return (select max(id) "
              "from raw_shop.notes); grant execute on function raw_shop.highest() to public")  # fmt: skip
    built.add(**_NODES, **_UNSURE)
    built.add_yaml("early", _YAML)
    built.project_yaml = (
        'on-run-start: ["select {{ everywhere() }}"]\nvars: {step: STEP, medallion: {scoped: SCOPED}}\n'
    )
    built.edit(scoped=1)
    assert built.build(), built.problems
    yield built
    built.remove_added()
    built.project_yaml = ""
    built.write()
    assert built.build()


def test_what_depends_on_more_than_it_says_is_built_each_time_and_nothing_else_is(coded: SmallWarehouse) -> None:
    assert coded.build(), coded.problems
    assert coded.nodes_built() == _ALWAYS


def test_a_test_whose_filter_reads_the_clock_is_run_each_time(coded: SmallWarehouse) -> None:
    assert coded.build(), coded.problems
    assert coded.last is not None
    tests = {name.split(".")[2] for name in coded.last.reasons if name.startswith("test.")}
    assert tests == {"not_null_early_v"}


def test_a_variable_in_the_arguments_of_a_test_is_part_of_its_code(coded: SmallWarehouse) -> None:
    coded.edit(step=7)
    assert coded.build(), coded.problems
    assert coded.last is not None
    assert any("accepted_values" in name for name in coded.last.reasons)


def test_a_variable_that_is_set_for_one_package_is_seen(coded: SmallWarehouse) -> None:
    coded.edit(scoped=2)
    assert coded.build(), coded.problems
    assert "scoped" in coded.nodes_built()
    assert _value(coded, "scoped") == "2"


def test_an_edited_macro_builds_whatever_may_call_it(coded: SmallWarehouse) -> None:
    """In blocks that dbt skips while it parses, and as a value."""
    coded.add(macros__shown="{% macro shown() %}'second'{% endmacro %}")
    assert coded.build(), coded.problems
    assert coded.nodes_built() - _ALWAYS == {"late", "grown", "early", "chosen"}
    assert [_value(coded, name) for name in ("late", "early", "chosen")] == ["second"] * 3


def test_an_edited_macro_that_records_a_build_builds_what_it_records(coded: SmallWarehouse) -> None:
    coded.add(macros__recording="{% macro recording() %}{{ recorded_at() }} limit 1{% endmacro %}")
    assert coded.build(), coded.problems
    assert coded.nodes_built() - _ALWAYS == {"recorded"}


def test_an_edited_macro_of_a_hook_of_the_project_builds_all_though_a_model_calls_it_too(coded: SmallWarehouse) -> None:
    coded.add(macros__everywhere="{% macro everywhere() %}2{% endmacro %}")
    assert coded.build(), coded.problems
    assert coded.nodes_built() >= ALL | {"scoped"}


def _value(small: SmallWarehouse, name: str) -> object:
    with psycopg.connect(small.database.url("transformer")) as session:
        row = session.execute(f"select v from silver.{name}".encode()).fetchone()
    assert row is not None
    return row[0]
