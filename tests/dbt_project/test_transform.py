"""What becomes of raw rows on three days: new, corrected, late, deleted and broken ones."""

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.dbt_project.built_warehouse import NEW_COLUMN, SHOP_TABLES, Rows, Story, without

# One worker: the story is told once for each worker that asks.
pytestmark = pytest.mark.xdist_group("dbt")

END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)


def line(rows: Rows, number: int) -> dict[str, object]:
    (found,) = [row for row in rows if row["basket_line_id"] == number]
    return found


def numbers(rows: Rows) -> set[int]:
    return {row["basket_line_id"] for row in rows}


@pytest.mark.parametrize("day", ["day_one", "day_two", "again", "day_three", "refreshed"])
def test_every_build_succeeds_with_all_its_tests(transformed: Story, day: str) -> None:
    build = transformed.builds[day]
    assert build.exit_code == 0, build.output
    assert set(build.statuses.values()) <= {"success", "pass", "no-op"}


def test_every_line_of_the_first_day_reaches_gold_to_the_cent(transformed: Story) -> None:
    assert len(transformed.day_one["gold.fct_basket_lines"]) == 450
    sold = transformed.warehouse.value("""
        select sum(round(0.5 + ((31000000 + id) * 7 + line * 13) % 997 / 100.0, 2))
        from generate_series(1, 150) as id, generate_series(1, 3) as line
    """)
    assert sum(row["sales_value"] for row in transformed.day_one["gold.fct_basket_lines"]) == sold
    assert transformed.day_one["gold.agg_daily_sales"][-1]["sales_to_date"] == sold


def test_what_the_shop_holds_is_what_gold_holds_and_what_is_quarantined(transformed: Story) -> None:
    held = sum(row["sales_value"] for row in transformed.day_two["gold.fct_basket_lines"])
    quarantined = sum(
        Decimal(str(row["row_data"]["sales_value"]))
        for row in transformed.day_two["silver_quarantine.quarantine_basket_line"]
    )
    shop = transformed.warehouse.value("select sum(sales_value) from raw_shop.basket_items where _deleted_at is null")
    assert quarantined == Decimal("15.54")
    assert held + quarantined == shop


def test_a_corrected_line_is_corrected_in_gold(transformed: Story) -> None:
    assert line(transformed.day_two["gold.fct_basket_lines"], 21)["sales_value"] == Decimal("99.99")


def test_a_late_line_arrives_whatever_its_timestamps_say(transformed: Story) -> None:
    """Its updated_at, _extracted_at and _batch_id are all older than what was loaded: a watermark would lose it."""
    assert line(transformed.day_two["gold.fct_basket_lines"], 9005)["sales_value"] == Decimal("2.22")


def test_lines_deleted_in_the_shop_leave_silver_and_gold(transformed: Story) -> None:
    deleted = {31, 41, 42, 43}
    assert deleted <= numbers(transformed.day_one["gold.fct_basket_lines"])
    for table in ("silver.basket_line", "gold.fct_basket_lines"):
        assert not deleted & numbers(transformed.day_two[table])


def test_only_what_changed_is_written(transformed: Story) -> None:
    first = {row["basket_line_id"]: row["_transformed_at"] for row in transformed.day_one["gold.fct_basket_lines"]}
    written = {
        row["basket_line_id"]
        for row in transformed.day_two["gold.fct_basket_lines"]
        if row["_transformed_at"] != first.get(row["basket_line_id"])
    }
    moved = {
        row["basket_line_id"]
        for row in transformed.warehouse.rows("""
            select fct.basket_line_id
            from gold.fct_basket_lines as fct
            inner join silver.basket on fct.basket_id = basket.basket_id
            where
                basket.household_id = 20 and fct.sold_at >= '2017-11-01 00:00+00'
                or basket.household_id = 22 and fct.sold_at >= '2017-10-01 00:00+00'
        """)
    }
    assert moved
    assert written == {21, 9001, 9005} | moved


def test_building_again_writes_nothing(transformed: Story) -> None:
    assert transformed.again == transformed.day_two


def test_a_full_refresh_gives_what_the_increments_gave(transformed: Story) -> None:
    incremental, refreshed = transformed.day_three, transformed.refreshed
    assert without("_transformed_at", incremental) == without("_transformed_at", refreshed)


