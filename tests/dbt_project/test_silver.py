"""Rules, scores and what silver adds from elsewhere, after the days of tests/dbt_project/built_warehouse.py."""

from datetime import date
from decimal import Decimal

import pytest

from tests.dbt_project.built_warehouse import Story
from tests.dbt_project.macro_sql import macros

# One worker: the story is told once for each worker that asks.
pytestmark = pytest.mark.xdist_group("dbt")


def test_every_rule_has_an_id_of_its_own_and_says_what_is_wrong() -> None:
    rules = macros()["quality_rules"]()
    assert len({rule["id"] for rule in rules}) == len({(rule["entity"], rule["name"]) for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["action"] in {"leave out", "withhold"}
        assert 0 < rule["max_share"] <= 0.05
        assert rule["description"].endswith(".")


def test_every_quarantined_row_carries_a_rule_that_is_listed(transformed: Story) -> None:
    unlisted = transformed.warehouse.rows("""
        select quarantined.rule_id
        from (
            select rule_id, rule, 'basket_line' as entity from silver_quarantine.quarantine_basket_line
            union all select rule_id, rule, 'household' from silver_quarantine.quarantine_household
            union all select rule_id, rule, 'redemption' from silver_quarantine.quarantine_redemption
            union all select rule_id, rule, entity from silver_quarantine.quarantine_marketing_record
            union all select rule_id, rule, 'exchange_rate' from silver_quarantine.quarantine_exchange_rate
        ) as quarantined
        left join silver_quarantine.quality_rules as rules using (rule_id, rule, entity)
        where rules.description is null
    """)
    assert unlisted == []


def test_a_batch_is_scored_when_it_arrives_and_the_score_outlives_what_is_mended(transformed: Story) -> None:
    """On day three the product arrives that two lines of batch 2 were refused for. What batch 2 was stays on record."""
    scores = transformed.warehouse.rows("""
        select _loaded_batch_id as batch, batch_rows, batch_rows_refused, batch_refusals, table_refusals
        from silver_quarantine.quality_scores where entity = 'basket_line' order by scored_at, 1
    """)
    second = next(score for score in scores if score["batch"] == 2)
    # Lines 21, 9001 to 9004; 9005 came with batch 0.
    assert (second["batch_rows"], second["batch_rows_refused"]) == (5, 3)
    assert second["batch_refusals"] == second["table_refusals"] == {"BL01": 2, "BL02": 1}
    assert scores[0]["table_refusals"] == {}
    assert scores[-1]["table_refusals"] == {"BL02": 1}


def test_building_again_adds_no_score(transformed: Story) -> None:
    repeated = transformed.warehouse.rows("""
        select entity, _loaded_batch_id, table_rows, table_refusals, count(*)
        from silver_quarantine.quality_scores group by 1, 2, 3, 4 having count(*) > 1
    """)
    assert repeated == []


def test_a_household_may_break_several_rules_and_loses_only_those_values(transformed: Story) -> None:
    broken = transformed.warehouse.rows(
        "select rule_id from silver_quarantine.quarantine_household where household_id = 24 order by 1"
    )
    assert [row["rule_id"] for row in broken] == ["HH02", "HH04"]
    kept = transformed.warehouse.rows(
        "select phone, latitude, longitude, email from silver.household where household_id = 24"
    )
    assert kept == [{"phone": None, "latitude": None, "longitude": None, "email": "household.24@example.com"}]


def test_an_id_that_is_no_number_stops_no_build_and_is_kept_as_sent(transformed: Story) -> None:
    """A plain cast in staging stopped everything behind it for one record."""
    (record,) = transformed.warehouse.rows("""
        select record_id, rule_id, row_data -> 'unreadable' as unreadable
        from silver_quarantine.quarantine_marketing_record where entity = 'campaign_target'
    """)
    assert record == {"record_id": "3-5", "rule_id": "CT01", "unreadable": {"household_id": "five"}}
    assert transformed.warehouse.value("select count(*) from silver.campaign_target where campaign_id = 3") == 4


def test_a_day_without_a_rate_is_priced_at_the_last_one(transformed: Story) -> None:
    """The rate of the 29th is refused, that of the 28th was corrected to 0.80, and the 31st is a Sunday."""
    rates = transformed.warehouse.rows("""
        select rate_on, rate, published_on from silver.exchange_rate
        where rate_on in ('2017-12-27', '2017-12-29', '2017-12-31') order by 1
    """)
    assert [(row["rate"], row["published_on"]) for row in rates] == [
        (Decimal("0.85"), date(2017, 12, 27)),
        (Decimal("0.80"), date(2017, 12, 28)),
        (Decimal("0.80"), date(2017, 12, 28)),
    ]
    (basket,) = transformed.warehouse.rows(
        "select sales_value, second_sales_value from silver.basket_total where basket_id = 31000200"
    )
    assert basket["second_sales_value"] == (basket["sales_value"] * Decimal("0.80")).quantize(Decimal("0.01"))
    unpriced = (
        "select count(*) from silver.basket_total where sold_on < '2017-12-01' and second_sales_value is not null"
    )
    assert transformed.warehouse.value(unpriced) == 0


def test_basket_totals_are_the_lines_to_the_cent(transformed: Story) -> None:
    totals = transformed.warehouse.value("select sum(sales_value) from silver.basket_total")
    assert totals == transformed.warehouse.value("select sum(sales_value) from silver.basket_line")
    assert transformed.warehouse.value(
        "select count(*) filter (where is_outlier <> (clipped_sales_value <> sales_value)) from silver.basket_total"
    ) == 0  # fmt: skip


def test_a_store_of_an_unknown_region_belongs_to_the_unknown_member(transformed: Story) -> None:
    stores = transformed.warehouse.rows("select store_id, region, region_name, time_zone from silver.store order by 1")
    assert [tuple(row.values()) for row in (stores[0], stores[4])] == [
        (301, "OH", "Ohio", "America/New_York"),
        (305, "ZZ", "Unknown", "UTC"),
    ]


def test_households_know_the_nearest_store_that_is_still_open(transformed: Story) -> None:
    """Those beside store 303, which closed on day two, are nearest to 304 now: 10 km instead of 1."""
    nearest = transformed.warehouse.rows("""
        select household_id % 5 + 301 as beside, nearest_store_id, round(nearest_store_km) as km, count(*)
        from silver.household_place group by 1, 2, 3 order by 1
    """)
    assert [(row["beside"], row["nearest_store_id"], row["km"]) for row in nearest] == [
        (301, 301, 1), (302, 302, 1), (303, 304, 10), (304, 304, 1), (305, 305, 1)
    ]  # fmt: skip
    assert transformed.warehouse.value("select count(*) from silver.household_place where household_id % 10 = 0") == 0


def test_every_product_hangs_on_a_type_of_the_tree_and_is_counted_once_at_each_level(transformed: Story) -> None:
    counted = transformed.warehouse.rows("""
        select depth, sum(products) as products from silver.product_hierarchy group by 1 order by 1
    """)
    products = transformed.warehouse.value("select count(*) from silver.product")
    assert [(row["depth"], row["products"]) for row in counted] == [(1, products), (2, products), (3, products)]
    assert transformed.warehouse.value("""
        select count(*) from silver.product
        left join silver.product_hierarchy as node using (product_node_id)
        where node.path is distinct from concat_ws(' > ', product.department, product_category, product_type)
    """) == 0  # fmt: skip


def test_holidays_stand_on_their_days(transformed: Story) -> None:
    days = transformed.warehouse.rows("""
        select date_day, holiday_name, is_public_holiday, days_until_holiday from silver.calendar_day
        where date_day in ('2017-11-22', '2017-11-23', '2017-12-25') order by 1
    """)
    assert [tuple(row.values())[1:] for row in days] == [
        (None, False, 1),
        ("Thanksgiving", True, 0),
        ("Christmas Day", True, 0),
    ]


def test_scores_that_nobody_gave_yet_stop_no_build(transformed: Story) -> None:
    assert transformed.warehouse.value("select count(*) from silver.customer_score") == 0
