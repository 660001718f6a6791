"""Pages of gold, over models that the test makes."""

from collections.abc import Iterator

import pytest

from tests.conftest import TestCluster, fresh_warehouse
from tests.dashboard.served import Served, serving
from tests.publish.two_ends import run_sql

pytestmark = pytest.mark.xdist_group("dashboard")
GOLD = """
create table gold.agg_daily_sales as select date '2026-01-01' + n as sold_on, 100.5 + n as sales_value, 10 as baskets,
    5 as households, 100.0 as sales_7_day_average from generate_series(0, 99) as n;
create table gold.customer_360 as select n as household_id, '45-54' as age_band, 'gold' as tier, 'loyal' as segment,
    n * 1.5 as sales_value, 'anna@example.com' as note from generate_series(1, 20) as n;
create table gold.agg_campaign_lift as select 1 as campaign_id, 'Spring <b>' as campaign_name, date '2026-03-01' as
    starts_on, date '2026-03-31' as measured_until, 50 as households_targeted, 0.1 as response_rate,
    -9.5 as lift_per_household, 4.0 as standard_error, true as is_significant, true as is_measurable,
    -475.0 as incremental_sales;
create table gold.forecast_features as select 'GROCERY' as department, date '2026-01-01' + n as date_day,
    n = 40 as is_to_predict, case when n < 40 then 10.0 + n end as sales_value, 20.0 as sales_mean_28,
    21.5 as sales_same_weekday_mean_4 from generate_series(0, 40) as n;
"""


@pytest.fixture(scope="module")
def running(cluster: TestCluster) -> Iterator[Served]:
    with fresh_warehouse(cluster) as warehouse:
        run_sql(warehouse.url("transformer"), GOLD)
        with serving(warehouse) as found:
            yield found


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/sales?days=30", ["2026-04-10", "per basket", "199.5"]),
        ("/customers", ["loyal", "20"]),
        ("/campaigns", ["Spring &lt;b&gt;", "-$9.50", "● yes"]),
        ("/forecast", ["GROCERY", "2026-02-10", "$21.50"]),
    ],
)
def test_a_page_shows_its_model(running: Served, path: str, parts: list[str]) -> None:
    answer = running.login("anna").get(path)
    assert answer.status_code == 200, answer.text
    assert [part for part in parts if part not in answer.text] == []


def test_a_customer_is_masked_unless_the_role_may_and_then_the_look_is_recorded(running: Served) -> None:
    looks = "select person, action, subject from ops.dashboard_actions"
    masked = running.login("anna").get("/customers?household=7").text
    assert "45-54" not in masked
    assert "anna@example.com" not in masked, "a text that no one has called harmless"
    assert "loyal" in masked
    assert run_sql(running.warehouse.url("loader"), looks) == []
    shown = running.login("paula").get("/customers?household=7").text
    assert "45-54" in shown
    assert run_sql(running.warehouse.url("loader"), looks) == [("paula", "customer shown", "household 7")]


def test_a_customer_that_does_not_exist_is_said_to_be_missing(running: Served) -> None:
    for text in ("999", "x", "1' or '1'='1", "-1", "9" * 18):
        answer = running.login("anna").get(f"/customers?household={text}")
        assert answer.status_code == 200
        assert "There is no household" in answer.text


def test_other_models_have_no_pages_and_break_none(running: Served) -> None:
    """A clone has renamed a column, and another has no such model at all."""
    anna, url = running.login("anna"), running.warehouse.url("transformer")
    assert 'href="/campaigns"' in anna.get("/sales").text
    run_sql(url, "alter table gold.agg_campaign_lift rename standard_error to deviation")
    running.forget()
    text = anna.get("/sales").text
    assert 'href="/campaigns"' not in text
    assert 'href="/forecast"' in text
    assert anna.get("/campaigns").status_code == 404
    run_sql(url, "alter table gold.agg_campaign_lift rename deviation to standard_error")
    running.forget()


def test_millions_of_customers_are_not_counted_at_a_click(running: Served) -> None:
    run_sql(running.warehouse.url("admin"), "update pg_class set reltuples = 2e7 where relname = 'customer_360'")
    text = running.login("anna").get("/customers?household=7").text
    assert "too many customers to count" in text
    assert "once gold has an index" in text
    run_sql(running.warehouse.url("transformer"), "create unique index on gold.customer_360 (household_id)")
    run_sql(running.warehouse.url("admin"), "update pg_class set reltuples = 2e7 where relname = 'customer_360'")
    assert "Household 7" in running.login("anna").get("/customers?household=7").text
