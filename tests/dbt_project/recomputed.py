"""Gold once more, by pandas from the dataset's files: no SQL, no dbt, and none of the code that loads the files.

`python -m benchmarks.transform` compares all of it; the test compares a slice. Money is counted in cents, as integers,
so that sums are exact. Every function gives the table's key as index and the columns it vouches for.
"""

from datetime import date, timedelta
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas

from demo.dataset import path_of
from demo.places import place_of_store
from tests.conftest import ROOT

# The stubs follow every union that an index might be; nothing would be found in them but themselves.
pd: Any = pandas
Frame = Any
Series = Any

AMOUNTS = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
# What a lift is measured against: days before, the least of them, and at most this much of the spread by chance.
BASELINE_DAYS, LEAST_BASELINE_DAYS, SIGNIFICANT = 182, 84, 1.96
AFFINITY_DAYS, AFFINITY_MINIMUM, AFFINITY_PARTNERS, EXPECTED_DAYS = 91, 10, 20, 91


def fiscal(days: Series) -> Frame:
    """Fiscal year, month and week of days, walked week by week from the year's first Sunday."""

    def first_day(year: int) -> date:
        """The Sunday after the Saturday nearest to 31 January."""
        end = date(year, 1, 31)
        return min((end + timedelta(offset) for offset in range(-3, 4)), key=lambda day: day.weekday() != 5) + (
            timedelta(days=1)
        )

    weeks_of_months = (4, 5, 4) * 4
    month_of_week = [month for month, weeks in enumerate(weeks_of_months, 1) for _ in range(weeks)] + [12]
    rows = []
    for day in days:
        year = day.year if day >= first_day(day.year) else day.year - 1
        week = (day - first_day(year)).days // 7 + 1
        rows.append((year, month_of_week[week - 1], week))
    return pd.DataFrame(rows, columns=["fiscal_year", "fiscal_month", "fiscal_week"], index=days.index)


