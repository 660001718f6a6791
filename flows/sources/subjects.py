"""Whose data the platform holds: what `medallion erase` knows of."""

from flows.declare.subject import Subject

SUBJECTS = (
    Subject(
        "household",
        key="household_id",
        home="shop.households",
        aliases=("household_key",),
        linked=("basket_id", "basket_item_id"),
        identifying=("full_name", "email", "phone"),
    ),
)
