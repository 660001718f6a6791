"""fct_promotions on the three days: none kept, then half a year of them, then late, withdrawn and new ones."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import psycopg
import pytest

from tests.conftest import copy_of
from tests.dbt_project.built_warehouse import PROJECT, Rows, Story, Warehouse

pytestmark = pytest.mark.xdist_group("dbt")

PARTITIONS = """
    select partition.relname as name, pg_get_expr(partition.relpartbound, partition.oid) as bounds
    from pg_inherits
    inner join pg_class as partition on inhrelid = partition.oid
    where inhparent = 'gold.fct_promotions'::regclass
    order by 1
"""


def placement(rows: Rows, number: int) -> dict[str, object]:
    (found,) = [row for row in rows if row["promotion_id"] == number]
    return found


def test_a_shop_without_promotions_has_an_empty_table_and_no_partition(transformed: Story) -> None:
    assert transformed.day_one["gold.fct_promotions"] == []
    assert len(transformed.day_two["gold.fct_promotions"]) == 26 * 6


def test_each_month_has_a_partition_and_one_whose_rows_are_gone_has_none(transformed: Story) -> None:
    """June was withdrawn as a whole, and July is new."""
    found = transformed.warehouse.rows(PARTITIONS)
    assert [row["name"] for row in found] == [
        f"fct_promotions_p2017{month:02}01" for month in (1, 2, 3, 4, 5, 7)
    ]  # fmt: skip
    assert found[-1]["bounds"] == "FOR VALUES FROM ('2017-07-01') TO ('2017-08-01')"


def test_late_corrected_and_withdrawn_placements_arrive_by_partition(transformed: Story) -> None:
    before, after = transformed.day_two["gold.fct_promotions"], transformed.day_three["gold.fct_promotions"]
    assert placement(before, 190)["display_location"] == "0"
    assert placement(after, 190)["display_location"] == "7"
    assert {row["promotion_id"] for row in after} - {row["promotion_id"] for row in before} == {9000}
    assert not [row for row in after if date(2017, 6, 1) <= row["week_starts_on"] <= date(2017, 6, 30)]


def test_a_placement_of_an_unknown_product_finds_it_when_it_arrives(transformed: Story) -> None:
    unknown = transformed.warehouse.value("select product_key from gold.dim_product where product_id = -1")
    steak = transformed.warehouse.value("select product_key from gold.dim_product where product_id = 77777")
    assert placement(transformed.day_two["gold.fct_promotions"], 180)["product_key"] == unknown
    assert placement(transformed.day_three["gold.fct_promotions"], 180)["product_key"] == steak


def test_a_full_refresh_holds_what_the_increments_held(transformed: Story) -> None:
    assert transformed.day_three["gold.fct_promotions"] == transformed.refreshed["gold.fct_promotions"]


def test_every_partition_has_the_index_and_the_constraints_of_the_table(transformed: Story) -> None:
    """Also those that were swapped: what is attached without an index would be locked while it gets one."""
    lacking = transformed.warehouse.rows("""
        select partition.relname
        from pg_inherits
        inner join pg_class as partition on inhrelid = partition.oid
        where
            inhparent = 'gold.fct_promotions'::regclass
            and (
                (select count(*) from pg_index where indrelid = partition.oid and indisunique and indisvalid) <> 1
                or exists (
                    select from pg_attribute where attrelid = partition.oid and attnum > 0 and not attnotnull
                )
            )
    """)
    assert lacking == []


def test_a_filter_on_the_week_reads_one_partition(transformed: Story) -> None:
    plan = transformed.warehouse.rows("explain select * from gold.fct_promotions where week_starts_on = '2017-05-07'")
    text = "\n".join(str(row["QUERY PLAN"]) for row in plan)
    assert "fct_promotions_p20170501" in text
    assert "fct_promotions_p20170401" not in text


def test_what_changed_before_the_late_data_is_left_alone_and_reported(transformed: Story) -> None:
    """The price of a window: January is not read again. The build says so, and a full refresh mends it."""
    with copy_of(transformed.warehouse.database) as database:
        warehouse = Warehouse(database, transformed.warehouse.target.with_name("partitions"))
        with psycopg.connect(database.url("loader")) as connection:
            connection.execute(
                "update raw_shop.promotions set display_location = '9', _batch_id = 4 where promotion_id = 2"
            )
        build = warehouse.build("--select", "fct_promotions")
        assert build.statuses["fct_promotions"] == "success", build.output
        assert build.of("fct_promotions_partitions_hold") == {"fail"}
        query = "select display_location from gold.fct_promotions where promotion_id = 2"
        assert warehouse.value(query) == "0"
        refreshed = warehouse.build("--select", "fct_promotions", "--full-refresh")
        assert refreshed.exit_code == 0, refreshed.output
        assert warehouse.value(query) == "9"


def test_a_day_in_the_future_stops_no_correction_of_today(transformed: Story) -> None:
    """Late data counts from the newest partition that has begun, not from a plan or a typing error of the future."""
    with copy_of(transformed.warehouse.database) as database:
        warehouse = Warehouse(database, transformed.warehouse.target.with_name("future"))

        def change(statement: str) -> None:
            with psycopg.connect(database.url("loader")) as connection:
                connection.execute(statement.encode())

        def place(number: int, week: str) -> None:
            change(
                "insert into raw_shop.promotions select (jsonb_populate_record(p, jsonb_build_object("
                f"'promotion_id', {number}, 'week_starts_on', '{week}'))).* from raw_shop.promotions as p limit 1"
            )

        place(9001, "2099-01-04")
        place(9002, "9999-12-26")
        assert warehouse.dbt("run", "--select", "fct_promotions").exit_code == 0
        assert len(warehouse.rows("select from gold.fct_promotions where promotion_id in (9001, 9002)")) == 2
        change("update raw_shop.promotions set display_location = '8' where promotion_id in (9000, 9001)")
        assert warehouse.dbt("run", "--select", "fct_promotions").exit_code == 0
        changed = "select distinct display_location from gold.fct_promotions where promotion_id in (9000, 9001)"
        assert warehouse.value(changed) == "8"

        place(9003, "infinity")
        before = warehouse.rows("select * from gold.fct_promotions order by promotion_id")
        build = warehouse.dbt("run", "--select", "fct_promotions")
        assert build.statuses["fct_promotions"] == "error"
        assert "week_starts_on is 'infinity', for which there is no partition" in build.output
        assert warehouse.rows("select * from gold.fct_promotions order by promotion_id") == before


def test_a_model_that_would_harm_its_partitions_is_refused(transformed: Story, tmp_path: Path) -> None:
    """Replacing January by the few rows of it that a run selects would lose the others."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models/gold/fct_promotions.sql"
    text = model.read_text()
    unfiltered = text.replace("where week_starts_on >= {{ late_data_from() }}", "where promotion_id < 10")
    assert unfiltered != text
    model.write_text(unfiltered)
    (project / "models/gold/fct_fortnights.sql").write_text(
        "{{ config(materialized='partitioned', partition_by={'column': 'day', 'every': 'fortnight'}, "
        "contract={'enforced': false}) }} select current_date as day"
    )
    with copy_of(transformed.warehouse.database) as database:
        warehouse = replace(transformed.warehouse, database=database, target=tmp_path / "target", project=project)
        before = warehouse.rows("select * from gold.fct_promotions order by promotion_id")
        build = warehouse.dbt("run", "--select", "fct_promotions", "fct_fortnights")
        statuses = {name: build.statuses[name] for name in ("fct_promotions", "fct_fortnights")}
        assert statuses == {"fct_promotions": "error", "fct_fortnights": "error"}
        assert "6 rows lie outside the partitions that this run replaces" in build.output
        assert "needs an enforced contract" in build.output
        assert "not 'fortnight'; partition_by needs late_data" in build.output
        assert warehouse.rows("select * from gold.fct_promotions order by promotion_id") == before