def test_lines_without_a_partner_are_quarantined_with_rule_and_row(transformed: Story) -> None:
    quarantined = {
        row["basket_line_id"]: (row["rule"], row["row_data"]["quantity"], row["row_data"]["product_id"])
        for row in transformed.day_two["silver_quarantine.quarantine_basket_line"]
    }
    assert quarantined == {
        9002: ("unknown_product", 1, 77777),
        9003: ("unknown_product", 2, 77777),
        9004: ("unknown_basket", 1, 25001),
    }
    assert not numbers(transformed.day_two["gold.fct_basket_lines"]) & set(quarantined)


def test_a_quarantined_line_is_released_when_its_product_arrives(transformed: Story) -> None:
    assert numbers(transformed.day_three["silver_quarantine.quarantine_basket_line"]) == {9004}
    released = numbers(transformed.day_three["gold.fct_basket_lines"])
    assert released - numbers(transformed.day_two["gold.fct_basket_lines"]) == {9002, 9003}


def test_a_redemption_of_an_unknown_household_is_quarantined(transformed: Story) -> None:
    query = "select redemption_id, rule from silver_quarantine.quarantine_redemption"
    assert transformed.warehouse.rows(query) == [{"redemption_id": 6, "rule": "unknown_household"}]
    assert transformed.warehouse.value("select count(*) from gold.fct_redemptions") == 5


def test_a_malformed_email_is_quarantined_while_its_household_stays(transformed: Story) -> None:
    query = """
        select household_id, rule_id, row_data ->> 'email' as email from silver_quarantine.quarantine_household
        where rule = 'malformed_email'
    """
    assert transformed.warehouse.rows(query) == [{"household_id": 21, "rule_id": "HH01", "email": "broken@@example"}]
    kept = transformed.warehouse.rows("select household_id, email from silver.household where household_id in (20, 21)")
    assert {row["household_id"]: row["email"] for row in kept} == {20: None, 21: None}
    assert transformed.warehouse.value("select count(*) from gold.customer_360 where household_id = 21") == 1


def test_messy_phone_numbers_become_e164(transformed: Story) -> None:
    phones = transformed.warehouse.rows("select household_id, phone from silver.household")
    assert len(phones) == 60
    for row in phones:
        if row["household_id"] % 6 == 0:
            assert row["phone"] is None
        else:
            assert re.fullmatch(r"\+1513555\d{4}", row["phone"])
            assert row["phone"].endswith(f"{row['household_id']:02}")


def test_emails_are_trimmed_and_lower_case(transformed: Story) -> None:
    email = transformed.warehouse.value("select email from silver.household where household_id = 6")
    assert email == "household.6@example.com"


def test_a_moved_household_has_two_versions_and_its_sales_point_at_theirs(transformed: Story) -> None:
    """The move was in November; lines sold since then were loaded before the platform heard of it."""
    versions = [row for row in transformed.day_two["gold.dim_household"] if row["household_id"] == 20]
    first, second = sorted(versions, key=lambda row: row["version_number"])
    assert (first["is_current"], second["is_current"]) == (False, True)
    assert first["expires_at"] == second["effective_at"] == datetime(2017, 11, 1, tzinfo=UTC)
    assert (second["income_band"], second["income_rank"], second["expires_at"]) == ("250K+", 12, END_OF_TIME)
    keys = {first["household_key"], second["household_key"]}
    sales = [row for row in transformed.day_two["gold.fct_basket_lines"] if row["household_key"] in keys]
    before = {row["household_key"] for row in sales if row["sold_at"] < second["effective_at"]}
    since = {row["household_key"] for row in sales if row["sold_at"] >= second["effective_at"]}
    assert (before, since) == ({first["household_key"]}, {second["household_key"]})


def test_a_column_that_a_source_adds_stops_no_model_and_makes_no_version(transformed: Story) -> None:
    """Raw has it on day three, with a value in every row. A model takes it in when somebody names it."""
    assert transformed.builds["day_three"].exit_code == 0
    named = f"column_name = '{NEW_COLUMN}'"
    having = transformed.warehouse.rows(f"select table_schema from information_schema.columns where {named}")
    assert [row["table_schema"] for row in having] == ["raw_shop"] * len(SHOP_TABLES)
    for dimension in ("gold.dim_household", "gold.dim_product"):
        before = {row[f"{dimension.removeprefix('gold.dim_')}_key"] for row in transformed.day_two[dimension]}
        after = {row[f"{dimension.removeprefix('gold.dim_')}_key"] for row in transformed.day_three[dimension]}
        assert len(after - before) == 1  # the product that arrived, the household that was corrected


