"""The shop's operational database: households, products, stores, baskets."""

from flows.declare import Append, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table

shop = Database(
    "shop",
    connection="shop",
    schedule="15 * * * *",
    description="The shop's operational PostgreSQL database.",
    tables=[
        Table(
            "households",
            key="household_id",
            cursor=Timestamp("updated_at", lag="10 min"),
            load=Merge(),
            deletes=True,
            description="One row per household with a loyalty card.",
        ),
        Table(
            "household_events",
            key="event_id",
            cursor=Sequence("event_id"),
            load=Append(),
            description="One row per registration or change of a household, written by a trigger.",
        ),
        Table("stores", key="store_id", load=Replace(), description="One row per store."),
        Table("products", key="product_id", load=Replace(), description="One row per product on sale."),
        Table(
            "baskets",
            key="basket_id",
            cursor=Timestamp("updated_at", lag="10 min"),
            load=Merge(),
            deletes=True,
            rules=(Rule("sold_at_possible", "sold_at >= '2000-01-01' and sold_at < now() + interval '1 day'"),),
            max_quarantined=0.01,
            description="One row per visit to a checkout.",
        ),
        Table(
            "basket_items",
            key="basket_item_id",
            cursor=Timestamp("updated_at", lag="10 min"),
            load=Merge(),
            deletes=True,
            rules=(Rule("quantity_not_negative", "quantity >= 0"),),
            max_quarantined=0.01,
            description="One row per product in a basket.",
        ),
    ],
)
