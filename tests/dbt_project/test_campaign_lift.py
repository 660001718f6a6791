"""Where no campaign ran, none may seem to have worked: the model's own SQL on windows before a year's campaigns."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.dbt_project.built_warehouse import Rows, Warehouse
from tests.dbt_project.recomputed import Dataset

pytestmark = pytest.mark.xdist_group("recomputed")

# Windows of the campaign's length that end when it begins, when that window begins, and so on.
PLACEBOS = 6

TABLES = """
    create temporary table baskets (household_id bigint, sold_on date, sales_value numeric(12, 2));
    create temporary table as_of (last_complete_day date);
    create temporary table campaigns (campaign_id bigint, starts_on date, ends_on date);
    create temporary table targets (campaign_id bigint, household_id bigint);
"""
RELATIONS = {
    '"gold"."fct_baskets"': "baskets",
    '"silver"."sales_as_of"': "as_of",
    '"gold"."dim_campaign"': "campaigns",
    '"silver"."campaign_target"': "targets",
}
CLAIMED = f"""
select
    count(*) as windows,
    avg((abs(campaign.lift) > 1.96 * campaign.standard_error)::integer)::float as differing,
    avg((
        abs(campaign.lift) > 1.96 * campaign.standard_error
        and coalesce(abs(pre_trend.lift) <= 1.96 * pre_trend.standard_error, false)
    )::integer)::float as claimed
from estimates as campaign
left join estimates as pre_trend
    on campaign.campaign_id = pre_trend.campaign_id and campaign.shift + 1 = pre_trend.shift
where campaign.shift between 1 and {PLACEBOS} and campaign.targeted >= 20
"""


@pytest.fixture(scope="module")
def year(real: Warehouse) -> Iterator[Callable[..., Rows]]:
    """Runs the model's estimates, changed or not, over all households of the dataset."""
    dataset = Dataset()
    compiled = real.compiled("agg_campaign_lift")
    for relation, table in RELATIONS.items():
        assert relation in compiled
        compiled = compiled.replace(f'"{real.database.name}".{relation}', table)
    estimates, rest = compiled.split("-- Campaigns as columns")
    assert rest
    with psycopg.connect(real.database.url("transformer"), row_factory=dict_row) as connection:
        connection.execute(TABLES)

        def fill(table: str, rows: Any) -> None:
            with connection.cursor().copy(f"copy {table} from stdin".encode()) as copy:
                for row in rows:
                    copy.write_row(row)

        baskets = dataset.fct_baskets
        fill("baskets", zip(baskets["household_id"], baskets["sold_on"], baskets["sales_value"] / 100, strict=True))
        fill("as_of", [(dataset.last_complete_day,)])
        fill("campaigns", dataset.campaigns[["starts_on", "ends_on"]].itertuples())
        fill("targets", dataset.targets.itertuples(index=False))
        connection.execute("analyze baskets; analyze campaigns; analyze targets")

        def run(query: str, *changes: tuple[str, str]) -> Rows:
            sql = estimates
            for before, after in changes:
                assert before in sql
                sql = sql.replace(before, after)
            return connection.execute((sql.rstrip().removesuffix(",") + query).encode()).fetchall()

        yield run


BEFORE_CAMPAIGNS = ("generate_series(0, 1)", f"generate_series(1, {PLACEBOS + 1})")


def test_a_window_without_a_campaign_is_seldom_significant(year: Callable[..., Rows]) -> None:
    (found,) = year(CLAIMED, BEFORE_CAMPAIGNS)
    assert found["windows"] >= 40
    assert found["differing"] <= 0.06
    assert found["claimed"] <= 0.03


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("array[0.2, 0.4, 0.6, 0.8]", "array[0.0]"), id="spending is not matched"),
        pytest.param(("targets.household_id is not null or exposed.household_id is null", "true"), id="others count"),
    ],
)
def test_what_makes_it_honest_is_needed(year: Callable[..., Rows], change: tuple[str, str]) -> None:
    """Else the test above might find nothing significant because nothing can be."""
    (found,) = year(CLAIMED, BEFORE_CAMPAIGNS, change)
    assert found["differing"] > 0.2


def test_the_estimates_of_a_year_are_those_of_pandas(year: Callable[..., Rows]) -> None:
    dataset = Dataset()
    rows = year("select * from estimates where shift = 0")
    assert len(rows) >= 15
    for row in rows:
        told = dataset.campaigns.loc[row["campaign_id"]]
        until = min(told["ends_on"], dataset.last_complete_day)
        expected = dataset.lift_of(row["campaign_id"], told["starts_on"].toordinal(), until.toordinal())
        assert expected is not None
        assert (row["targeted"], row["untargeted"]) == (expected["targeted_measured"], expected["untargeted_measured"])
        assert float(row["lift"]) * 100 == pytest.approx(expected["lift_per_household"])
        assert float(row["standard_error"]) * 100 == pytest.approx(expected["standard_error"])
