"""What makes a node depend on more than its declared inputs is found in its code; a comment or a word in it is none."""

import pytest

from flows.models.selective.volatile import converts_zones, named_relations, reads_catalog, reads_clock


@pytest.mark.parametrize(
    "code",
    [
        "select now() as at", "select current_date - 30", "where sold_at > CURRENT_TIMESTAMP", "select 'today'::date",
        "{{ run_started_at }}", "{{ modules.datetime.date.today() }}", "select age(sold_at)", "select random()",
        "select gen_random_uuid() as id",
    ],
)  # fmt: skip
def test_the_clock_is_found(code: str) -> None:
    assert reads_clock(code)


@pytest.mark.parametrize(
    "code",
    [
        "select know(x)", "-- now() would be wrong\nselect 1", "{# current_date #} select 1", "/* random() */ select 1",
        "select age(ended_at, began_at)", "select current_date_of_store", "select 'Nowhere'",
    ],
)  # fmt: skip
def test_what_only_looks_like_the_clock_is_none(code: str) -> None:
    assert not reads_clock(code)


@pytest.mark.parametrize(
    "code",
    ["{% set found = run_query(x) %}", "{{ adapter.get_relation(a, b, c) }}", "{% call statement('x') %}",
     "select * from information_schema.columns", "{{ graph.nodes }}"],
)  # fmt: skip
def test_questions_to_the_catalog_are_found(code: str) -> None:
    assert reads_catalog(code)


def test_a_join_with_ref_asks_the_catalog_nothing() -> None:
    assert not reads_catalog("select * from {{ ref('a') }} as a inner join {{ source('b', 'c') }} as c using (id)")


def test_relations_that_sql_names_itself_are_inputs_that_dbt_does_not_know() -> None:
    code = 'select * from raw_shop.promotions as p inner join "gold" . "dim_store" as s on p.store_id = s.store_id'
    assert named_relations(code) == ["gold.dim_store", "raw_shop.promotions"]


@pytest.mark.parametrize(
    "code",
    [
        "select extract(epoch from line.sold_at) from {{ ref('line') }} as line",
        "where a.x is distinct from b.x",
        "from {{ ref('a') }} as a cross join lateral jsonb_array_elements(a.items) as item",
        "-- from raw_shop.lines\nselect 1",
        "from a join unnest(b.days) as day on true",
        "from deduplicated as d",
    ],
)
def test_from_within_expressions_names_no_relation(code: str) -> None:
    assert named_relations(code) == []


def test_a_literal_hides_nothing_that_follows_it_on_its_line() -> None:
    assert reads_clock("select 'a--b', now()")
    assert reads_clock("select '/*', now() -- it isn't")
    assert not reads_clock("select 'a--b' -- now()")


def test_what_names_a_relation_anywhere_is_found_in_schemas_that_are_known() -> None:
    code = "select g.x from {{ ref('a') }} as g, gold.b as b cross join (silver.c) where gold.f(b.x) = g.gold"
    assert named_relations(code, {"gold", "silver"}) == ["gold.b", "silver.c"]


@pytest.mark.parametrize("code", ["sold_at at time zone s.zone", "timezone('Asia/Tokyo', now())", "now() AT LOCAL"])
def test_days_of_other_time_zones_are_noticed(code: str) -> None:
    """A model that depends on the day is then built each quarter of an hour: somewhere a day begins."""
    assert converts_zones(code)
    assert not converts_zones("select current_date -- at time zone 'UTC'")
