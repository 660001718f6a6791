"""What stops a build, and what readers are promised."""

from pathlib import Path

import psycopg
import pytest

from flows.quality.contracts import validate_contract
from flows.quality.soda import CheckResult, verify
from tests.conftest import ROOT, TestDatabase, copy_of
from tests.dbt_project.built_warehouse import Story, Warehouse
from tests.dbt_project.test_project import described

pytestmark = pytest.mark.xdist_group("dbt")

CONTRACTS = sorted((ROOT / "soda/gold").glob("*.yml"))


def test_every_rule_with_an_edge_holds_in_its_unit_test(transformed: Story) -> None:
    tested = transformed.warehouse.dbt("test", "--select", "test_type:unit")
    assert tested.exit_code == 0, tested.output
    assert len(tested.statuses) >= 20


def test_too_many_broken_rows_stop_the_build_before_gold(empty: Warehouse) -> None:
    """A shrinking fact table would hide the fault: nothing behind the quarantine is built."""
    empty.load_day_one()
    empty.load("dbt_project/raw_day_two.sql")
    build = empty.build(share=0.001, floor=0)
    assert build.exit_code == 1
    assert build.of("rules_of_shop_are_within_their_limits") == {"fail"}
    # The score of the batch that stopped the build is kept all the same: it is what somebody will look for.
    assert empty.value("""
        select batch_refusals ?& array['BL01', 'BL02'] from silver_quarantine.quality_scores_shop
        where entity = 'basket_line' and _loaded_batch_id = 2
    """)
    assert build.of("basket_line") == build.of("fct_basket_lines") == build.of("agg_daily_sales") == {"skipped"}
    # A floor tolerates the same lines: at most 90 of 451 break one rule.
    tolerant = empty.dbt("test", "--select", "rules_of_shop_are_within_their_limits", share=0.001, floor=90)
    assert tolerant.of("rules_of_shop_are_within_their_limits") == {"pass"}


def test_every_gold_table_has_a_contract_and_every_contract_a_table() -> None:
    models = {described(path)["table"] for path in (ROOT / "dbt_project/models/gold").glob("*.sql")}
    assert {path.stem for path in CONTRACTS} == models


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda path: path.stem)
def test_a_contract_is_written_in_sodas_language(contract: Path) -> None:
    assert validate_contract(contract) == []


@pytest.fixture(scope="module")
def unbroken(transformed: Story) -> list[CheckResult]:
    return verify(CONTRACTS, transformed.warehouse.database.url("transformer"), gate="gold")


def failed(results: list[CheckResult]) -> set[str]:
    return {f"{result.dataset}:{result.check}" for result in results if result.outcome == "failed"}


def test_gold_keeps_its_contracts(unbroken: list[CheckResult]) -> None:
    assert len(unbroken) > 100
    assert [result for result in unbroken if result.blocks] == []


def test_a_broken_gold_table_is_found(transformed: Story, unbroken: list[CheckResult]) -> None:
    """A contract that cannot fail promises nothing: one broken value of each kind, and each is seen."""
    with copy_of(transformed.warehouse.database) as database:
        break_gold(database)
        results = verify(CONTRACTS, database.url("transformer"), gate="gold")
    assert {
        "gold.agg_daily_sales:invalid",
        "gold.agg_daily_sales:metric.no_gaps",
        "gold.customer_360:failed_rows.tier_fits",
        "gold.dim_household:duplicate.one_current",
        "gold.dim_date:schema",
        "gold.dim_store:row_count",
        "gold.agg_weekly_sales:metric.no_gaps",
        "gold.agg_product_affinity:failed_rows.both_within_each",
        "gold.agg_campaign_lift:failed_rows.lift_fits",
        "gold.forecast_features:failed_rows.target_fits",
        "gold.fct_baskets:failed_rows.within_shelf",
    } <= failed(results) - failed(unbroken)


def break_gold(database: TestDatabase) -> None:
    with psycopg.connect(database.url("transformer")) as connection:
        connection.execute("update gold.agg_daily_sales set sales_value = -1 where sold_on = '2017-01-03'")
        connection.execute("delete from gold.agg_daily_sales where sold_on = '2017-06-01'")
        connection.execute("update gold.customer_360 set tier = 'gold' where baskets = 0")
        connection.execute("update gold.customer_360 set tier = 'none' where household_id = 1")
        connection.execute("update gold.dim_household set household_id = 2 where household_id = 1")
        connection.execute("alter table gold.dim_date add column surprise text")
        connection.execute("truncate gold.dim_store")
        connection.execute("delete from gold.agg_weekly_sales where fiscal_year = 2017 and fiscal_week = 20")
        connection.execute("update gold.agg_product_affinity set baskets_with_both = baskets_with_category + 1")
        connection.execute("update gold.agg_campaign_lift set lift_per_household = 1, is_measurable = false")
        connection.execute("update gold.forecast_features set sales_value = null where not is_to_predict")
        connection.execute("update gold.fct_baskets set shelf_value = sales_value - 1")


def test_readers_see_every_gold_table_and_no_silver(transformed: Story) -> None:
    """dbt builds each table anew and renames it: what was granted on yesterday's table is gone with it."""
    with psycopg.connect(transformed.warehouse.database.url("reader"), autocommit=True) as connection:
        for contract in CONTRACTS:
            connection.execute(f"select 1 from gold.{contract.stem} limit 1".encode())
        for closed in ("silver.household", "silver_quarantine.quarantine_household", "snapshots.households_snapshot"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"select 1 from {closed} limit 1".encode())
