"""Data subjects of the platform, for `medallion erase`."""

from flows.declare import KeyPath, Subject

SUBJECTS = (
    Subject(
        "household",
        key="household_id",
        home="shop.households",
        aliases=("household_key",),
        linked=("basket_id", "basket_item_id"),
        identifying=("full_name", "email", "phone"),
        paths=(
            KeyPath("marketing.campaign_targets", "household.id"),
            KeyPath("marketing.redemptions", "household.id"),
        ),
    ),
)