class Dataset:
    """The files, cut to some households where asked for, and each table of gold computed from them."""

    def __init__(self, households: int | None = None, promotion_stores: tuple[int, ...] | None = None) -> None:
        self._households = households
        self._stores = promotion_stores

    @cached_property
    def lines(self) -> Frame:
        """One row per line, with the department and category of its product."""
        lines = pd.read_parquet(path_of("transactions"))
        if self._households is not None:
            lines = lines[lines["household_id"].astype(int) <= self._households]
        lines = lines.assign(
            household_id=lines["household_id"].astype(int),
            sold_on=local_days(lines["transaction_timestamp"], lines["store_id"]),
            **{amount: (lines[amount] * 100).round().astype("int64") for amount in AMOUNTS},
        )
        shelf = lines["sales_value"] + lines["retail_disc"] + lines["coupon_match_disc"]
        return (
            lines.assign(shelf_value=shelf)
            .merge(self.products, on="product_id", how="left")
            .assign(
                department=lambda rows: rows["department"].fillna("Unknown"),
                product_category=lambda rows: rows["product_category"].fillna("Unknown"),
            )
        )

    @cached_property
    def last_complete_day(self) -> date:
        """The last day that was over in every store when the last line was sold."""
        lines = pd.read_parquet(path_of("transactions"))
        if self._households is not None:
            lines = lines[lines["household_id"].astype(int) <= self._households]
        newest = pd.Timestamp(lines["transaction_timestamp"].max(), tz="UTC")
        zones = {zone_of(int(store)) for store in lines["store_id"].unique()}
        days: list[date] = [newest.tz_convert(zone).date() for zone in zones]
        return min(days) - timedelta(days=1)

    @cached_property
    def products(self) -> Frame:
        names = pd.read_csv(ROOT / "dbt_project/seeds/departments.csv").set_index("department")["department_name"]
        products = pd.read_parquet(path_of("products"))[["product_id", "department", "product_category"]]
        known = products["department"].str.strip().str.upper().map(names)
        return products.assign(department=known.fillna(products["department"].str.title()))

    @cached_property
    def campaigns(self) -> Frame:
        campaigns = pd.read_parquet(path_of("campaign_descriptions")).set_index("campaign_id")
        campaigns = campaigns.assign(starts_on=campaigns["start_date"].dt.date, ends_on=campaigns["end_date"].dt.date)
        campaigns.loc[23, "ends_on"] = date(2018, 2, 18)  # the API's one correction: it was extended
        return campaigns.assign(households_targeted=self.targets.groupby("campaign_id").size())

    @cached_property
    def targets(self) -> Frame:
        return pd.read_parquet(path_of("campaigns"))[["campaign_id", "household_id"]].astype(int)

    @cached_property
    def redemptions(self) -> Frame:
        """Those of households that are known."""
        redemptions = pd.read_parquet(path_of("coupon_redemptions"))
        redemptions = redemptions.assign(household_id=redemptions["household_id"].astype(int))
        return redemptions[redemptions["household_id"].isin(self.lines["household_id"].unique())]

    @cached_property
    def fct_baskets(self) -> Frame:
        grouped = self.lines.groupby("basket_id")
        return grouped.agg(
            household_id=("household_id", "first"),
            store_id=("store_id", "first"),
            sold_on=("sold_on", "first"),
            basket_lines=("product_id", "size"),
            sales_value=("sales_value", "sum"),
            shelf_value=("shelf_value", "sum"),
            coupon_discount=("coupon_disc", "sum"),
        )

    @cached_property
    def calendar(self) -> Series:
        """Every day from the first with sales to the last."""
        days = self.lines["sold_on"]
        return pd.Series(pd.date_range(days.min(), days.max()).date)

    @cached_property
    def agg_daily_sales(self) -> Frame:
        grouped = self.fct_baskets.groupby("sold_on")
        days = grouped.agg(
            basket_lines=("basket_lines", "sum"),
            baskets=("household_id", "size"),
            households=("household_id", "nunique"),
            sales_value=("sales_value", "sum"),
            shelf_value=("shelf_value", "sum"),
            coupon_discount=("coupon_discount", "sum"),
        ).reindex(self.calendar.to_list(), fill_value=0)
        sales = days["sales_value"]
        complete = pd.Series([day <= self.last_complete_day for day in days.index], index=days.index)
        whole = sales.where(complete)
        year = fiscal(self.calendar).set_index(days.index)
        return (
            days.drop(columns="shelf_value")
            .assign(
                shop_discount=days["shelf_value"] - sales,
                sales_to_date=sales.cumsum(),
                sales_fiscal_year_to_date=sales.groupby(year["fiscal_year"].to_numpy()).cumsum(),
                is_complete=complete,
                sales_7_day_average=whole.rolling(7).mean(),
                sales_28_day_average=whole.rolling(28).mean(),
                sales_same_weekday_before=sales.shift(7),
                change_on_same_weekday=(whole / sales.shift(7).replace(0, np.nan) - 1),
                sales_year_before=sales.shift(364),
                fiscal_year=year["fiscal_year"],
                fiscal_week=year["fiscal_week"],
            )
            .rename_axis("sold_on")
        )

    @cached_property
    def agg_weekly_sales(self) -> Frame:
        keys = ["fiscal_year", "fiscal_week"]
        baskets = self.fct_baskets.join(fiscal(self.fct_baskets["sold_on"]))
        weeks = self.agg_daily_sales.groupby(keys).agg(
            days=("sales_value", "size"),
            is_complete=("is_complete", "all"),
            basket_lines=("basket_lines", "sum"),
            baskets=("baskets", "sum"),
            sales_value=("sales_value", "sum"),
            shop_discount=("shop_discount", "sum"),
            coupon_discount=("coupon_discount", "sum"),
        )
        complete = weeks["is_complete"] & (weeks["days"] == 7)
        sales, whole = weeks["sales_value"], weeks["sales_value"].where(complete)
        return weeks.assign(
            households=baskets.groupby(keys)["household_id"].nunique().reindex(weeks.index, fill_value=0),
            is_complete=complete,
            average_basket=sales / weeks["baskets"].replace(0, np.nan),
            sales_fiscal_year_to_date=sales.groupby("fiscal_year").cumsum(),
            sales_4_week_average=whole.rolling(4).mean(),
            sales_week_before=whole.shift(1),
            change_on_week_before=whole / whole.shift(1).replace(0, np.nan) - 1,
        )

    @cached_property
    def agg_daily_department_sales(self) -> Frame:
        grouped = self.lines.groupby(["sold_on", "department"])
        sales = grouped.agg(basket_lines=("product_id", "size"), sales_value=("sales_value", "sum"))
        return sales.assign(
            is_complete=[day <= self.last_complete_day for day, _ in sales.index],
            shop_discount=grouped["shelf_value"].sum() - sales["sales_value"],
        )

    @cached_property
    def agg_fiscal_month_sales(self) -> Frame:
        daily = self.agg_daily_department_sales.reset_index()
        keys = ["fiscal_year", "fiscal_month"]
        daily = daily.join(fiscal(daily["sold_on"]))
        months = daily.pivot_table(index=keys, columns="department", values="sales_value", aggfunc="sum", fill_value=0)
        around = pd.Series(pd.date_range(date(2016, 1, 31), date(2019, 1, 31)).date)
        known = {day for day in self.calendar if day <= self.last_complete_day}
        parts = around.isin(known).groupby([fiscal(around)[key] for key in keys])
        whole = months.where(parts.all().reindex(months.index), axis=0)
        per_week = whole.div((parts.size() / 7).reindex(months.index), axis=0)
        before = per_week.shift(1)
        tables = {
            "sales_value": months,
            "rank_in_month": months.rank(axis=1, method="min", ascending=False),
            "share_of_month": months.div(months.sum(axis=1), axis=0),
            "sales_fiscal_year_to_date": months.groupby("fiscal_year").cumsum(),
            "sales_per_week": months.div((parts.size() / 7).reindex(months.index), axis=0),
            "sales_month_before": whole.shift(1),
            "change_on_month_before": per_week / before.replace(0, np.nan) - 1,
            "contribution_to_change": (per_week - before).div(before.sum(axis=1, min_count=1), axis=0),
        }
        stacked = {name: table.stack() for name, table in tables.items()}
        return pd.DataFrame(stacked)

    @cached_property
    def customer_360(self) -> Frame:
        baskets = self.fct_baskets
        as_of = self.last_complete_day
        told = baskets.groupby("household_id").agg(
            first_purchase_on=("sold_on", "min"),
            last_purchase_on=("sold_on", "max"),
            baskets=("sold_on", "size"),
            sales_value=("sales_value", "sum"),
            shelf_value=("shelf_value", "sum"),
        )
        buyers = len(told)

        def share_below(values: Series) -> Series:
            return (values.rank(method="min") - 1) / max(buyers - 1, 1)

        def score(values: Series) -> Series:
            return np.minimum(np.floor(share_below(values) * 5 + 1e-12).astype(int) + 1, 5)

        above = share_below(-told["sales_value"])
        days = pd.Series([max((as_of - day).days + 1, 28) for day in told["first_purchase_on"]], index=told.index)
        recency = pd.Series([max((as_of - day).days, 0) for day in told["last_purchase_on"]], index=told.index)
        gap = days / told["baskets"]
        categories = self.lines[self.lines["product_category"] != "Unknown"]
        spent = categories.groupby(["household_id", "product_category"])["sales_value"].sum().reset_index()
        spent = spent.sort_values(["sales_value", "product_category"], ascending=[False, True])
        answered = self.redemptions.groupby("household_id")
        addressed = self.targets.groupby("household_id").size()
        scores = {
            "recency_score": score(told["last_purchase_on"].map(lambda day: min(day, as_of).toordinal())),
            "frequency_score": score(told["baskets"]),
            "value_score": score(told["sales_value"]),
        }
        return told.drop(columns="shelf_value").assign(
            recency_days=recency,
            tenure_days=[
                (last - first).days
                for first, last in zip(told["first_purchase_on"], told["last_purchase_on"], strict=True)
            ],
            average_basket=told["sales_value"] / told["baskets"],
            discount_share=1 - told["sales_value"] / told["shelf_value"].replace(0, np.nan),
            sales_rank=told["sales_value"].rank(method="min", ascending=False),
            sales_percentile=1 - above,
            **scores,
            tier=np.select([above < 0.05, above < 0.20, above < 0.50], ["platinum", "gold", "silver"], "bronze"),
            expected_sales=told["sales_value"]
            / days
            * EXPECTED_DAYS
            * np.minimum(1, 3 * gap / recency.replace(0, np.nan)).fillna(1),
            favourite_category=spent.drop_duplicates("household_id").set_index("household_id")["product_category"],
            redemptions=answered.size().reindex(told.index, fill_value=0),
            campaigns_answered=answered["campaign_id"].nunique().reindex(told.index, fill_value=0),
            campaigns_addressed=addressed.reindex(told.index, fill_value=0),
        )

    @cached_property
    def agg_campaign_lift(self) -> Frame:
        rows = []
        for campaign, told in self.campaigns.iterrows():
            start, until = told["starts_on"].toordinal(), min(told["ends_on"], self.last_complete_day).toordinal()
            days = until - start + 1
            answers = self.redemptions[self.redemptions["campaign_id"] == campaign]["household_id"]
            lift, before = self.lift_of(campaign, start, until), self.lift_of(campaign, start - days, start - 1)
            row: dict[str, Any] = {
                "campaign_id": campaign,
                "measured_days": days,
                "redemptions": len(answers),
                "responding_households": answers[answers.isin(self._addressed(campaign))].nunique(),
                "is_measurable": lift is not None,
                "has_parallel_trend": False,
                "is_significant": False,
            }
            if lift is not None:
                row |= lift | {"incremental_sales": lift["lift_per_household"] * lift["targeted_measured"]}
                if before is not None:
                    claimed = abs(before["lift_per_household"]) <= SIGNIFICANT * before["standard_error"]
                    row |= {
                        "pre_trend_per_household": before["lift_per_household"],
                        "pre_trend_error": before["standard_error"],
                        "has_parallel_trend": claimed,
                        "is_significant": claimed
                        and abs(lift["lift_per_household"]) > SIGNIFICANT * lift["standard_error"],
                    }
            rows.append(row)
        return pd.DataFrame(rows).set_index("campaign_id")

    def lift_of(self, campaign: int, start: int, until: int) -> dict[str, Any] | None:
        """The lift of a campaign's households between two days, by their ordinals; None if it cannot be measured."""
        bought = self.fct_baskets["sold_on"].map(date.toordinal).to_numpy()
        first = self.fct_baskets.groupby("household_id")["sold_on"].min().map(date.toordinal)
        days, known = until - start + 1, min(BASELINE_DAYS, start - bought.min())
        if days < 7 or known < LEAST_BASELINE_DAYS:
            return None
        members = first.index[first < start - LEAST_BASELINE_DAYS]
        addressed = members.isin(self._addressed(campaign))
        meanwhile = [
            other
            for other, told in self.campaigns.iterrows()
            if other != campaign
            and told["starts_on"].toordinal() <= until
            and min(told["ends_on"], self.last_complete_day).toordinal() >= start - days
        ]
        exposed = members.isin(self.targets.loc[self.targets["campaign_id"].isin(meanwhile), "household_id"])
        before = self._spent(members, (bought >= start - known) & (bought < start)) * days / known
        during = self._spent(members, (bought >= start) & (bought <= until))
        if not addressed.any():
            return None
        bounds = np.quantile(before[addressed], [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")
        fifth = np.searchsorted(bounds, before, side="right")
        parts = []
        for nth in range(5):
            mine, others = addressed & (fifth == nth), ~addressed & ~exposed & (fifth == nth)
            if mine.sum() >= 2 and others.sum() >= 2:
                change, other = (during - before)[mine], (during - before)[others]
                error = change.var(ddof=1) / len(change) + other.var(ddof=1) / len(other)
                means = [values.mean() for group in (mine, others) for values in (before[group], during[group])]
                parts.append((mine.sum(), others.sum(), *means, error))
        if not parts:
            return None
        weights, compared, *means, errors = (np.array(values, dtype=float) for values in zip(*parts, strict=True))
        mean = [float((values * weights).sum() / weights.sum()) for values in means]
        return {
            "targeted_measured": int(weights.sum()),
            "untargeted_measured": int(compared.sum()),
            "targeted_before": mean[0],
            "targeted_during": mean[1],
            "untargeted_before": mean[2],
            "untargeted_during": mean[3],
            "lift_per_household": mean[1] - mean[0] - (mean[3] - mean[2]),
            "standard_error": float(np.sqrt((weights**2 * errors).sum()) / weights.sum()),
        }

    def _addressed(self, campaign: int) -> Series:
        return self.targets.loc[self.targets["campaign_id"] == campaign, "household_id"]

    def _spent(self, households: Any, chosen: Any) -> Any:
        """Cents per household in the chosen baskets, 0 for those that bought nothing."""
        spent = self.fct_baskets[chosen].groupby("household_id")["sales_value"].sum()
        return spent.reindex(households, fill_value=0).to_numpy()

    @cached_property
    def agg_product_affinity(self) -> Frame:
        since = self.lines["sold_on"].max() - timedelta(days=AFFINITY_DAYS)
        recent = self.lines[self.lines["sold_on"] > since]
        everything = recent["basket_id"].nunique()
        held = pd.crosstab(recent["basket_id"], recent["product_category"]).drop(columns="Unknown", errors="ignore")
        there = (held > 0).to_numpy().astype("int64")
        both = pd.DataFrame(there.T @ there, index=held.columns, columns=held.columns).rename_axis(
            index="product_category", columns="other_category"
        )
        pairs = both.stack().rename("baskets_with_both").reset_index()
        own = pd.Series(there.sum(axis=0), index=held.columns)
        pairs = pairs[
            (pairs["product_category"] != pairs["other_category"]) & (pairs["baskets_with_both"] >= AFFINITY_MINIMUM)
        ]
        pairs = pairs.assign(
            baskets_with_category=pairs["product_category"].map(own),
            baskets_with_other=pairs["other_category"].map(own),
            baskets_in_all=everything,
        )
        each = pairs["baskets_with_category"] * pairs["baskets_with_other"]
        pairs = pairs.assign(
            support=pairs["baskets_with_both"] / everything,
            confidence=pairs["baskets_with_both"] / pairs["baskets_with_category"],
            lift=pairs["baskets_with_both"] * everything / each,
        )
        # Lifts that are equal as fractions must not differ by how they are rounded.
        pairs = pairs.assign(exact=pairs["lift"].round(9)).sort_values(
            ["product_category", "exact", "baskets_with_both", "other_category"], ascending=[True, False, False, True]
        )
        pairs = pairs.assign(rank_by_lift=pairs.groupby("product_category").cumcount() + 1)
        kept = pairs[pairs["rank_by_lift"] <= AFFINITY_PARTNERS]
        return kept.drop(columns="exact").set_index(["product_category", "other_category"])

    @cached_property
    def forecast_features(self) -> Frame:
        daily = self.agg_daily_department_sales["sales_value"].unstack("department")
        last = self.last_complete_day
        daily = daily[daily.index <= last]
        days = [*(day for day in self.calendar if day <= last), last + timedelta(days=1)]
        promotions = self._promotions()
        parts = []
        for department in daily.columns:
            begun = daily[department].first_valid_index()
            sales = daily[department].reindex([day for day in days if day >= begun]).astype("float64")
            sales = sales.where(sales.index > last, sales.fillna(0))
            told = sales.shift(1)
            weeks = [sales.shift(shift) for shift in (7, 14, 21, 28)]
            part = pd.DataFrame(
                {
                    "department": department,
                    "sales_value": sales,
                    "sales_lag_1": told,
                    "sales_lag_7": weeks[0],
                    "sales_lag_28": weeks[3],
                    "sales_lag_364": sales.shift(364),
                    "sales_mean_7": told.rolling(7).mean(),
                    "sales_mean_28": told.rolling(28).mean(),
                    "sales_deviation_28": told.rolling(28).std(),
                    "sales_same_weekday_mean_4": sum(weeks) / 4,
                    "days_since_first_sale": [(day - begun).days for day in sales.index],
                    "campaigns_running": [
                        int(((self.campaigns["starts_on"] <= day) & (self.campaigns["ends_on"] >= day)).sum())
                        for day in sales.index
                    ],
                    "promotions_on_display": [
                        promotions["display"].get((department, sunday(day)), 0) for day in sales.index
                    ],
                    "promotions_in_mailer": [
                        promotions["mailer"].get((department, sunday(day)), 0) for day in sales.index
                    ],
                }
            ).rename_axis("date_day")
            parts.append(part[part.index > begun])
        return pd.concat(parts).reset_index().set_index(["department", "date_day"])

    def _promotions(self) -> dict[str, dict[Any, int]]:
        """Placements by department and week, on display and in the mailer."""
        if self._stores == ():
            return {"display": {}, "mailer": {}}
        filters = None if self._stores is None else [("store_id", "in", self._stores)]
        placed = pd.read_parquet(path_of("promotions"), filters=filters)
        products = self.products
        if self._households is not None:  # the slice knows the products that were sold, and two more
            products = products[products["product_id"].isin(self.known_products())]
        placed = placed.merge(products, on="product_id", how="left")
        placed = placed.assign(
            department=placed["department"].fillna("Unknown"),
            week=[date(2017, 1, 1) + timedelta(weeks=week - 1) for week in placed["week"]],
        )
        on, by = placed["display_location"] != "0", placed["mailer_location"] != "0"
        keys = ["department", "week"]
        return {
            "display": placed[on].groupby(keys).size().to_dict(),
            "mailer": placed[by].groupby(keys).size().to_dict(),
        }

    def known_products(self) -> set[int]:
        from demo.day_two import DELETED_PRODUCT, RENAMED_PRODUCT

        return {*self.lines["product_id"].unique(), DELETED_PRODUCT, RENAMED_PRODUCT}


@cache
def zone_of(store: int) -> str:
    """The time zone of a store's state."""
    zones = pd.read_csv(ROOT / "dbt_project/seeds/regions.csv").set_index("region")["time_zone"]
    return str(zones[place_of_store(store).region])


def local_days(moments: Series, stores: Series) -> Series:
    """The day in the store's time zone of each moment in UTC."""
    zones = stores.astype(int).map(zone_of)
    days = pd.Series(index=moments.index, dtype=object)
    for zone in zones.unique():
        here = zones == zone
        days[here] = moments[here].dt.tz_localize("UTC").dt.tz_convert(zone).dt.date
    return days


def sunday(day: date) -> date:
    """The first day of the day's week."""
    return day - timedelta(days=(day.weekday() + 1) % 7)


TABLES = (
    "fct_baskets", "agg_daily_sales", "agg_weekly_sales", "agg_daily_department_sales", "agg_fiscal_month_sales",
    "customer_360", "agg_campaign_lift", "agg_product_affinity", "forecast_features",
)  # fmt: skip
# Columns of US dollars, which are cents here.
MONEY = {
    "sales_value", "shelf_value", "coupon_discount", "shop_discount", "average_basket", "expected_sales",
    "targeted_before", "targeted_during", "untargeted_before", "untargeted_during", "lift_per_household",
    "standard_error", "incremental_sales", "pre_trend_per_household", "pre_trend_error",
}  # fmt: skip


def is_money(column: str) -> bool:
    return column in MONEY or (column.startswith("sales_") and column not in {"sales_rank", "sales_percentile"})


def differences(expected: Frame, built: Frame) -> tuple[int, list[str]]:
    """How many values were compared, and where the built table differs from the expected one.

    Counts, texts and days must be equal; money and shares may differ by what rounding to the column's places makes:
    half of the last place.
    """
    built = built.set_index(list(expected.index.names))
    if set(expected.index) != set(built.index):
        only = set(expected.index) ^ set(built.index)
        return 0, [f"{len(only)} keys are in one table only, such as {sorted(map(str, only))[:3]}"]
    built = built.reindex(expected.index)
    compared, found = 0, []
    for column in expected.columns:
        left, right = expected[column], built[column]
        compared += len(left)
        if pd.api.types.is_numeric_dtype(left) and not pd.api.types.is_bool_dtype(left):
            numbers = pd.to_numeric(right.astype(object), errors="raise").astype("float64")
            scale = 100.0 if is_money(column) else 1.0
            places = max(
                (-value.as_tuple().exponent for value in right.dropna() if hasattr(value, "as_tuple")), default=0
            )
            margin = 0.5 * 10.0**-places + 1e-9
            wrong = ~(
                (left.astype("float64") / scale - numbers).abs().le(margin * 1.0001) | (left.isna() & numbers.isna())
            )
        else:
            wrong = ~((left == right) | (left.isna() & right.isna()))
        if wrong.any():
            at = wrong.idxmax()
            found.append(f"{column}: {int(wrong.sum())} differ, such as {at}: {left[at]} expected, {right[at]} built")
    return compared, found