def test_a_changed_address_makes_no_version(transformed: Story) -> None:
    """Contact details have no history: an erased household must not live on in one."""
    assert len([row for row in transformed.day_two["gold.dim_household"] if row["household_id"] == 21]) == 1


def test_a_product_taken_off_the_list_gets_a_last_version_marked_deleted(transformed: Story) -> None:
    versions = [row for row in transformed.day_two["gold.dim_product"] if row["product_id"] == 25099]
    assert [(row["is_deleted"], row["is_current"]) for row in sorted(versions, key=lambda r: r["version_number"])] == [
        (False, False),
        (True, True),
    ]
    assert transformed.warehouse.value("select is_deleted from silver.product where product_id = 25099")


def test_a_closed_store_keeps_its_sales(transformed: Story) -> None:
    """Stores are read whole, and raw forgets one that the shop took off its list."""
    days = (transformed.day_one, transformed.day_two, transformed.refreshed)
    first, second, refreshed = (
        {row["basket_line_id"] for row in day["gold.fct_basket_lines"] if row["store_id"] == 303} for day in days
    )
    assert first
    assert first == second == refreshed
    query = """
        select store_id, store_name = 'Renamed' as is_renamed, is_deleted
        from gold.dim_store where store_id > 0 order by store_id
    """
    assert [tuple(row.values()) for row in transformed.warehouse.rows(query)] == [
        (301, False, False), (302, False, False), (303, False, True), (304, True, False), (305, False, False)
    ]  # fmt: skip


def test_a_renamed_product_keeps_its_old_name_in_history(transformed: Story) -> None:
    versions = [row for row in transformed.day_two["gold.dim_product"] if row["product_id"] == 25003]
    names = {row["version_number"]: row["product_type"] for row in versions}
    assert len(names) == 2
    assert names[2] == "RENAMED"
    assert names[1] != "RENAMED"


@pytest.mark.parametrize(("dimension", "key"), [("dim_household", "household_id"), ("dim_product", "product_id")])
def test_every_moment_meets_exactly_one_version(transformed: Story, dimension: str, key: str) -> None:
    """Tried at every boundary, just before it, and far away: wherever intervals could overlap or leave a gap."""
    missed = transformed.warehouse.rows(f"""
        with moments as (
            select {key}, effective_at as moment from gold.{dimension}
            union select {key}, effective_at - interval '1 microsecond' from gold.{dimension} where version_number > 1
            union select {key}, timestamptz '2017-07-01 00:00+00' from gold.{dimension}
            union select {key}, timestamptz '9999-12-30 00:00+00' from gold.{dimension}
        )
        select moments.{key}, moments.moment, count(version.{key}) as versions
        from moments
        left join gold.{dimension} as version
            on moments.{key} = version.{key}
            and moments.moment >= version.effective_at and moments.moment < version.expires_at
        group by 1, 2
        having count(version.{key}) <> 1
    """)
    assert missed == []


def test_coupon_lists_are_unfolded_without_repeats(transformed: Story) -> None:
    rows = transformed.warehouse.rows(
        "select product_id, is_known_product from silver.coupon_product where coupon_id = '1-501' order by product_id"
    )
    assert [(row["product_id"], row["is_known_product"]) for row in rows] == [
        (99, False),
        (25001, True),
        (25002, True),
    ]


def test_a_coupon_gains_its_terms(transformed: Story) -> None:
    query = "select minimum_spend, minimum_spend_currency from silver.coupon where coupon_id = '1-501'"
    terms = transformed.warehouse.rows(query)
    assert terms == [{"minimum_spend": Decimal("10.00"), "minimum_spend_currency": "USD"}]


def test_contact_details_stay_out_of_gold_and_of_history(transformed: Story) -> None:
    """Readers see gold. Someone will want addresses in customer_360: its flags tell who can be reached."""
    columns = transformed.warehouse.rows("""
        select table_name, column_name from information_schema.columns
        where table_schema in ('gold', 'snapshots') and column_name ~ '^(email|phone|full_name|row_data)$'
    """)
    assert columns == []


def test_customers_are_counted_from_the_last_day_with_sales(transformed: Story) -> None:
    (household,) = [row for row in transformed.day_two["gold.customer_360"] if row["household_id"] == 1]
    assert household["recency_days"] == 0
    assert household["redemptions"] == 1
    assert household["tier"] in {"platinum", "gold", "silver", "bronze"}
