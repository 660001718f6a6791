"""A model must not learn from the future: features of a day do not change, whatever happens from that day on."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import cache

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.dbt_project.built_warehouse import Rows, Warehouse
from tests.nightly import nightly

pytestmark = pytest.mark.xdist_group("recomputed")

# Days with sales, and with sales the day before: features reach to the day after the last sales, and no further.
DAYS = """
    select day.sold_on
    from gold.agg_daily_sales as day
    inner join gold.agg_daily_sales as before on day.sold_on = before.sold_on + 1
    where day.baskets > 0 and before.baskets > 0 and day.is_complete
    order by 1
"""
# What is to be predicted, and whether it has happened.
NOT_FEATURES = {"sales_value", "is_to_predict"}

REMOVED = "delete from known_sales where sold_on >= %(day)s"
CHANGED = """
    with changed as (
        update known_sales set sales_value = sales_value * 1000 + 7, department = department || case
            when sold_on > %(day)s then ' renamed' else '' end
        where sold_on >= %(day)s
    )
    insert into known_sales select %(day)s, 'Unheard of', true, 1, 5, 0, now(), 99
"""


def features(real: Warehouse, change: str, day: date, leak: Callable[[str], str] = lambda sql: sql) -> Rows:
    """The features of a day, by the model's own SQL, after a change of the sales known."""
    database = real.database
    sales = f'"{database.name}"."gold"."agg_daily_department_sales"'
    compiled = real.compiled("forecast_features")
    assert sales in compiled
    query = leak(compiled).replace(sales, "known_sales")
    with psycopg.connect(database.url("transformer"), row_factory=dict_row) as connection:
        connection.execute("create temporary table known_sales as select * from gold.agg_daily_department_sales")
        connection.execute(change.encode(), {"day": day})
        rows: Rows = connection.execute(
            f"select * from ({query}) as features where date_day = %s order by department".encode(), [day]
        ).fetchall()
        connection.rollback()
    return [{name: value for name, value in row.items() if name not in NOT_FEATURES} for row in rows]


@pytest.fixture(scope="module")
def as_known(real: Warehouse) -> Callable[[date], Rows]:
    """The features of a day as they are, computed once."""
    return cache(lambda day: features(real, "select %(day)s", day))


@pytest.mark.parametrize("every", [60, *nightly(25)])
@pytest.mark.parametrize("change", [REMOVED, CHANGED], ids=["removed", "changed"])
def test_features_do_not_change_with_what_comes_after(
    real: Warehouse, as_known: Callable[[date], Rows], change: str, every: int
) -> None:
    compared = 0
    days = [row["sold_on"] for row in real.rows(DAYS)][::every]
    for day in days:
        assert features(real, change, day) == as_known(day), day
        compared += len(as_known(day))
    assert len(days) >= 5
    assert compared > len(days)


def test_a_window_that_takes_in_its_own_day_is_found_out(real: Warehouse) -> None:
    """Else the test above might compare nothing."""

    def leaking(sql: str) -> str:
        assert "rows between 7 preceding and 1 preceding" in sql
        return sql.replace("rows between 7 preceding and 1 preceding", "rows between 6 preceding and current row")

    day = real.rows(DAYS)[-1]["sold_on"]
    as_known = features(real, "select %(day)s", day, leaking)
    assert as_known
    assert features(real, CHANGED, day, leaking) != as_known


def test_the_day_after_the_last_complete_one_is_the_one_to_predict(real: Warehouse) -> None:
    rows = real.rows("select date_day, is_to_predict, sales_value from gold.forecast_features")
    last = real.value("select max(sold_on) from gold.agg_daily_sales where is_complete")
    assert last < real.value("select max(sold_on) from gold.agg_daily_sales")
    assert {row["date_day"] for row in rows if row["is_to_predict"]} == {last + timedelta(days=1)}
    assert all((row["sales_value"] is None) == row["is_to_predict"] for row in rows)
