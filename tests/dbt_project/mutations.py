"""Mistakes that people make in models, and the proof that the suite sees each.

`python -m tests.dbt_project.mutations` makes each in a copy of the project, runs the unit tests of its model, and
writes mutations.json: what caught it. The default suite makes one mistake in every model, and asks that the file is
of today's list. Mistakes in different models are made at once, since a unit test sees no model but its own.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.conftest import ROOT
from tests.dbt_project.built_warehouse import Warehouse

RESULTS = Path(__file__).with_suffix(".json")
ALL = "ALL_MUTATIONS"


@dataclass(frozen=True)
class Mutation:
    """`find` becomes `replace` in a file of dbt_project; it must be seen by a unit test of one of `models`."""

    name: str
    file: str
    find: str
    replace: str
    models: tuple[str, ...]


def _gold(model: str, name: str, find: str, replace: str) -> Mutation:
    return Mutation(name, f"models/gold/{model}.sql", find, replace, (model,))


def _versions(name: str, find: str, replace: str) -> Mutation:
    return Mutation(name, "macros/version_intervals.sql", find, replace, ("dim_household", "dim_product"))


MUTATIONS = (
    _versions("the platform's order of learning is ignored", "_batch_id, dbt_is_deleted", "dbt_is_deleted"),
    _versions(
        "a backdated correction begins where what it corrects began",
        "min(dbt_valid_from) over (learned rows between current row and unbounded following)",
        "max(dbt_valid_from) over (learned rows between unbounded preceding and current row)",
    ),
    _gold("dim_date", "the fiscal year ends on a Saturday too early", "1 month 2 days", "1 month 1 day"),
    _gold("dim_date", "the second month of a quarter has four weeks", "week_of_quarter <= 9", "week_of_quarter <= 8"),
    _gold(
        "dim_campaign",
        "targets are counted once per coupon",
        "left join coupons on",
        "left join {{ ref('coupon') }} as listed on campaigns.campaign_id = listed.campaign_id\nleft join coupons on",
    ),
    _gold("fct_basket_lines", "a line of an unknown product is lost", "left join products", "inner join products"),
    _gold(
        "fct_basket_lines",
        "the moment a version expires belongs to it",
        "baskets.sold_at < households.expires_at",
        "baskets.sold_at <= households.expires_at",
    ),
    _gold(
        "fct_basket_lines",
        "a version that turned up late does not repoint",
        "                and held.household_key = versioned.household_key\n",
        "",
    ),
    _gold(
        "fct_basket_lines",
        "the matched coupon is not part of the shelf's price",
        " + basket_lines.coupon_match_discount\n",
        "\n",
    ),
    _gold("fct_baskets", "the shelf's value is that of the sale", "sum(shelf_value)", "sum(sales_value)"),
    _gold(
        "fct_baskets",
        "versions of a household are joined by all",
        "on baskets.household_key = households.household_key",
        "on true",
    ),
    _gold(
        "fct_redemptions", "a redemption of an unknown campaign is lost", "left join campaigns", "inner join campaigns"
    ),
    _gold(
        "fct_redemptions",
        "the version is taken an hour after noon",
        "'12:00+00' >= households.effective_at",
        "'13:00+00' >= households.effective_at",
    ),
    _gold(
        "fct_redemptions",
        "the first day of a campaign is its day 1",
        "redemptions.redeemed_on - campaigns.starts_on as",
        "redemptions.redeemed_on - campaigns.starts_on + 1 as",
    ),
    _gold("fct_promotions", "a placement of an unknown product is lost", "left join products", "inner join products"),
    _gold(
        "fct_promotions",
        "a version counts for the week before it too",
        "at time zone coalesce(stores.time_zone, 'UTC') >= products.effective_at",
        "at time zone coalesce(stores.time_zone, 'UTC') > products.effective_at",
    ),
    _gold("agg_daily_sales", "a week has eight days", "rows between 6 preceding", "rows between 7 preceding"),
    _gold(
        "agg_daily_sales",
        "a day that goes on is compared",
        "when is_complete then (sales_value - sales_same_weekday_before)",
        "when true then (sales_value - sales_same_weekday_before)",
    ),
    _gold("agg_daily_sales", "days without sales are left out", "left join sales", "inner join sales"),
    _gold("agg_daily_sales", "who buys twice is two", "count(distinct household_id)", "count(household_id)"),
    _gold(
        "agg_daily_department_sales",
        "the discount is the whole price",
        "sum(basket_lines.shelf_value - basket_lines.sales_value)",
        "sum(basket_lines.shelf_value)",
    ),
    _gold(
        "agg_weekly_sales",
        "a week is held against itself",
        "compared.first_day = year_before.first_day + 364",
        "compared.first_day = year_before.first_day",
    ),
    _gold(
        "agg_weekly_sales",
        "who buys twice a week is two",
        "count(distinct baskets.household_id)",
        "count(baskets.household_id)",
    ),
    _gold(
        "agg_fiscal_month_sales",
        "a year has eleven months",
        "lag(case when is_complete then sales_value end, 12)",
        "lag(case when is_complete then sales_value end, 11)",
    ),
    _gold(
        "agg_fiscal_month_sales",
        "four weeks are compared with five",
        "lag(case when is_complete then sales_per_week end) over by_month",
        "lag(case when is_complete then sales_value end) over by_month",
    ),
    _gold(
        "agg_fiscal_month_sales",
        "months without sales are left out",
        "left join department_sales",
        "inner join department_sales",
    ),
    _gold(
        "agg_product_affinity",
        "lines are counted, not baskets",
        "select distinct\n        basket_lines",
        "select\n        basket_lines",
    ),
    _gold(
        "agg_product_affinity",
        "the window takes in a day more",
        "where basket_lines.sold_on > as_of.day",
        "where basket_lines.sold_on >= as_of.day",
    ),
    _gold(
        "agg_campaign_lift",
        "the first day of a campaign counts as before it",
        "width_bucket(spending.sold_on, thresholds.bound_days) + 1 as nth",
        "width_bucket(spending.sold_on - 1, thresholds.bound_days) + 1 as nth",
    ),
    _gold(
        "agg_campaign_lift",
        "who came just before it counts",
        "windows.starts_on - {{ least_baseline_days }} > spent.first_purchase_on",
        "windows.starts_on > spent.first_purchase_on",
    ),
    _gold(
        "agg_campaign_lift",
        "whom another campaign addressed is compared with",
        "where targets.household_id is not null or exposed.household_id is null",
        "where true",
    ),
    _gold(
        "agg_campaign_lift",
        "a lift that began before the campaign is claimed",
        "coalesce(tested.has_parallel_trend and abs",
        "coalesce(abs",
    ),
    _gold(
        "forecast_features",
        "a window takes in the day it is to predict",
        "rows between 7 preceding and 1 preceding",
        "rows between 6 preceding and current row",
    ),
    _gold(
        "forecast_features",
        "a row tells of a department before anybody could",
        "windowed.date_day > windowed.first_sold_on",
        "windowed.date_day >= windowed.first_sold_on",
    ),
    _gold(
        "customer_360",
        "who bought on a day that goes on comes from the future",
        "greatest(as_of.day - purchases.last_purchase_on, 0) end",
        "as_of.day - purchases.last_purchase_on end",
    ),
    _gold("customer_360", "one in two is platinum", "ranked.share_above < 0.05", "ranked.share_above < 0.55"),
    _gold("customer_360", "any model's score is taken for churn", "where model = 'churn'", "where model <> ''"),
    _gold("customer_360", "who stays away is worth more", "* least(", "* greatest("),
)


def rounds(mutations: Sequence[Mutation]) -> Iterator[list[Mutation]]:
    """The mutations in as few rounds as it takes for each round to have one a model."""
    left = list(mutations)
    while left:
        chosen: list[Mutation] = []
        for mutation in left:
            if not {model for one in chosen for model in one.models} & set(mutation.models):
                chosen.append(mutation)
        yield chosen
        left = [mutation for mutation in left if mutation not in chosen]


def catch(warehouse: Warehouse, chosen: Sequence[Mutation], folder: Path) -> dict[str, list[str]]:
    """Make the mistakes in a copy of the project and run the unit tests of their models: by name, what caught it."""
    project = folder / "project"
    shutil.copytree(ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
    for mutation in chosen:
        mutate(project / mutation.file, mutation)
    models = {model for mutation in chosen for model in mutation.models}
    mutated = replace(warehouse, project=project, target=folder / "target")
    tested = mutated.dbt("test", "--select", *(f"test_type:unit,{model}" for model in sorted(models)))
    caught: dict[str, list[str]] = {mutation.name: [] for mutation in chosen}
    for test, status in tested.statuses.items():
        model, _, name = test.partition(".")
        for mutation in chosen:
            if model in mutation.models and status in {"fail", "error"}:
                caught[mutation.name].append(f"{model}: {name}")
    return {name: sorted(tests) for name, tests in caught.items()}


def mutate(path: Path, mutation: Mutation) -> None:
    """Make a mistake in a file.

    Raises ValueError when what is to be replaced is not there exactly once: the model has changed.
    """
    text = path.read_text()
    if text.count(mutation.find) != 1:
        raise ValueError(f"{mutation.name}: found {text.count(mutation.find)} times in {mutation.file}, not once")
    path.write_text(text.replace(mutation.find, mutation.replace))


def write_results(caught: dict[str, list[str]]) -> None:
    """Every mutation as it was made, and what caught it."""
    records = [asdict(mutation) | {"caught_by": caught[mutation.name]} for mutation in MUTATIONS]
    RESULTS.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    import pytest

    os.environ[ALL] = "1"
    sys.exit(
        pytest.main([str(Path(__file__).with_name("test_mutations.py")), "-q", "-n", "0", "-p", "no:cacheprovider"])
    )
